"""The daemon as an OAuth authorization server for its own MCP endpoints. The modules that the routes import stay
light; `provider` imports the MCP package.
"""
