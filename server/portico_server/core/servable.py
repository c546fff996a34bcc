"""Everything with a name is a Servable: a model, a store, a tool, an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Request, Result

Kind: TypeAlias = Literal["model", "store", "tool", "app"]


FUSION_WEIGHT = 0.2
"""What the vectors of an embedding model weigh beside the words if its card has no label ``fusion_weight``; it hurt on
no set measured.
"""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a Servable without calling it.

    ``capabilities`` are words such as ``chat``, ``completions``, ``embeddings``, ``search``, ``tool``.
    ``owner`` is the id of the key whose private name it has; ``None``: the name is shared, seen by every key. ``id`` is
    what it is reached by under any name, if it has one.
    """

    name: str
    kind: Kind
    title: str = ""
    description: str = ""
    capabilities: frozenset[str] = frozenset()
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    owner: str | None = None
    created: int = 0
    """Seconds since 1970."""
    id: str = ""

    @property
    def key(self) -> str:
        """Its name in the registry: models and apps by their bare name, ``store/NAME``, ``tool/NAME``."""
        return f"{self.kind}/{self.name}" if self.kind in ("store", "tool") else self.name

    @property
    def scope(self) -> str:
        """The scope a caller needs to call it."""
        match self.kind:
            case "model":
                return "chat"
            case "store":
                return f"stores:{self.name}:read"
            case "tool":
                return f"tools:{self.name}:call"
            case "app":
                return f"apps:{self.name}:call"


class Servable(Protocol):
    """One protocol for all of them."""

    @property
    def card(self) -> Card: ...

    async def call(self, request: Request, context: Context) -> Result:
        """Do the work. Raises `InvalidRequest` for a request type it does not take, `PorticoError` otherwise."""


@runtime_checkable
class Relays(Protocol):
    """Optional, the hot path of a model: OpenAI JSON in, OpenAI bytes out."""

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """Returns once the first byte is known, so that an error before it is a real HTTP status."""


@runtime_checkable
class Splits(Servable, Protocol):
    """Optional: one of two things answers each call. ``names`` are what guards know them by."""

    names: frozenset[str]

    def one(self, caller: Principal) -> Servable:
        """One of them, for all calls of a run that continues for days."""

    def side(self, target: str) -> Servable | None:
        """The one that ``target`` names, while calls are split."""


@cache
def _splits(kind: type[Servable]) -> bool:
    return hasattr(kind, "side")


def splits(servable: Servable) -> TypeGuard[Splits]:
    """Whether one of two things answers each call."""
    return _splits(type(servable))


@cache
def _has_hot_path(kind: type[Servable]) -> bool:
    return hasattr(kind, "relay")


def relays(servable: Servable) -> TypeGuard[Relays]:
    """Whether a Servable has the hot path. `isinstance` with the protocol says the same, in 25 microseconds."""
    return _has_hot_path(type(servable))


def noun_and_name(key: str) -> tuple[str, str]:
    """What an error calls a key: a store, a tool, or anything that answers as a model does; and its name."""
    kind, _, name = key.rpartition("/")
    return (kind, name) if kind in ("store", "tool") else ("model", key)
