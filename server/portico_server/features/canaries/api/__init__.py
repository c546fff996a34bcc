"""HTTP API of canaries."""
