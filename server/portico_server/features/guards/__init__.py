"""Inspects incoming and outgoing texts with guards, whose detectors need no model."""
