"""HTTP API of backups."""
