"""Other people's MCP servers: started or reached, watched, and their tools offered as ours.

`spec` says what is known of a server, `offered` what it has beside tools, `connection` holds one (and imports ``mcp``),
`host` holds them all. May import runs, db and core.
"""
