"""HTTP API of packages of apps."""
