"""Environments of heavy engines: which there are, what goes into them, and what is in their places."""
