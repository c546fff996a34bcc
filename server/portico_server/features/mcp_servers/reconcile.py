"""Applies the MCP servers of a configuration."""

from __future__ import annotations

from typing import Protocol

from portico_server.features.mcp_servers.host import McpHost
from portico_server.features.tools.sources.reconcile import HeldReconciler


class ServerServices(Protocol):
    """The services of the daemon that the reconciler of MCP servers uses."""

    @property
    def mcp(self) -> McpHost: ...


def build(services: ServerServices) -> HeldReconciler:
    """Return the reconciler of the key ``mcp``."""
    return HeldReconciler("mcp", lambda: services.mcp)
