"""What a feature of the daemon declares. A declaration names functions by strings, so reading it imports no code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, Protocol, TypeAlias

from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep
from portico_server.core.dataclass import dataclass

Reference: TypeAlias = str
"""An object in a module, written ``module:name``, as in the entry points of a package."""


@dataclass(frozen=True, slots=True)
class FeatureRoute:
    """A path that functions of a feature answer. ``path`` is an exact path, or a prefix that ends in ``*``.

    ``methods`` refers to a function for each HTTP method, ``handler`` to a function for all methods, ``socket`` to a
    function for a WebSocket. Without any of them, the feature's routers answer. ``shape`` refers to the error format,
    and ``shape_of`` to a function that returns the format for an ASGI scope.
    """

    path: str
    protocol: str
    methods: Mapping[str, Reference] = field(default_factory=dict)
    handler: Reference = ""
    socket: Reference = ""
    shape: Reference = ""
    shape_of: Reference = ""
    needs_key: bool = True
    takes_client_secret: bool = False


@dataclass(frozen=True, slots=True)
class ConfigurationKey:
    """A top-level key of the configuration: a list of objects with a name.

    ``read`` refers to a function of a `ConfigurationDocument` that returns the specs of the entries, each with the
    attribute ``name``. ``example`` is an entry for error messages. ``also`` has an example for each other key whose
    entries ``read`` returns too.

    ``reconciler`` refers to a function of the daemon's services that returns a `KeyReconciler`. At the start, it begins
    if the file has entries, if ``table`` refers to a table that has rows, or if it ``always_begins``. ``is_of_file``:
    entries of the daemon's own file exist only as long as the file names them.

    A key without a reconciler has a ``setter``: a function of the daemon's services and the specs in its own file.
    """

    name: str
    read: Reference
    example: str
    also: Mapping[str, str] = field(default_factory=dict)
    reconciler: Reference = ""
    table: Reference = ""
    always_begins: bool = False
    is_of_file: bool = False
    setter: Reference = ""


@dataclass(frozen=True, slots=True)
class BackgroundWork:
    """Work that runs until the daemon ends. ``run`` is the path of a coroutine function from the feature's service.

    Work that ``starts_runs`` ends first when the daemon stops.
    """

    name: str
    run: str
    starts_runs: bool = False


@dataclass(frozen=True, slots=True)
class DurableRuns:
    """A kind of durable runs, and how they are executed (see `portico_server.runs.scheduler.RunKind`).

    ``handler`` is the path of a coroutine function from the feature's service, which is built for the first run.
    """

    kind: str
    handler: str
    concurrency: int = 1
    is_shared: bool = False
    is_owned: bool = False
    is_bound: bool = False


@dataclass(frozen=True, slots=True)
class Feature:
    """A part of the daemon that the core does not import.

    ``needs`` names the features whose services this one uses. ``service`` refers to a function that builds the
    feature's service from the daemon's services. ``documentation`` refers to a function that returns the OpenAPI path
    items of ``routes``.

    ``routers`` refers to FastAPI routers, which the first request to one of ``paths`` imports; all their paths begin
    with one of these. ``direct`` refers to a function that answers frequent requests to them instead of FastAPI, and
    returns whether it answered. ``shared_routers`` refers to routers that take some requests of the core's paths.

    ``clean_up`` is the path of a coroutine function from the service that the daemon calls when it starts, ``settle``
    of one that ends what belongs to runs that were ended elsewhere, and ``revoke`` of one that ends what belongs to the
    key with an id. They are called only if the database has ``runs`` of the feature.

    ``status`` refers to a coroutine function of the daemon's services and a caller, which returns the feature's fields
    of the daemon's status.
    """

    name: str
    needs: tuple[str, ...] = ()
    service: Reference = ""
    routes: tuple[FeatureRoute, ...] = ()
    documentation: Reference = ""
    routers: tuple[Reference, ...] = ()
    paths: tuple[str, ...] = ()
    direct: Reference = ""
    shared_routers: tuple[Reference, ...] = ()
    keys: tuple[ConfigurationKey, ...] = ()
    background: tuple[BackgroundWork, ...] = ()
    runs: tuple[DurableRuns, ...] = ()
    clean_up: str = ""
    settle: str = ""
    revoke: str = ""
    status: Reference = ""


class KeyReconciler(Protocol):
    """Compares the entries under a key of the configuration with those of the daemon."""

    async def steps(self, specs: Sequence[Any], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each entry. Raise `PorticoError` for an entry that cannot be applied."""

    async def begin(self, specs: Sequence[Any]) -> None:
        """Apply the entries of the daemon's own file when it starts."""

    async def names(self, key: str) -> Sequence[str]:
        """Return the names of the shared entries under this key, or under another key that the declaration names."""

    async def remove(self, name: str) -> None:
        """Remove a shared entry."""


class FileKeyReconciler(KeyReconciler, Protocol):
    """Compares entries that exist only as long as the daemon's own file names them."""

    def names_of_file(self) -> Sequence[str]:
        """Return the names of the entries that exist because the file names them."""

    async def remove_of_file(self, name: str) -> None:
        """Remove an entry that the file does not name any more."""
