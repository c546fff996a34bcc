"""Deployed apps: their versions, limits and canaries, whatever their kind. They access everything by name."""
