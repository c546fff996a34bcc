"""Environments of heavy engines: their recipes, their builds, and what is installed."""
