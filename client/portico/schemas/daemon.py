"""The daemon itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from portico.schemas.configuration import Problem
from portico.schemas.deployments import Deployment, Recommendation, SmallModel
from portico.schemas.resource import Column, Resource, Verb
from portico.schemas.stores import Store


@dataclass(frozen=True, slots=True)
class Plugin:
    """An entry point. ``reason`` explains why a ``failed`` entry point cannot be used; empty if it is ``ready``."""

    kind: Literal["engine", "chunker", "tool", "provider"]
    name: str
    distribution: str
    version: str
    state: Literal["ready", "failed"] = "ready"
    reason: str = ""

    def __str__(self) -> str:
        return f"The {self.kind} '{self.name}' of {self.distribution} {self.version}"


@dataclass(frozen=True, slots=True)
class ConfiguredGuard:
    """A guard of the configuration. ``on``: what it protects, ``*`` for everything. ``detects``: the kinds of content
    that it looks for; the operator's words and patterns are ``word`` and ``pattern``.
    """

    name: str
    on: tuple[str, ...]
    detects: tuple[str, ...]
    where: tuple[str, ...]
    action: str
    on_error: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as shown by `portico settings`; the ``value`` of a secret is masked."""

    name: str
    value: Any
    origin: Literal["flag", "environment", "file", "default"]
    doc: str


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup: its size in bytes, and the number of files missing from the daemon."""

    bytes: int
    missing: int


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Bytes of the database file before and after; ``converted``: it now frees space automatically."""

    before: int
    after: int
    freed: int
    converted: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What this caller can see. ``home`` and ``problems`` are for admins only; ``startup``: the runs started at
    startup; ``apps``: those of the folders given at startup, those of other stores, oldest first, then others.
    """

    version: str
    home: str
    url: str
    started_at: float
    startup: tuple[str, ...]
    models: tuple[Deployment, ...]
    stores: tuple[Store, ...]
    apps: tuple[str, ...]
    recommended: Recommendation | None
    problems: tuple[Problem, ...]
    small_model: SmallModel | None

    def hint_for(self, name: str) -> str | None:
        """Return a hint to show with an answer of ``name``, if that is the tiny model or an app that uses it."""
        small = self.small_model
        return small.hint if small is not None and name in (*small.names, *small.apps) else None


PLUGINS = Resource(
    "Plugins",
    "/api/plugins",
    "Extensions of the daemon from installed distributions.",
    {},
    (Verb("list", "GET", list[Plugin]),),
    columns=(
        Column("KIND"),
        Column("NAME"),
        Column("DISTRIBUTION"),
        Column("VERSION"),
        Column("STATE"),
        Column("REASON"),
    ),
)


CONTENT_GUARDS = Resource(
    "ContentGuards",
    "/api/guards",
    "Checks on the texts around models, apps, tools and stores.",
    {},
    (Verb("list", "GET", list[ConfiguredGuard]),),
    columns=(
        Column("GUARD", "name"),
        Column("ON"),
        Column("DETECTS"),
        Column("WHERE"),
        Column("ACTION"),
        Column("ON ERROR", "on_error"),
    ),
)
