"""Wraps a servable in guards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from portico_server.core.attached_files import ReadsFiles
from portico_server.core.servable import Servable, relays
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.guard import EVERYTHING, ContentGuard
from portico_server.features.guards.model import GuardedModel
from portico_server.features.guards.servable import GuardedServable


def guarded(
    servable: Servable,
    guards: Iterable[ContentGuard],
    aliases: Mapping[str, str],
    files: ReadsFiles | None = None,
) -> Servable:
    """Return the servable wrapped in its guards, or the servable itself if it has none.

    ``files`` reads files attached to a question, so that guards and the model see their text.
    """
    key = servable.card.key
    # A guard on either variant of a split applies to both. A guard on an alias applies to the servable that
    # the alias refers to.
    names = frozenset({key}) | getattr(servable, "names", frozenset())
    around = tuple(
        guard
        for guard in guards
        if EVERYTHING in guard.on
        or not names.isdisjoint(guard.on)
        or any(aliases.get(name) in names for name in guard.on)
    )
    if not around:
        return servable
    if relays(servable):
        return GuardedModel(servable, Guards(around), files)  # type: ignore[arg-type]  # it is a servable too
    return GuardedServable(servable, Guards(around), files)
