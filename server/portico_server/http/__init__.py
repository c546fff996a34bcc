"""HTTP at the protocol level: the daemon's server and its connections, and client sessions for other servers.

May import ``core`` and the settings. `client` imports aiohttp: import it only where a request needs it.
"""
