"""Builds the service of the feature `package`."""

from __future__ import annotations

from portico_server.api.services import BuildServices
from portico_server.features.agents.app import AgentApps
from portico_server.features.package.packages import AppPackages


def build(services: BuildServices) -> AppPackages:
    """Return the service of the feature."""
    return AppPackages(
        services.registry,
        services.models,
        services.stores,
        services.added,
        services.mcp,
        services.prompts,
        services.apps,
        services.features.get("agents", AgentApps),
        services.skills,
        services.settings,
    )
