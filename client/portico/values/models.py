"""Models, and what they run on."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico._read import json_at, read, read_object
from portico.wire import Usage


@dataclass(frozen=True, slots=True)
class Model:
    """A name that answers at ``/v1``: a model, an alias or a chat app."""

    id: str
    owned_by: str = ""
    created: int = 0
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a model that has several."""

    source: str
    engine: str
    state: str
    pid: int | None = None
    memory_bytes: int | None = None
    error: str | None = None
    calls: int = 0
    starts: int = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on an engine. ``state`` is ``cold``, ``downloading``, ``loading``, ``ready`` or ``failed``."""

    name: str
    source: str
    engine: str
    task: str
    state: str
    pid: int | None = None
    memory_bytes: int | None = None
    error: str | None = None
    aliases: tuple[str, ...] = ()
    loaded_at: float | None = None
    last_used_at: float | None = None
    context_length: int | None = None
    dimensions: int | None = None
    description: str = ""
    pin: bool = False
    keep_alive: float | None = None
    calls: int = 0
    starts: int = 0
    crashes: int = 0
    replicas: tuple[Replica, ...] = ()
    gpus: tuple[int, ...] = ()
    answers: str | None = None


@dataclass(frozen=True, slots=True)
class TriedSource:
    """A source of a model that was asked, and why it cannot be used."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class BetterModel:
    """What could take the tiny model's place. ``seconds``: how long fetching it takes, about, where that is known.

    ``state``: ``none`` (no better one fits, or ``default`` means another model already), ``available`` from
    ``source``, ``unreachable`` (``tried`` says why), ``fetching`` in ``run``, ``declined``.
    """

    state: str
    name: str = ""
    source: str = ""
    size_bytes: int = 0
    seconds: float | None = None
    reason: str = ""
    tried: tuple[TriedSource, ...] = ()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class SmallModel:
    """The tiny model that ``default`` means, and the ``apps`` that ask it.

    ``hint`` says in a line what it is and how to get a better one. ``fetching``: whether the better one is on its way.
    """

    names: tuple[str, ...]
    hint: str
    apps: tuple[str, ...] = ()
    fetching: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would run on a machine, and why. ``estimate`` is bytes by purpose; if it does not fit, ``nearest``
    says what would.
    """

    model: str
    hardware: str
    engine: str
    fits: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)
    estimate: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    nearest: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A small set of weights on top of the model ``base``, and a model name of its own.

    ``state``: ``cold`` until the base is loaded, ``ready``, ``failed`` if the base runs without it, ``orphaned`` if
    there is no base any more. ``kind``: ``peft`` or ``gguf``.
    """

    name: str
    base: str
    kind: str = ""
    scale: float = 1.0
    state: str = ""
    engine: str | None = None
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    trained_on: str = ""
    bytes: int = 0
    sha256: str = ""
    configured: bool = False
    created_at: float = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as a model reads it. ``max_model_len``: tokens that one call may have; ``texts`` if asked for."""

    count: int
    tokens: tuple[int, ...]
    max_model_len: int | None = None
    texts: tuple[str, ...] | None = field(default=None, metadata=json_at("token_strs"))


@dataclass(frozen=True, slots=True)
class EngineParameter:
    """A parameter that models on an engine may have; ``kind`` is what its value must be."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs models. ``state`` is ``built in``, ``absent``, ``building``, ``ready``, ``outdated`` or ``broken``."""

    name: str
    state: str
    version: str = ""
    python: str = ""
    packages: int = 0
    gigabytes: float = 0
    path: str = ""
    built_at: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A better open model for the daemon's machine. ``raw`` holds every field the daemon sent."""

    name: str
    source: str
    size_gb: float | None = None
    reason: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, metadata=json_at(""))


@dataclass(frozen=True, slots=True)
class StoredChat:
    """A chat completion that was stored; ``text`` is its first choice. ``raw`` holds every field the daemon sent."""

    id: str
    model: str
    created: float = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, metadata=json_at(""))

    @property
    def text(self) -> str:
        """What was answered."""
        choices = self.raw.get("choices") or [{}]
        return str((choices[0].get("message") or {}).get("content") or "")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order."""

    data: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage = Usage()

    @classmethod
    def from_json(cls, value: Any) -> Embeddings:
        """From base64 (little-endian float32) or from lists of numbers."""
        rows = read(list[dict[str, Any]], value)
        vectors = tuple(_vector(row["embedding"]) for row in sorted(rows, key=lambda row: int(row["index"])))
        return read_object(cls, value, data=vectors)


@dataclass(frozen=True, slots=True)
class RankedText:
    """A document by its ``index`` in the request; ``relevance_score`` is in [0, 1]."""

    index: int
    relevance_score: float


def _vector(value: str | list[float]) -> tuple[float, ...]:
    if isinstance(value, str):
        raw = base64.b64decode(value)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    return tuple(value)
