"""HTTP on the wire: the daemon's server with its connections, and the sessions that reach servers of others.

May import ``core`` and the settings. `client` imports aiohttp: import it where a request needs it.
"""
