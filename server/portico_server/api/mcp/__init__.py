"""The MCP protocol adapter: apps, tools and stores as tools, the files of stores as resources, over streamable HTTP at
``/mcp``.

Serves the session-based revisions of the protocol and 2026-07-28. The gateway has checked key, Host and Origin
before. Imports the ``mcp`` package, which takes most of a second: import this one after the daemon serves.
"""

from portico_server.api.mcp.adapter import McpAdapter, build

__all__ = ["McpAdapter", "build"]
