"""The faces: thin translators between a wire format and Servables and Runs. No behaviour lives here.

May import everything below it. `door` and what it imports stay light, so that `/health` answers at once;
`faces` and everything that needs FastAPI or MCP are imported after the daemon serves.
"""
