"""Engines and their parameters."""

from __future__ import annotations

from dataclasses import dataclass


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
