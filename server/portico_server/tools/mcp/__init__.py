"""Third-party MCP servers: started or reached, monitored, and their tools offered as ours.

`spec` describes a server, `offered` what it has besides tools, `connection` manages one server (and imports ``mcp``),
`host` manages all of them. Can import runs, db and core.
"""
