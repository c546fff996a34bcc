"""The MCP protocol adapter: apps, tools and stores as tools, files of stores as resources, over streamable HTTP at
``/mcp``.

It serves the session-based revisions of the protocol and the revision 2026-07-28. The gateway checks key, Host and
Origin first. Importing the ``mcp`` package takes most of a second, so import this package after the daemon starts to
serve.
"""

from portico_server.features.mcp.adapter import McpAdapter, build

__all__ = ["McpAdapter", "build"]
