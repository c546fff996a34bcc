"""Machines: daemons, nodes, and the processes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class ClusterDaemon:
    """A daemon on this database, ``here`` the one that answers. ``jobs`` is the number of processes that it has started
    for models, trainings and documents, ``runs`` that of durable runs that it holds. ``seen_at``: when it was heard of
    last.
    """

    id: str
    name: str
    url: str
    version: str
    started_at: float
    seen_at: float
    here: bool
    jobs: int
    runs: int = 0


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine on which a launcher starts processes, by the name that its scheduler has for it.

    ``detail`` is the scheduler's own word for the state, ``reason`` why nothing is started there. ``…_used`` is what is
    taken, by whomever; ``None`` where the scheduler does not say.
    """

    name: str
    state: Literal["idle", "busy", "draining", "drained", "down"]
    address: str = ""
    detail: str = ""
    reason: str = ""
    cpus: int = 0
    cpus_used: float | None = None
    memory_mb: int = 0
    memory_used_mb: int | None = None
    gpus: int = 0
    gpus_used: float | None = None
    gpu_types: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterLauncher:
    """The nodes of a launcher, of so many in ``total``; ``error`` says why they are not known. ``drains``: whether they
    can be drained.
    """

    name: str
    drains: bool
    nodes: tuple[ClusterNode, ...] = ()
    total: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A process of the model or training ``name``: ``queued`` for a ``reason``, ``starting`` or ``running``. ``job`` is
    what its scheduler calls it, ``daemon`` the id of the daemon whose it is.
    """

    name: str
    launcher: str
    job: str
    state: Literal["queued", "starting", "running"]
    node: str = ""
    reason: str = ""
    ends_at: float | None = None
    daemon: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """All of it at one moment."""

    daemons: tuple[ClusterDaemon, ...]
    launchers: tuple[ClusterLauncher, ...]
    jobs: tuple[ClusterJob, ...]


@dataclass(frozen=True, slots=True)
class DrainedNode:
    """What draining a node does: models in ``moves`` are started elsewhere, then ended there; ``stays`` works on until
    it ends by itself.
    """

    launcher: str
    node: ClusterNode
    moves: tuple[str, ...]
    stays: tuple[str, ...]
    dry_run: bool


CLUSTER = Resource(
    "Cluster",
    "/api/cluster",
    "For admins. Schedulers place processes; this shows where, and takes machines out of use.",
    {"launcher": "a launcher", "node": "a node"},
    (
        Verb("status", "GET", ClusterStatus),
        Verb("drain", "POST nodes/{launcher}/{node}/drain", DrainedNode),
        Verb("resume", "POST nodes/{launcher}/{node}/resume", ClusterNode),
    ),
)
