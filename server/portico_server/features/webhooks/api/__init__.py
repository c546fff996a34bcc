"""HTTP APIs of webhooks."""
