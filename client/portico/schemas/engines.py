"""Engines and their parameters."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class EngineParameter:
    """A parameter that models on an engine may have; ``kind`` is what its value must be."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine as the daemon shows it. ``state`` is ``built in`` for those without an environment.

    ``problem`` says why a broken one is broken, or why an absent one cannot be had here. ``built_at`` in
    seconds since 1970.
    """

    name: str
    state: str
    version: str = ""
    python: str = ""
    packages: int = 0
    gigabytes: float = 0.0
    path: str = ""
    built_at: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str = ""


ENGINES = Resource(
    "Engines",
    "/api/engines",
    "What runs models, and the environments of the heavy ones.",
    {"name": "an engine"},
    (
        Verb("list", "GET", list[Engine]),
        Verb("install", "POST {name}/install", str, key="run"),
        Verb("parameters", "GET {name}/parameters", list[EngineParameter]),
        Verb("doctor", "POST {name}/doctor", list[Finding], slow=True),
        Verb("remove", "DELETE {name}", slow=True),
    ),
    columns=(
        Column("NAME"),
        Column("STATE"),
        Column("VERSION"),
        Column("BUILT", "built_at", kind="moment"),
        Column("NOTE", "problem"),
    ),
)
