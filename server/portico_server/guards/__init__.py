"""Inspects incoming and outgoing texts with guards and detectors that need no model. Imports only the core."""
