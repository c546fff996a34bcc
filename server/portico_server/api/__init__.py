"""Protocol adapters: thin translators between a wire format and Servables and Runs, without behaviour of their own.

This package may import everything below it. `gateway` and its imports stay light, so that `/health` answers
immediately; `protocol adapters` and everything that needs FastAPI or MCP are imported once the daemon serves requests.
"""
