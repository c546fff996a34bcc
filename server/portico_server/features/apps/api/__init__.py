"""HTTP API of apps."""
