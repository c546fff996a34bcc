"""Separate Python environments for heavy engines: their recipes, their builds, and their state."""
