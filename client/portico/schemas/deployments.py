"""Deployments: models on engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Replica:
    """One of several processes of a model. The fields have the same meaning as in `Deployment`."""

    source: str
    engine: str
    state: Literal["cold", "downloading", "loading", "ready", "failed"]
    pid: int | None
    memory_bytes: int | None
    error: str | None
    calls: int
    starts: int
    crashes: int


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on an engine. Times are in seconds since 1970; ``memory_bytes`` is the memory that the model's process
    uses.

    ``calls`` counts calls that wait or are being answered; ``starts`` and ``crashes`` are counted since the daemon
    started. With several ``replicas``, each of these numbers is the sum over the replicas. ``gpus``: the numbers of
    the GPUs that the model uses. ``answers``, for a chat model: whether it answers from passages in its own words
    (``write``) or by quotation (``quote``), as configured or as its test decided; null before the test.
    """

    name: str
    source: str
    engine: str
    task: str
    state: Literal["cold", "downloading", "loading", "ready", "failed"]
    pid: int | None
    memory_bytes: int | None
    error: str | None
    aliases: tuple[str, ...]
    loaded_at: float | None
    last_used_at: float | None
    context_length: int | None
    dimensions: int | None
    description: str
    pin: bool
    keep_alive: float | None
    calls: int
    starts: int
    crashes: int
    replicas: tuple[Replica, ...]
    gpus: tuple[int, ...]
    answers: Literal["write", "quote"] | None = None


@dataclass(frozen=True, slots=True)
class TriedSource:
    """A source that was tried, and the reason why it cannot be used."""

    source: str
    reason: str


BetterTask: TypeAlias = Literal["chat", "embedding"]
"""What a better model replaces: the tiny chat model, or the static word vectors of the stores."""

BETTER_TASKS: tuple[BetterTask, ...] = ("chat", "embedding")


@dataclass(frozen=True, slots=True)
class BetterModel:
    """A model that can replace a built-in model. ``seconds``: the approximate download time, if known.

    ``state`` is ``available`` (from ``source``), ``unreachable`` (``tried`` says why), ``fetching`` (in ``run``),
    ``declined`` or ``none``. ``none`` means that no better model fits, that the built-in model is no longer used, or
    that an earlier offer in the last `UNREACHABLE_INTERVAL_S` seconds could not reach the sources.
    """

    state: Literal["none", "available", "unreachable", "fetching", "declined"]
    name: str = ""
    source: str = ""
    size_bytes: int = 0
    seconds: float | None = None
    reason: str = ""
    tried: tuple[TriedSource, ...] = ()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class SmallModel:
    """The tiny model behind ``default``: its names, the apps that use it directly or through another app, and a line
    that says what it is and how to get a better model.
    """

    names: tuple[str, ...]
    apps: tuple[str, ...]
    hint: str
    fetching: bool
    """True while the better model is being downloaded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would run, and why. ``estimate``: the required bytes, keyed by purpose. If the model does not fit,
    ``nearest`` says what would fit.
    """

    model: str
    hardware: str
    engine: str
    parameters: Mapping[str, Any]
    estimate: Mapping[str, Any]
    fits: bool
    reasons: tuple[str, ...]
    nearest: str


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A model recommended for a machine. The sizes are those of the downloads, in GB; ``device`` is the device for
    which the model was chosen.
    """

    name: str
    source: str
    """The source of the GGUF file, which the embedded engine uses."""
    size_gb: float
    safetensors: str
    safetensors_gb: float
    licence: str
    device: Literal["gpu", "cpu"]
    reason: str
    """The reason for the choice, as text for people."""


DEPLOYMENTS = Resource(
    "Deployments",
    "/api/deployments",
    "Models on engines.",
    {"name": "a model"},
    (
        Verb("list", "GET", list[Deployment]),
        Verb("get", "GET {name}", Deployment),
        Verb("add", "POST", Deployment),
        Verb("change", "PATCH {name}", Deployment),
        Verb("remove", "DELETE {name}"),
        Verb("load", "POST {name}/load", Deployment, slow=True),
        Verb("unload", "POST {name}/unload", Deployment, slow=True),
        Verb("logs", "GET {name}/logs", list[str], positional=("lines",)),
    ),
    columns=(
        Column("NAME"),
        Column("STATE"),
        Column("ENGINE"),
        Column("TASK"),
        Column("MEMORY", "memory_bytes", kind="bytes"),
        Column("ALIASES"),
        Column("SOURCE"),
    ),
)
