"""Everything with a name is a Servable: a model, a store, a tool or an app."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from functools import cache
from typing import Any, Final, Literal, Protocol, TypeAlias, TypeGuard, runtime_checkable

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.names import callable_name
from portico_server.core.principal import Principal
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Request, Result

Kind: TypeAlias = Literal["model", "store", "tool", "app"]


FUSION_WEIGHT = 0.2
"""Default weight of an embedding model's vectors relative to the words, if its card has no label ``fusion_weight``. On
none of the measured sets did this weight lower the results.
"""


@dataclass(frozen=True, slots=True)
class Card:
    """The properties of a Servable that are known without calling it.

    ``capabilities`` are words such as ``chat``, ``completions``, ``embeddings``, ``search``, ``tool``. ``owner`` is
    the id of the key that has this private name; ``None`` means that the name is shared and every key can see it.
    ``id``, if set, identifies the object under any name. ``is_memory`` is set for a store's facts: a caller searches
    only its own facts, so it needs no scope.
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
    """Creation time, in seconds since 1970."""
    id: str = ""
    is_memory: bool = False
    original_name: str = ""
    """The name of a tool before it was changed to one that models can call; empty if it was not changed."""
    has_guessed_task: bool = False
    """True for a model whose capabilities follow from its name, because neither its files nor its owner say more."""

    @property
    def is_composed(self) -> bool:
        """Return whether a result can consist of what the caller wrote, like the answer of a model or the
        output of code.
        """
        if self.kind == "tool":
            return self.labels.get("computed") is True or self.labels.get("composed") is True
        return self.kind != "store"

    @property
    def key(self) -> str:
        """The key in the registry: the bare name of a model or an app, ``store/NAME``, ``memory/NAME`` or
        ``tool/NAME``.
        """
        if self.is_memory:
            return f"memory/{self.name}"
        return f"{self.kind}/{self.name}" if self.kind in ("store", "tool") else self.name

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes of which a caller needs one to call the Servable; empty if every caller may call it."""
        if self.is_memory:
            return ()
        match self.kind:
            case "model":
                return ("chat",)
            case "store":
                return (f"stores:{self.name}:read", f"stores:{self.id}:read")
            case "tool":
                # Another tool can have the original name, if it is one that models can call.
                is_original = self.original_name and self.name == callable_name(self.original_name)
                names = (self.name, self.original_name) if is_original else (self.name,)
                return tuple(f"tools:{name}:call" for name in names)
            case "app":
                return (f"apps:{self.name}:call",)


SMALL_MODEL_SIZE: Final = 1_000_000_000
"""Number of parameters below which a model is too small for long prompts, and often repeats itself without end."""


def is_small(parameters: int | None) -> bool:
    """Return whether a model with this number of parameters is small; false if the number is unknown."""
    return 0 < (parameters or 0) < SMALL_MODEL_SIZE


_TASKS: Final = {"completions": "chat", "embeddings": "embedding", "image_edits": "image"}
"""Maps capabilities to the tasks of models, where they differ."""


def task_advice(card: Card, capability: str) -> str:
    """Return a sentence on how to correct the guessed task of a model that lacks a capability. If the task was not
    guessed, return "".
    """
    if not card.has_guessed_task:
        return ""
    task = _TASKS.get(capability, capability)
    return (
        f" Portico guessed the task of '{card.name}' from its name; if it is wrong, set 'task: {task}' for this model "
        "in the configuration."
    )


class Servable(Protocol):
    """The protocol of all named objects."""

    @property
    def card(self) -> Card: ...

    async def call(self, request: Request, context: Context) -> Result:
        """Do the work. Raises `InvalidRequest` for an unsupported request type, and `PorticoError` for other
        failures.
        """


@runtime_checkable
class Relays(Protocol):
    """Optional protocol for the hot path of a model: OpenAI JSON in, OpenAI bytes out."""

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """Relay a request; return when the first byte is known, so that an earlier error can set the HTTP status."""


@runtime_checkable
class Surrounds(Protocol):
    """Optional protocol for a model around another one, which it inspects, such as a model with guards."""

    inner: Relays

    def over(self, inner: Relays) -> Servable:
        """Return a model that surrounds ``inner`` in the same way."""


@runtime_checkable
class Splits(Servable, Protocol):
    """Optional protocol for a Servable whose calls go to one of two targets. Guards use ``names`` to look up both
    targets.
    """

    names: frozenset[str]

    def choose_side(self, caller: Principal) -> Servable:
        """Return one side for all calls of a run, which may continue for days."""

    def side(self, target: str) -> Servable | None:
        """Return the side with the target ``target``, or ``None`` if calls are not split to it."""


@cache
def _splits(kind: type[Servable]) -> bool:
    return hasattr(kind, "side")


def splits(servable: Servable) -> TypeGuard[Splits]:
    """Return whether the calls of a Servable are split between two targets."""
    return _splits(type(servable))


@cache
def _has_hot_path(kind: type[Servable]) -> bool:
    return hasattr(kind, "relay")


def relays(servable: Servable) -> TypeGuard[Relays]:
    """Return whether a Servable can relay. `isinstance` with the protocol gives the same result, but takes 25
    microseconds.
    """
    return _has_hot_path(type(servable))


def noun_and_name(key: str) -> tuple[str, str]:
    """Return the noun that errors use for a key (store, tool or, for anything else, model), and the name in the key."""
    kind, _, name = key.rpartition("/")
    if kind == "memory":
        return "store", name
    return (kind, name) if kind in ("store", "tool") else ("model", key)
