"""The MCP protocol adapter: apps, tools and stores as tools, files of stores as resources, over streamable HTTP at
``/mcp``.

Serves the session-based revisions of the protocol and 2026-07-28. The gateway checks key, Host and Origin first.
Importing the ``mcp`` package takes most of a second, so import this package after the daemon serves.
"""

from portico_server.api.mcp.adapter import McpAdapter, build

__all__ = ["McpAdapter", "build"]
