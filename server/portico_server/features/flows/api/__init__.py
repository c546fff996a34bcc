"""HTTP API of flows."""
