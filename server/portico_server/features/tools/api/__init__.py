"""HTTP API of tools, their sources and their workers."""
