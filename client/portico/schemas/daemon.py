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
    """One entry point. ``reason`` says why one that is ``failed`` cannot be used; empty for one that is ``ready``."""

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
    """A guard of the configuration. ``on``: what it is around, ``*`` for everything. ``detects``: the kinds of things
    that it looks for; words and patterns of the operator are ``word`` and ``pattern``.
    """

    name: str
    on: tuple[str, ...]
    detects: tuple[str, ...]
    where: tuple[str, ...]
    action: str
    on_error: str


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as `portico settings` shows it; ``value`` of a secret is masked."""

    name: str
    value: Any
    origin: Literal["flag", "environment", "file", "default"]
    doc: str


@dataclass(frozen=True, slots=True)
class BackedUp:
    """A backup: its size in bytes, and how many files the daemon should have had and had not."""

    bytes: int
    missing: int


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """Bytes of the database file before and after; ``converted``: it gives room back by itself from now on."""

    before: int
    after: int
    freed: int
    converted: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What there is for this caller. ``home`` and ``problems`` are for admins only; ``startup``: the runs that the
    start began; ``apps``: those of the folders it was started with, those of other stores, oldest first, then others.
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
        """A line for beside an answer of ``name``, if that is the tiny model or an app that asks it."""
        small = self.small_model
        return small.hint if small is not None and name in (*small.names, *small.apps) else None


PLUGINS = Resource(
    "Plugins",
    "/api/plugins",
    "What installed distributions add to the daemon.",
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
    "What looks at the texts around models, apps, tools and stores.",
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
