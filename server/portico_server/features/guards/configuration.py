"""The guards of a configuration, under the key ``guards``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from portico_server.core.configuration_document import ConfigurationDocument
from portico_server.core.registry import Registry
from portico_server.features.guards.content_guards import ContentGuards
from portico_server.features.guards.guard import ContentGuard, parse_guard
from portico_server.features.guards.guarded import guarded


class GuardedServices(Protocol):
    """The services of the daemon that guards are set around."""

    guards: Sequence[ContentGuard]
    registry: Registry


def read(document: ConfigurationDocument) -> tuple[ContentGuard, ...]:
    """Return the guards of a configuration. Raise `InvalidRequest`."""
    return document.read_each("guards", parse_guard)


def set_guards(services: GuardedServices, guards: Sequence[ContentGuard]) -> None:
    """Set guards around the servables that they name, starting with the next call."""
    services.guards = tuple(guards)
    registry = services.registry
    registry.around = (
        (lambda servable: guarded(servable, guards, registry.aliases.meanings, registry.files))
        if guards
        else None
    )
    registry.content_guard = ContentGuards(guards, registry.aliases.meanings) if guards else None
