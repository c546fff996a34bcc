"""Protocol adapters: thin translators between a wire format and Servables and Runs, without behaviour of their own.

This package may import all layers below it. `gateway` and its imports stay light, so that `/health` answers
immediately. The protocol adapters and everything else that needs FastAPI or MCP are imported after the daemon starts
to serve requests.
"""
