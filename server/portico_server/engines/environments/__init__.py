"""Environments of heavy engines: Python packages apart from the daemon's, built by uv, whole or not there."""
