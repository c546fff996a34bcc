"""Machines: daemons, nodes, and the processes on them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterDaemon:
    """A daemon on one database with the one that answers, which is ``here``. ``jobs`` and ``runs`` count what it has
    started for models and trainings, and the durable runs that it holds.
    """

    id: str
    name: str
    url: str
    version: str
    started_at: float
    seen_at: float
    here: bool = False
    jobs: int = 0
    runs: int = 0


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A machine of a launcher. ``state`` is ``idle``, ``busy``, ``draining``, ``drained`` or ``down``, and ``detail``
    the scheduler's own word for it; ``reason`` says why nothing is started there.
    """

    name: str
    state: str
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
    """A launcher and its nodes, of so many in ``total``; ``error`` says why they are not known. ``drains``: whether
    they can be drained.
    """

    name: str
    drains: bool = False
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
    state: str
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
    """A node on which nothing more is started. Models in ``moves`` are started elsewhere and then ended there;
    ``stays`` works on until it ends by itself.
    """

    launcher: str
    node: ClusterNode
    moves: tuple[str, ...]
    stays: tuple[str, ...]
    dry_run: bool = False
