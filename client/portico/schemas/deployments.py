"""Deployments: models on engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a model that has several; as in `DeploymentInfo`."""

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
    """A model on an engine. Times in seconds since 1970; ``memory_bytes`` is what its process holds.

    ``calls`` wait for it or are being answered; ``starts`` and ``crashes`` are counted since the daemon started.
    With several ``replicas`` each number is their sum. ``gpus`` are the numbers of those that it has a share of.
    ``answers``, of one chat model: whether it answers from passages in its own words (``write``) or by quotation, as
    its configuration or its test says; null until it was tested.
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
    """A source that was asked, and why it cannot be used."""

    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class BetterModel:
    """What could take the tiny model's place. ``seconds``: how long fetching it takes, about, where it could be told.

    ``state``: ``none`` (no better model fits, the tiny one does not answer any more, or an earlier offer of the last
    `UNREACHABLE_INTERVAL_S` seconds could not reach its sources either), ``available`` from ``source``, ``unreachable``
    (``tried`` says why), ``fetching`` in ``run``, ``declined``.
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
    """The tiny model that ``default`` means: its names, the apps that ask it themselves or through another app, and a
    line that says what it is and how to get a better one.
    """

    names: tuple[str, ...]
    apps: tuple[str, ...]
    hint: str
    fetching: bool
    """Whether the better one is under way."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What would run, and why. ``estimate`` is bytes by purpose; if it does not fit, ``nearest`` says what would."""

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
    """A model for a machine; sizes are downloads in GB, ``device`` is what it was chosen for."""

    name: str
    source: str
    """The GGUF, for the embedded engine."""
    size_gb: float
    safetensors: str
    safetensors_gb: float
    licence: str
    device: Literal["gpu", "cpu"]
    reason: str
    """Why this one, for a person."""


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
