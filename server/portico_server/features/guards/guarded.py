"""Wraps a servable in guards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from portico_server.core.attached_files import ReadsFiles
from portico_server.core.servable import Card, Servable, relays
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.guard import EVERYTHING, ContentGuard
from portico_server.features.guards.model import GuardedModel
from portico_server.features.guards.servable import GuardedServable


def guards_of(
    card: Card,
    guards: Iterable[ContentGuard],
    aliases: Mapping[str, str],
    split_names: frozenset[str] = frozenset(),
) -> tuple[ContentGuard, ...]:
    """Return the guards that name an object: by its name, its id, an alias, the name that a tool had before, or a
    model from which it was trained.

    A guard on either variant of a split, which has ``split_names``, applies to both.
    """
    names = {*names_of(card), *split_names}
    return tuple(
        guard
        for guard in guards
        if EVERYTHING in guard.on
        or not names.isdisjoint(guard.on)
        or any(aliases.get(name) in names for name in guard.on)
    )


def names_of(card: Card) -> Iterator[str]:
    """Yield the names under which a guard can name an object, other than aliases."""
    yield card.key
    kind = f"{card.kind}/" if card.kind in ("store", "tool") else ""
    yield from (f"{kind}{name}" for name in (card.id, card.original_name) if name)
    yield from _bases(card)


def _bases(card: Card) -> Iterator[str]:
    """Yield the models from which a model was trained. A trained model has the name of its base in its own name."""
    base = str(card.labels.get("base", "")) if card.kind == "model" else ""
    name = card.name if card.kind == "model" else ""
    while base or name.startswith("ft:"):
        base, name = "", base or name.removeprefix("ft:").rpartition(":portico:")[0]
        if name:
            yield name


def guarded(
    servable: Servable,
    guards: Iterable[ContentGuard],
    aliases: Mapping[str, str],
    files: ReadsFiles | None = None,
) -> Servable:
    """Return the servable wrapped in its guards, or the servable itself if it has none or is wrapped already.

    ``files`` reads files attached to a question, so that guards and the model see their text.
    """
    if isinstance(servable, GuardedServable):
        return servable
    around = guards_of(servable.card, guards, aliases, getattr(servable, "names", frozenset()))
    if not around:
        return servable
    if relays(servable):
        return GuardedModel(servable, Guards(around), files)  # type: ignore[arg-type]  # it is a servable too
    return GuardedServable(servable, Guards(around), files)
