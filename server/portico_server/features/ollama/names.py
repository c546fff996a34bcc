"""Finds models by the names that Ollama's programs send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.api.openai.relay import find
from portico_server.api.services import ApiServices
from portico_server.core.errors import NotFound
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable

LATEST: Final = ":latest"
"""Suffix that Ollama's programs append to a name without a tag."""


def required_name(body: Mapping[str, Any]) -> str:
    """Return the model that a body names as ``model`` or, from older programs, as ``name``. Raises
    `InvalidRequest`.
    """
    name = body.get("model") or body.get("name")
    if not name:
        wrong("model", "is missing; GET /api/tags lists the names")
    return str(name)


def without_tag(services: ApiServices, name: str) -> str:
    """Return a model's name without the suffix `LATEST`, unless a model has it in its name."""
    return name if services.models.deployments.find(name) else name.removesuffix(LATEST)


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
