"""Machines: daemons, nodes, and the processes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class ClusterDaemon:
    """A daemon that uses this database; ``here`` marks the daemon that answered the request. ``jobs`` is the number of
    processes that the daemon has started for models, training jobs and documents, ``runs`` the number of its
    durable runs. ``seen_at``: when the daemon was last seen.
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
    """A machine on which a launcher starts processes. ``name`` is the scheduler's name for the machine.

    ``detail`` is the scheduler's own term for the state; ``reason`` says why no work is started on the machine.
    ``…_used`` is the amount that all users together use; ``None`` if the scheduler does not report it.
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
    """A launcher and its nodes; ``total`` is their number. ``error`` says why the nodes are unknown. ``drains``:
    whether the launcher's nodes can be drained.
    """

    name: str
    drains: bool
    nodes: tuple[ClusterNode, ...] = ()
    total: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A process that runs the model or training job ``name``. ``state``: ``queued`` (see ``reason``), ``starting`` or
    ``running``. ``job`` is the process's id in the scheduler, ``daemon`` the id of the daemon that owns it.
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
    """The state of the cluster at one time."""

    daemons: tuple[ClusterDaemon, ...]
    launchers: tuple[ClusterLauncher, ...]
    jobs: tuple[ClusterJob, ...]


@dataclass(frozen=True, slots=True)
class DrainedNode:
    """The effect of draining a node. Models in ``moves`` are started on other nodes and then stopped on this node;
    work in ``stays`` runs to completion.
    """

    launcher: str
    node: ClusterNode
    moves: tuple[str, ...]
    stays: tuple[str, ...]
    dry_run: bool


CLUSTER = Resource(
    "Cluster",
    "/api/cluster",
    "For admins. Schedulers place processes; this resource shows where, and takes machines out of service.",
    {"launcher": "a launcher", "node": "a node"},
    (
        Verb("status", "GET", ClusterStatus),
        Verb("drain", "POST nodes/{launcher}/{node}/drain", DrainedNode),
        Verb("resume", "POST nodes/{launcher}/{node}/resume", ClusterNode),
    ),
)
