"""Third-party MCP servers: Portico starts or reaches them, monitors them, and offers their tools as its own.

`spec` describes a server, `offered` its resources and prompts, `connection` manages one server (and imports ``mcp``),
`host` manages all servers.
"""
