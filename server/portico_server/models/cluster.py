"""Machines: the daemons that share a database, the nodes of each launcher, and the processes on these nodes."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any, Final, TypeVar

import orjson

from portico.schemas.cluster import (
    ClusterDaemon,
    ClusterJob,
    ClusterLauncher,
    ClusterNode,
    ClusterStatus,
    DrainedNode,
)
from portico_server import __version__
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, PorticoError
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.db.feed import Feed
from portico_server.launchers.local import LOCAL
from portico_server.models.service import ModelService
from portico_server.settings import MB_BYTES

logger = logging.getLogger(__name__)

ANNOUNCE_INTERVAL_S: Final = 2.0
"""Interval between announcements of a daemon, in seconds."""

FORGET_S: Final = 3600.0
"""Seconds without an announcement after which a daemon is no longer listed."""

MAX_DAEMONS: Final = 100

MAX_ANNOUNCED_BYTES: Final = 4_000
"""Maximum size of the jobs in an announcement, in bytes. A PostgreSQL notification must have less than 8,000 bytes."""

MAX_URL_CHARS: Final = 300

MAX_NODES: Final = 2_000
"""Maximum number of nodes per launcher in a response."""

MAX_REASON_CHARS: Final = 200

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_Told = TypeVar("_Told", "ClusterDaemon", "ClusterJob")


@dataclass(frozen=True, slots=True)
class _Heard:
    info: ClusterDaemon
    jobs: tuple[ClusterJob, ...]
    at: float
    """Time of the announcement, on the clock of `time.monotonic`."""


class ClusterService:
    """Reports the status of the cluster.

    ``holder`` is both the name under which this daemon locks runs and its id in the cluster. ``feed`` connects this
    daemon to the other daemons.
    """

    def __init__(
        self, database: Database, models: ModelService, feed: Feed, holder: str, url: str, started_at: float
    ) -> None:
        self._database = database
        self._models = models
        self._launchers = models.launchers
        self._id = holder
        self._url = url
        self._started_at = started_at
        self._reports: dict[str, _Heard] = {}
        self._announced_at = float("-inf")
        self._drained_nodes: dict[str, Any] = {}
        feed.report("daemons", self._announce)
        feed.receive("daemons", self._hear)
        self._tell_drained = feed.report("drained", self._report_drained)
        feed.receive("drained", self._hear_drained)

    async def status(self) -> ClusterStatus:
        """Return the complete status. A scheduler that does not respond is reported as an ``error`` of its launcher."""
        run_counts = await self._database.read(runs.count_held)
        cluster_jobs = [replace(job, daemon=self._id) for job in self._launchers.jobs()]
        names = self._launchers.in_use(
            process.spec.launcher for process in self._models.deployments.processes()
        )
        launchers = await asyncio.gather(*(self._nodes(name) for name in names))
        now = time.monotonic()
        self._reports = {id: report for id, report in self._reports.items() if now - report.at < FORGET_S}
        cluster_daemons = [
            replace(report.info, seen_at=time.time() - (now - report.at)) for report in self._reports.values()
        ]
        daemons = sorted(
            [self._info(len(cluster_jobs)), *cluster_daemons],
            key=lambda daemon: (not daemon.here, daemon.name, daemon.id),
        )
        return ClusterStatus(
            tuple(
                replace(cluster_daemon, runs=run_counts.get(cluster_daemon.id, 0))
                for cluster_daemon in daemons
            ),
            tuple(launchers),
            tuple(
                sorted(
                    [*cluster_jobs, *(job for report in self._reports.values() for job in report.jobs)],
                    key=lambda job: (job.launcher, job.node, job.name, job.job),
                )
            ),
        )

    async def _nodes(self, name: str) -> ClusterLauncher:
        drains = False
        try:
            drains = await self._launchers.drains(name)
            nodes = [await self._own_node()] if name == LOCAL.name else await self._launchers.nodes(name)
        except PorticoError as error:
            return ClusterLauncher(name, drains, error=error.message)
        return ClusterLauncher(name, drains, tuple(nodes[:MAX_NODES]), len(nodes))

    async def _own_node(self) -> ClusterNode:
        machine = await self._models.machine.hardware()
        free = await self._models.machine.free_memory()
        return ClusterNode(
            os.uname().nodename,
            "busy" if LOCAL.jobs() else "idle",
            cpus=machine.cores,
            memory_mb=machine.memory_bytes // MB_BYTES,
            memory_used_mb=max(0, machine.memory_bytes - free) // MB_BYTES,
            gpus=len(machine.gpus),
            gpu_types=tuple(dict.fromkeys(gpu.name for gpu in machine.gpus)),
        )

    async def drain(self, launcher: str, node: str, reason: str, *, dry_run: bool = False) -> DrainedNode:
        """Stop starting processes on a node, and move the node's models to other nodes. Raises `PorticoError`."""
        reason = " ".join(reason.split())
        if not reason or len(reason) > MAX_REASON_CHARS or _UNPRINTABLE.search(reason):
            raise InvalidRequest(
                f"'reason' must explain in 1 to {MAX_REASON_CHARS} characters why the node is drained, "
                "because its scheduler shows it to others.",
                param="reason",
            )
        scheduler = await self._launchers.draining(launcher)
        cluster_node = await self._launchers.node(launcher, node)
        if cluster_node.state == "down":
            raise Conflict(
                f"The node '{cluster_node.name}' is down ({cluster_node.reason or cluster_node.detail}): no "
                "processes are started on it.",
                code="node_down",
            )
        deployment_names = {
            job.name
            for job in self._launchers.jobs()
            if (job.launcher, job.node) == (launcher, cluster_node.name)
        }
        moves = sorted(
            {
                process.name
                for process in self._models.deployments.processes()
                if process.replacement.runs_at(launcher, cluster_node.name)
                or (process.starting and process.name in deployment_names)
            }
        )
        if not dry_run:
            await scheduler.drain(cluster_node.name, reason)
            logger.info("draining the node %s of %s: %s", cluster_node.name, launcher, reason)
            self._leave(launcher, cluster_node.name)
            self._drained_nodes[f"{launcher} {cluster_node.name}"] = [launcher, cluster_node.name]
            self._tell_drained()
            cluster_node = await self._launchers.node(launcher, cluster_node.name)
        return DrainedNode(
            launcher, cluster_node, tuple(moves), tuple(sorted(deployment_names - set(moves))), dry_run
        )

    async def resume(self, launcher: str, node: str) -> ClusterNode:
        """Make a drained node available again. Raises `PorticoError`."""
        scheduler = await self._launchers.draining(launcher)
        cluster_node = await self._launchers.node(launcher, node)
        if cluster_node.state not in ("draining", "drained"):
            raise Conflict(
                f"The node '{cluster_node.name}' is not drained: it is {cluster_node.state}"
                f"{f' ({cluster_node.reason})' if cluster_node.reason else ''}.",
                code="node_not_drained",
            )
        await scheduler.resume(cluster_node.name)
        logger.info("resumed the node %s of %s", cluster_node.name, launcher)
        return await self._launchers.node(launcher, cluster_node.name)

    def _leave(self, launcher: str, node: str) -> None:
        for process in self._models.deployments.processes():
            process.replacement.leave_node(launcher, node)

    def _info(self, jobs: int) -> ClusterDaemon:
        return ClusterDaemon(
            self._id,
            os.uname().nodename,
            self._url[:MAX_URL_CHARS],
            __version__,
            self._started_at,
            time.time(),
            True,
            jobs,
        )

    def _announce(self, poll: bool) -> Mapping[str, Any]:
        now = time.monotonic()
        if not poll or now - self._announced_at < ANNOUNCE_INTERVAL_S:
            return {}
        self._announced_at = now
        jobs = self._launchers.jobs()
        job_list: list[dict[str, Any]] = []
        size = 0
        for job in jobs:
            job_list.append({**asdict(job), "reason": ""})
            size += len(orjson.dumps(job_list[-1]))
            if size > MAX_ANNOUNCED_BYTES:
                job_list.pop()
                break
        return {self._id: {**asdict(self._info(len(jobs))), "here": False, "jobs_there": job_list}}

    def _hear(self, _origin: str, daemons: Any) -> None:
        for id, description in daemons.items():
            jobs = tuple(_read_known(ClusterJob, {**job, "daemon": id}) for job in description["jobs_there"])
            if id in self._reports or len(self._reports) < MAX_DAEMONS:
                self._reports[id] = _Heard(_read_known(ClusterDaemon, description), jobs, time.monotonic())

    def _report_drained(self, _poll: bool) -> Mapping[str, Any]:
        drained_nodes, self._drained_nodes = self._drained_nodes, {}
        return drained_nodes

    def _hear_drained(self, _origin: str, drained_nodes: Any) -> None:
        for launcher, node in drained_nodes.values():
            self._leave(launcher, node)


def _read_known(kind: type[_Told], values: Mapping[str, Any]) -> _Told:
    """Build an announced value. Fields that only another version of Portico knows are ignored."""
    return kind(**{item.name: values[item.name] for item in fields(kind) if item.name in values})
