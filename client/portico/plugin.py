"""The interface for engines, chunkers, tools and providers in separate packages: version 1 of the plugin interface.

``docs/plugins.md`` shows an example of each. Everything else in the daemon can change between releases. A name is
imported on first use, because some processes load chunkers without the engines and without the web framework.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portico.wire import Usage
    from portico_server.core.context import Context
    from portico_server.core.errors import InvalidRequest
    from portico_server.core.registry import Registry
    from portico_server.core.relay import AdapterScale, Relay, RelayResponse
    from portico_server.core.request import ToolResult
    from portico_server.features.chunkers.chunkers import ChunkingStrategy
    from portico_server.features.chunkers.document import Part
    from portico_server.features.chunkers.spans import carve, cut
    from portico_server.features.chunkers.units import split_lines
    from portico_server.features.gpu_engines.external.engine import GpuServer
    from portico_server.features.gpu_engines.external.server import ServerProgram
    from portico_server.features.gpu_engines.external.server_options import ServerOption
    from portico_server.features.tools.tool import Tool
    from portico_server.models.engines.openai_client.quirks import Quirks
    from portico_server.models.engines.peft_adapters import scale_adapter
    from portico_server.models.engines.remote.providers import ModelProvider
    from portico_server.models.protocol import (
        EngineClient,
        GpuTraits,
        LaunchContext,
        ModelDescription,
        RunningEngine,
    )
    from portico_server.models.spec import ModelSpec

_HOME = {
    "AdapterScale": "portico_server.core.relay",
    "ChunkingStrategy": "portico_server.features.chunkers.chunkers",
    "Context": "portico_server.core.context",
    "EngineClient": "portico_server.models.protocol",
    "GpuServer": "portico_server.features.gpu_engines.external.engine",
    "GpuTraits": "portico_server.models.protocol",
    "InvalidRequest": "portico_server.core.errors",
    "LaunchContext": "portico_server.models.protocol",
    "ModelDescription": "portico_server.models.protocol",
    "ModelProvider": "portico_server.models.engines.remote.providers",
    "ModelSpec": "portico_server.models.spec",
    "Part": "portico_server.features.chunkers.document",
    "Quirks": "portico_server.models.engines.openai_client.quirks",
    "Registry": "portico_server.core.registry",
    "Relay": "portico_server.core.relay",
    "RelayResponse": "portico_server.core.relay",
    "RunningEngine": "portico_server.models.protocol",
    "ServerOption": "portico_server.features.gpu_engines.external.server_options",
    "ServerProgram": "portico_server.features.gpu_engines.external.server",
    "Tool": "portico_server.features.tools.tool",
    "ToolResult": "portico_server.core.request",
    "Usage": "portico.wire",
    "carve": "portico_server.features.chunkers.spans",
    "cut": "portico_server.features.chunkers.spans",
    "scale_adapter": "portico_server.models.engines.peft_adapters",
    "split_lines": "portico_server.features.chunkers.units",
}

__all__ = [
    "AdapterScale",
    "ChunkingStrategy",
    "Context",
    "EngineClient",
    "GpuServer",
    "GpuTraits",
    "InvalidRequest",
    "LaunchContext",
    "ModelDescription",
    "ModelProvider",
    "ModelSpec",
    "Part",
    "Quirks",
    "Registry",
    "Relay",
    "RelayResponse",
    "RunningEngine",
    "ServerOption",
    "ServerProgram",
    "Tool",
    "ToolResult",
    "Usage",
    "carve",
    "cut",
    "scale_adapter",
    "split_lines",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"portico.plugin has no name '{name}'")
    member = globals()[name] = getattr(import_module(_HOME[name]), name)
    return member
