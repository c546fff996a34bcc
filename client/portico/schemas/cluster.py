"""Machines: daemons, nodes, and the processes on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from portico.schemas.resource import Resource, Verb


@dataclass(frozen=True, slots=True)
class ClusterDaemon:
    """A daemon on this database; ``here`` marks the daemon that responds. ``jobs`` is the number of processes that it
    has started for models, training jobs and documents, ``runs`` the number of its durable runs. ``seen_at``: when
    it was last seen.
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
    """A machine on which a launcher starts processes, by its scheduler name.

    ``detail`` is the scheduler's own term for the state, ``reason`` why nothing is started on it. ``…_used`` is the
    amount in use by anyone; ``None`` if the scheduler does not report it.
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
    """The nodes of a launcher, ``total`` in number; ``error`` explains why they are unknown. ``drains``: whether they
    can be drained.
    """

    name: str
    drains: bool
    nodes: tuple[ClusterNode, ...] = ()
    total: int = 0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterJob:
    """A process of the model or training job ``name``: ``queued`` for a ``reason``, ``starting`` or ``running``.
    ``job`` is its scheduler id, ``daemon`` the id of the daemon that owns it.
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
    """The effect of draining a node: models in ``moves`` are started elsewhere, then stopped on the node; ``stays``
    runs to completion.
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
