"""Deployments: models on engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas import json_at


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
class Recommendation:
    """A better open model for the daemon's machine. ``raw`` holds every field the daemon sent."""

    name: str
    source: str
    size_gb: float | None = None
    reason: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, metadata=json_at(""))
