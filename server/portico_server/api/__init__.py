"""The protocol adapters: thin translators between a wire format and Servables and Runs. No behaviour lives here.

May import everything below it. `gateway` and what it imports stay light, so that `/health` answers at once;
`protocol adapters` and everything that needs FastAPI or MCP are imported after the daemon serves.
"""
