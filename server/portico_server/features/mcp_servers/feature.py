"""Declares the feature `mcp_servers`: MCP servers whose tools the daemon offers."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="mcp_servers",
    routers=("portico_server.features.mcp_servers.api.mcp_servers:router",),
    paths=("/api/mcp/servers*",),
    keys=(
        ConfigurationKey(
            "mcp",
            read="portico_server.features.mcp_servers.configuration:read",
            example="{name: files, url: 'https://mcp.example.com/mcp'}",
            reconciler="portico_server.features.mcp_servers.reconcile:build",
            table="portico_server.db.specs:MCP_SERVERS_TABLE",
            is_of_file=True,
        ),
    ),
)
