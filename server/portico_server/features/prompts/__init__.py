"""The prompt library: versioned prompts with typed arguments, created in Portico or read from files.

May import `portico_server.db` and `portico_server.core`, but no other app.
"""
