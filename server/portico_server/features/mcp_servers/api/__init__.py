"""HTTP API of MCP servers."""
