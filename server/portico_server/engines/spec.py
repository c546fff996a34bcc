"""What an operator says about a model, and what the daemon says about it in return."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from portico_server.core.errors import InvalidRequest

State: TypeAlias = Literal["cold", "downloading", "loading", "ready", "failed"]
Task: TypeAlias = Literal["chat", "embedding", "rerank"]

TASKS = ("auto", "chat", "embedding", "rerank")

NOT_DEFAULTS = frozenset({"model", "messages", "prompt", "input", "stream", "stream_options"})
"""Fields of a request that make no sense as a default for all calls."""

_NAME = re.compile(r"[^\s/?#%\\\x00-\x1f][^\s?#%\\\x00-\x1f]{0,199}")
_RESERVED = ("store/", "tool/")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as configuration, the command line or the API names it.

    ``engine`` and ``task`` may be ``auto``. ``parameters`` are the engine's own (context_length, slots,
    threads …). ``api_key`` is the key of a remote server and is never shown.

    ``keep_alive``: seconds after its last call at which it is unloaded, 0 for never, ``None`` for the daemon's
    setting. ``pin``: it leaves memory for no other model. ``memory_mb``: what to count for it, instead of an
    estimate. ``queue_limit``: calls that may wait for it or be answered at the same time, ``None`` for the daemon's
    setting. ``defaults``: options such as ``temperature`` for calls that do not set them.
    """

    name: str
    source: str
    engine: str = "auto"
    task: str = "auto"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    aliases: tuple[str, ...] = ()
    description: str = ""
    keep_alive: float | None = None
    pin: bool = False
    memory_mb: int | None = None
    queue_limit: int | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, where in ((self.name, "name"), *((alias, "aliases") for alias in self.aliases)):
            check_name(name, where)
        if self.task not in TASKS:
            raise InvalidRequest(
                f"The task of the model '{self.name}' is '{self.task}', but must be one of "
                f"{', '.join(TASKS)}.",
                param="task",
            )
        if not self.source:
            raise InvalidRequest(f"The model '{self.name}' needs a source.", param="source")
        for field_name, number in (
            ("keep_alive", self.keep_alive),
            ("memory_mb", self.memory_mb),
            ("queue_limit", self.queue_limit),
        ):
            if number is not None and number < 0:
                raise InvalidRequest(
                    f"'{field_name}' of the model '{self.name}' must be 0 or more, not {number}.",
                    param=field_name,
                )
        for key in self.defaults:
            if key in NOT_DEFAULTS:
                raise InvalidRequest(
                    f"'{key}' cannot be a default of the model '{self.name}': every call has its own. Defaults "
                    "are options such as temperature, top_p, max_tokens or stop.",
                    param=f"defaults.{key}",
                )

    def to_json(self) -> dict[str, Any]:
        """As kept in the database; with the key."""
        return {
            **asdict(self),
            "parameters": dict(self.parameters),
            "aliases": list(self.aliases),
            "defaults": dict(self.defaults),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ModelSpec:
        """Read back what `to_json` wrote, ignoring what this version does not know."""
        known = {name: value[name] for name in cls.__dataclass_fields__ if name in value}
        return cls(**{**known, "aliases": tuple(known.get("aliases") or ())})


def check_name(name: str, param: str) -> None:
    """Raise `InvalidRequest` unless ``name`` can name a model in a URL and on a command line."""
    if not _NAME.fullmatch(name) or name.startswith(_RESERVED):
        raise InvalidRequest(
            f"'{name[:80]}' cannot name a model: use 1 to 200 characters without white space, '?', '#', '%' "
            f"or '\\', "
            "not beginning with 'store/', 'tool/' or '/'.",
            param=param,
        )


@dataclass(frozen=True, slots=True)
class DeploymentInfo:
    """A model as the daemon shows it.

    Times in seconds since 1970, ``memory_bytes`` is what its process holds. ``calls`` wait for it or are being
    answered; ``starts`` and ``crashes`` of its process are counted since the daemon started.
    """

    name: str
    source: str
    engine: str
    task: Task
    state: State
    pid: int | None = None
    memory_bytes: int | None = None
    error: str | None = None
    aliases: tuple[str, ...] = ()
    loaded_at: float | None = None
    last_used_at: float | None = None
    context_length: int | None = None
    dimensions: int | None = None
    owner: str | None = None
    description: str = ""
    pin: bool = False
    keep_alive: float | None = None
    calls: int = 0
    starts: int = 0
    crashes: int = 0

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "aliases": list(self.aliases)}
