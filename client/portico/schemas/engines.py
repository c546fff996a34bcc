"""Engines and their parameters."""

from __future__ import annotations

from dataclasses import dataclass

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class EngineParameter:
    """A parameter that models can set for an engine. ``kind`` is the type of its value."""

    name: str
    kind: str
    doc: str


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine. ``state`` is ``built in`` for engines that have no separate environment.

    ``problem`` says why an engine is broken, or why an absent engine cannot be installed on this machine. ``built_at``
    is in seconds since 1970.
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
    """The result of one check of an engine's environment."""

    check: str
    ok: bool
    detail: str = ""


ENGINES = Resource(
    "Engines",
    "/api/engines",
    "Programs that run models, and the separate environments of the heavy ones.",
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
