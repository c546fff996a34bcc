"""Name bindings of a durable run: its names keep meaning the objects that they meant when the run began.

A run that continues after a crash, in the background or for days, looks up the same names again. A name is bound when
the run begins, or on first use if a called object names it. From then on, it means only that object.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

from portico_server.core.errors import Conflict
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card

Keep = Callable[[Mapping[str, str]], Awaitable[None]]

_ID: Final = "id:"
_TARGET: Final = "target:"


class HasId(Protocol):
    """An object with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


class BoundNames:
    """Maps names to meanings (see `binding_of`). ``keep`` stores new bindings while the run is executing."""

    __slots__ = ("_keep", "known")

    def __init__(self, known_names: Mapping[str, str] | None = None, keep: Keep | None = None) -> None:
        self.known = dict(known_names or {})
        self._keep = keep

    @property
    def is_executing(self) -> bool:
        """Return whether the run is executing, and not only being started."""
        return self._keep is not None

    async def bind(self, key: str, meaning: str) -> None:
        """Bind a name to this meaning. The binding is stored before the name is used."""
        if self.known.setdefault(key, meaning) == meaning and self._keep is not None:
            await self._keep({key: meaning})


BOUND: ContextVar[BoundNames | None] = ContextVar("bound", default=None)
"""The bound names of the durable run that this task belongs to."""


def is_executing() -> bool:
    """Return whether this task belongs to a durable run that is executing."""
    names = BOUND.get()
    return names is not None and names.is_executing


def binding(known_names: Mapping[str, str] | None = None) -> AbstractContextManager[BoundNames]:
    """Bind the names that are looked up within the block, for a run that stores these bindings."""
    return ScopedValue(BOUND, BoundNames(known_names))


def binding_of(card: Card) -> str:
    """Return the meaning of a name: an id or, for an object without an id, its kind and owner.

    Therefore an operator may replace a model, and an owner may serve a function again, but another user may not.
    """
    known_as = card.id or (card.name if card.kind == "model" and card.owner is not None else "")
    return f"{_ID}{known_as}" if known_as else f"{card.kind}:{card.owner or ''}"


def bound_id(key: str) -> str | None:
    """Return the id that a name is bound to in this task's durable run, if it is bound."""
    bound = BOUND.get()
    return None if bound is None else id_of(bound.known.get(key, ""))


async def find_meant(key: str, ref: str, find: Callable[[str], Awaitable[T | None]]) -> T | None:
    """Return what ``find`` returns for a name or an id; if this task's durable run has bound the name, use the bound
    id.

    A name that is not yet bound is bound to the result. ``key`` is the run's key for the name.
    """
    row = await find(bound_id(key) or ref)
    bound = BOUND.get()
    if bound is not None and row is not None:
        await bound.bind(key, f"{_ID}{row.id}")
    return row


def to_target(target: str) -> str:
    """Return the meaning of an alias with a fixed target: a side of a split, or a version of an app."""
    return f"{_TARGET}{target}"


def target_in(meaning: str) -> str | None:
    """Return the target in a meaning, if it contains a target."""
    return meaning.removeprefix(_TARGET) if meaning.startswith(_TARGET) else None


def id_of(meaning: str) -> str | None:
    """Return the id in a meaning, if it contains an id."""
    return meaning.removeprefix(_ID) if meaning.startswith(_ID) else None


def owner_in(meaning: str) -> str | None:
    """Return the owner in a meaning without an id; ``None`` means shared."""
    return meaning.partition(":")[2] or None


def name_changed_error(key: str, meaning: str) -> Conflict:
    """Return the error for a run in which a name means an object that no longer exists."""
    kind, _, name = key.rpartition("/")
    known_as = id_of(meaning) or target_in(meaning)
    was = (
        f"the object that this run began with ({known_as})"
        if known_as
        else "the object that this run began with"
    )
    return Conflict(
        f"The {kind or 'model or app'} '{name}' is no longer {was}, which was removed. The run does not call "
        "the object that now has this name. Start a new run.",
        code="name_changed",
        param=kind or "model",
    )
