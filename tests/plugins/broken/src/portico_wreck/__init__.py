"""Plugins that a daemon refuses, each for a different reason."""

from __future__ import annotations

from portico_server.core.registry import Registry
from portico_server.features.tools.tool import Tool

PORTICO_PLUGIN_API = 1

TEXT = "https://api.example/v1"


class Engine:
    name = "shapeless"


def tool(_registry: Registry) -> Tool:
    return Tool("another", "Another", "Has another name than its entry point.", {"type": "object"})
