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
    """An entry point of a plugin. ``reason`` says why a ``failed`` entry point cannot be used; it is empty for a
    ``ready`` one.
    """

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
    """A configured guard. ``on``: what the guard protects, ``*`` for everything. ``detects``: the kinds of content
    that the guard looks for; ``word`` and ``pattern`` stand for the operator's own words and patterns.
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
    """A backup: its size in bytes, and the number of files that were missing from the home folder."""

    bytes: int
    missing: int


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """The size of the database file in bytes, before and after. ``converted``: the file has been converted so that it
    now frees space automatically.
    """

    before: int
    after: int
    freed: int
    converted: bool


@dataclass(frozen=True, slots=True)
class Status:
    """The parts of the daemon's state that this caller can see. ``home`` and ``problems`` are for admins only.
    ``startup``: the runs started at startup. ``stores``: the 20 newest stores and those of folders given at startup,
    oldest first. ``apps``: first the apps of folders given at startup, then those of the other ``stores``, then those
    that are no stores. ``memory_budget_bytes``: the memory that all models may use together;
    null until the daemon has measured its machine.
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
    memory_budget_bytes: int | None
    build: str = ""
    """Version, number of commits and commit, such as ``0.1.0.dev1427+177a3ea1``; empty if the caller is no admin."""
    schema: str = ""
    """The number of the database's schema; empty if the caller is no admin."""
    store_count: int | None = None
    """The number of all stores that the caller may read. A daemon that does not say so lists all in ``stores``."""
    names: str = ""
    """Differs after models, apps, tools or stores were added, changed or removed; empty if the daemon does not say."""

    @property
    def is_part(self) -> bool:
        """Return whether there are more stores than ``stores`` contains."""
        return self.store_count is not None and self.store_count > len(self.stores)

    def hint_for(self, name: str) -> str | None:
        """Return a hint to show with an answer from ``name``, or ``None`` unless the tiny model answers, directly or
        in an app.
        """
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
    "Checks on the inputs and outputs of models, apps, tools and stores.",
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
