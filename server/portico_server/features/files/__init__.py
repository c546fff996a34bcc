"""Uploaded files: their content, quotas and uploads in parts."""
