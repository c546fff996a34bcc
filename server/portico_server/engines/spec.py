"""What an operator says about a model, and what the daemon says about it in return."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from portico_server.core.errors import InvalidRequest

State: TypeAlias = Literal["cold", "downloading", "loading", "ready", "failed"]
Task: TypeAlias = Literal["chat", "embedding"]

TASKS = ("auto", "chat", "embedding")

_NAME = re.compile(r"[^\s/?#%\\\x00-\x1f][^\s?#%\\\x00-\x1f]{0,199}")
_RESERVED = ("store/", "tool/")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as configuration, the command line or the API names it.

    ``engine`` and ``task`` may be ``auto``. ``parameters`` are the engine's own (context_length, slots,
    threads …). ``api_key`` is the key of a remote server and is never shown.
    """

    name: str
    source: str
    engine: str = "auto"
    task: str = "auto"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    aliases: tuple[str, ...] = ()
    description: str = ""

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

    def to_json(self) -> dict[str, Any]:
        """As kept in the database; with the key."""
        return {**asdict(self), "parameters": dict(self.parameters), "aliases": list(self.aliases)}

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

    Times in seconds since 1970, ``memory_bytes`` is what its process holds.
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

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "aliases": list(self.aliases)}
