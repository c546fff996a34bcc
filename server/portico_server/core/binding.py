"""What the names of a durable run mean: the things that they meant when it began, whatever has a name later.

A run that continues after a crash, in the background or for days, asks for the same things again. Each name is bound
when
the run begins or, where a thing that it calls names it, when it is first used; from then on it means that thing alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

from portico_server.core.errors import Conflict
from portico_server.core.servable import Card

Keep = Callable[[Mapping[str, str]], Awaitable[None]]

_ID: Final = "id:"
_TARGET: Final = "target:"


class HasId(Protocol):
    """What is known by an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=HasId)


class BoundNames:
    """Names to meanings (`binding_of`). ``keep`` writes down what is bound while the run is at work."""

    __slots__ = ("_keep", "known")

    def __init__(self, known_names: Mapping[str, str] | None = None, keep: Keep | None = None) -> None:
        self.known = dict(known_names or {})
        self._keep = keep

    async def bind(self, key: str, meaning: str) -> None:
        """Let a name mean this from now on; kept before anything is done with it."""
        if self.known.setdefault(key, meaning) == meaning and self._keep is not None:
            await self._keep({key: meaning})


BOUND: ContextVar[BoundNames | None] = ContextVar("bound", default=None)
"""The names of the durable run in which this task works."""


@contextmanager
def binding(known_names: Mapping[str, str] | None = None) -> Iterator[BoundNames]:
    """Bind what is asked for by name within the block, for a run that is written down there."""
    bound = BoundNames(known_names)
    token = BOUND.set(bound)
    try:
        yield bound
    finally:
        BOUND.reset(token)


def binding_of(card: Card) -> str:
    """What a name means: an id, or where a thing has none, its kind and whose it is. A model may be replaced by its
    operator, and a function served again by its owner; neither by anybody else.
    """
    known_as = card.id or (card.name if card.kind == "model" and card.owner is not None else "")
    return f"{_ID}{known_as}" if known_as else f"{card.kind}:{card.owner or ''}"


def bound_id(key: str) -> str | None:
    """The id of what a name means to the durable run of this task, if that is bound."""
    bound = BOUND.get()
    return None if bound is None else id_of(bound.known.get(key, ""))


async def meant(key: str, ref: str, find: Callable[[str], Awaitable[T | None]]) -> T | None:
    """What ``find`` finds for a name or an id: that which the name is bound to in this task's durable run, to which it
    is bound from now on otherwise. ``key`` is what the run knows the name by.
    """
    row = await find(bound_id(key) or ref)
    bound = BOUND.get()
    if bound is not None and row is not None:
        await bound.bind(key, f"{_ID}{row.id}")
    return row


def to_target(target: str) -> str:
    """The meaning of an alias whose target is one of two, or a version of an app: that target."""
    return f"{_TARGET}{target}"


def target_in(meaning: str) -> str | None:
    """The target in a meaning, if it is one by target."""
    return meaning.removeprefix(_TARGET) if meaning.startswith(_TARGET) else None


def id_of(meaning: str) -> str | None:
    """The id in a meaning, if it is one by id."""
    return meaning.removeprefix(_ID) if meaning.startswith(_ID) else None


def owner_in(meaning: str) -> str | None:
    """Whose the thing is that a meaning without an id stands for; ``None``: shared."""
    return meaning.partition(":")[2] or None


def name_changed_error(key: str, meaning: str) -> Conflict:
    """The error of a run whose name means something that is not there any more."""
    kind, _, name = key.rpartition("/")
    known_as = id_of(meaning) or target_in(meaning)
    was = f"the one that this run began with ({known_as})" if known_as else "what this run began with"
    return Conflict(
        f"The {kind or 'model or app'} '{name}' is not {was} any more: that is gone. What has the name now is not "
        "called in its place. Begin a new run.",
        code="name_changed",
        param=kind or "model",
    )
