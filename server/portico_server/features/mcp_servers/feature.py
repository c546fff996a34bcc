"""Declares the feature `mcp_servers`: MCP servers whose tools the daemon offers."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import Feature

FEATURE: Final = Feature(
    name="mcp_servers",
    routers=("portico_server.features.mcp_servers.api.mcp_servers:router",),
    paths=("/api/mcp/servers*",),
)
