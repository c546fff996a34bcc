"""Machines: the daemons on one database, the nodes of each launcher, and what runs where."""

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
"""Seconds between two announcements of a daemon."""

FORGET_S: Final = 3600.0
"""Seconds after which a daemon that is not heard of any more is left out."""

MAX_DAEMONS: Final = 100

MAX_ANNOUNCED_BYTES: Final = 4_000
"""Bytes of the jobs in an announcement: a notice of PostgreSQL has less than 8,000."""

MAX_URL_CHARS: Final = 300

MAX_NODES: Final = 2_000
"""Nodes of one launcher in one answer."""

MAX_REASON_CHARS: Final = 200

_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

_Told = TypeVar("_Told", "ClusterDaemon", "ClusterJob")


@dataclass(frozen=True, slots=True)
class _Heard:
    info: ClusterDaemon
    jobs: tuple[ClusterJob, ...]
    at: float
    """By `time.monotonic`."""


class ClusterService:
    """``holder`` is the name under which this daemon holds runs, and its id here; ``feed`` reaches the others."""

    def __init__(
        self, database: Database, models: ModelService, feed: Feed, holder: str, url: str, started_at: float
    ) -> None:
        self._database = database
        self._models = models
        self._launchers = models.launchers
        self._id = holder
        self._url = url
        self._started_at = started_at
        self._heard: dict[str, _Heard] = {}
        self._announced_at = float("-inf")
        self._drained: dict[str, Any] = {}
        feed.report("daemons", self._announce)
        feed.receive("daemons", self._hear)
        self._tell_drained = feed.report("drained", self._report_drained)
        feed.receive("drained", self._hear_drained)

    async def status(self) -> ClusterStatus:
        """All of it. A scheduler that does not answer is an ``error`` of its launcher."""
        held = await self._database.read(runs.count_held)
        own = [replace(job, daemon=self._id) for job in self._launchers.jobs()]
        names = self._launchers.in_use(
            process.spec.launcher for process in self._models.deployments.processes()
        )
        launchers = await asyncio.gather(*(self._nodes(name) for name in names))
        now = time.monotonic()
        self._heard = {id: heard for id, heard in self._heard.items() if now - heard.at < FORGET_S}
        others = [
            replace(heard.info, seen_at=time.time() - (now - heard.at)) for heard in self._heard.values()
        ]
        daemons = sorted(
            [self._info(len(own)), *others], key=lambda each: (not each.here, each.name, each.id)
        )
        return ClusterStatus(
            tuple(replace(each, runs=held.get(each.id, 0)) for each in daemons),
            tuple(launchers),
            tuple(
                sorted(
                    [*own, *(job for heard in self._heard.values() for job in heard.jobs)],
                    key=lambda job: (job.launcher, job.node, job.name, job.job),
                )
            ),
        )

    async def _nodes(self, name: str) -> ClusterLauncher:
        drains = False
        try:
            drains = await self._launchers.drains(name)
            nodes = [await self._here()] if name == LOCAL.name else await self._launchers.nodes(name)
        except PorticoError as error:
            return ClusterLauncher(name, drains, error=error.message)
        return ClusterLauncher(name, drains, tuple(nodes[:MAX_NODES]), len(nodes))

    async def _here(self) -> ClusterNode:
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
        """Have nothing more started on a node, and move the models there to another. Raises `PorticoError`."""
        reason = " ".join(reason.split())
        if not reason or len(reason) > MAX_REASON_CHARS or _UNPRINTABLE.search(reason):
            raise InvalidRequest(
                f"'reason' must say in 1 to {MAX_REASON_CHARS} characters why the node is drained: its scheduler shows "
                "it to others.",
                param="reason",
            )
        scheduler = await self._launchers.draining(launcher)
        found = await self._launchers.node(launcher, node)
        if found.state == "down":
            raise Conflict(
                f"The node '{found.name}' is down ({found.reason or found.detail}): nothing is started there.",
                code="node_down",
            )
        there = {
            job.name for job in self._launchers.jobs() if (job.launcher, job.node) == (launcher, found.name)
        }
        moves = sorted(
            {
                process.name
                for process in self._models.deployments.processes()
                if process.replacement.runs_at(launcher, found.name)
                or (process.starting and process.name in there)
            }
        )
        if not dry_run:
            await scheduler.drain(found.name, reason)
            logger.info("the node %s of %s is drained: %s", found.name, launcher, reason)
            self._leave(launcher, found.name)
            self._drained[f"{launcher} {found.name}"] = [launcher, found.name]
            self._tell_drained()
            found = await self._launchers.node(launcher, found.name)
        return DrainedNode(launcher, found, tuple(moves), tuple(sorted(there - set(moves))), dry_run)

    async def resume(self, launcher: str, node: str) -> ClusterNode:
        """Have a node used again. Raises `PorticoError`."""
        scheduler = await self._launchers.draining(launcher)
        found = await self._launchers.node(launcher, node)
        if found.state not in ("draining", "drained"):
            raise Conflict(
                f"The node '{found.name}' is not drained: it is {found.state}"
                f"{f' ({found.reason})' if found.reason else ''}.",
                code="node_not_drained",
            )
        await scheduler.resume(found.name)
        logger.info("the node %s of %s is used again", found.name, launcher)
        return await self._launchers.node(launcher, found.name)

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
        listed: list[dict[str, Any]] = []
        size = 0
        for job in jobs:
            listed.append({**asdict(job), "reason": ""})
            size += len(orjson.dumps(listed[-1]))
            if size > MAX_ANNOUNCED_BYTES:
                listed.pop()
                break
        return {self._id: {**asdict(self._info(len(jobs))), "here": False, "jobs_there": listed}}

    def _hear(self, _origin: str, said: Any) -> None:
        for id, told in said.items():
            jobs = tuple(_known(ClusterJob, {**job, "daemon": id}) for job in told["jobs_there"])
            if id in self._heard or len(self._heard) < MAX_DAEMONS:
                self._heard[id] = _Heard(_known(ClusterDaemon, told), jobs, time.monotonic())

    def _report_drained(self, _poll: bool) -> Mapping[str, Any]:
        drained, self._drained = self._drained, {}
        return drained

    def _hear_drained(self, _origin: str, said: Any) -> None:
        for launcher, node in said.values():
            self._leave(launcher, node)


def _known(kind: type[_Told], told: Mapping[str, Any]) -> _Told:
    """Without the fields that only another version knows."""
    return kind(**{item.name: told[item.name] for item in fields(kind) if item.name in told})
