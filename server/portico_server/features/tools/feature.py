"""Declares the feature `tools`: tools of the daemon, their sources, and the programs that serve functions."""

from __future__ import annotations

from typing import Final

from portico_server.core.feature import ConfigurationKey, Feature

FEATURE: Final = Feature(
    name="tools",
    routers=(
        "portico_server.features.tools.api.tools:router",
        "portico_server.features.tools.api.tool_sources:router",
        "portico_server.features.tools.api.workers:router",
    ),
    paths=(
        "/api/tools*",
        "/api/tool-sources*",
        "/api/workers*",
    ),
    keys=(
        ConfigurationKey(
            "tools",
            read="portico_server.features.tools.sources.configuration:read",
            example="{name: clock, command: [date]}",
            reconciler="portico_server.features.tools.sources.reconcile:build",
            table="portico_server.db.specs:TOOLS_TABLE",
            is_of_file=True,
        ),
    ),
)
