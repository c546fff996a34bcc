"""Finds models by the names that Ollama's programs send."""

from __future__ import annotations

from typing import Any, Final

from portico_server.api.openai.relay import find
from portico_server.api.services import ApiServices
from portico_server.core.errors import NotFound
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable

LATEST: Final = ":latest"
"""Suffix that Ollama's programs append to a name without a tag."""


async def named_servable(
    services: ApiServices, name: str, operation: Any, caller: Principal
) -> tuple[str, Servable]:
    """Return the model's name on this daemon, without the suffix `LATEST` if necessary, and the model."""
    try:
        return name, await find(services, name, operation, caller)
    except NotFound:
        if not name.endswith(LATEST):
            raise
        bare = name.removesuffix(LATEST)
        return bare, await find(services, bare, operation, caller)
