"""Machines: the nodes of each launcher, the processes of models and training jobs, and the daemons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from portico.cli.cluster import figures_of, label_of, state_of
from portico.schemas.cluster import ClusterDaemon, ClusterJob, ClusterLauncher, ClusterNode, ClusterStatus
from portico_tui.screens.page import ListingScreen, SublistScreen, action, row_action
from portico_tui.text import cell, clock, one_line
from portico_tui.widgets.dialogs import Field, Form
from portico_tui.widgets.table_rows import TableColumn

COLOURS = {"idle": "green", "busy": "green", "draining": "yellow", "drained": "yellow", "down": "red"}


@dataclass(frozen=True, slots=True)
class Machine:
    """A node of a launcher, and the work on it."""

    launcher: ClusterLauncher
    node: ClusterNode
    jobs: tuple[ClusterJob, ...]

    @property
    def id(self) -> str:
        return f"{self.launcher.name} {self.node.name}"


def _state(machine: Machine) -> Any:
    return cell(state_of(machine.node), COLOURS[machine.node.state])


class MachinesScreen(ListingScreen[Machine]):
    """The nodes of all launchers that are in use."""

    MODE = "machines"
    TAB = "Machines"
    LOOK_INTERVAL_S = 5.0
    COLUMNS = (
        TableColumn[Machine]("NODE", lambda machine: label_of(machine.node), "bold", 28),
        TableColumn[Machine]("LAUNCHER", lambda machine: machine.launcher.name),
        TableColumn[Machine]("STATE", _state),
        TableColumn[Machine](
            "CORES", lambda machine: figures_of(machine.node)[0], sort=lambda machine: machine.node.cpus
        ),
        TableColumn[Machine](
            "MEMORY", lambda machine: figures_of(machine.node)[1], sort=lambda machine: machine.node.memory_mb
        ),
        TableColumn[Machine](
            "GPUS", lambda machine: figures_of(machine.node)[2], sort=lambda machine: machine.node.gpus
        ),
        TableColumn[Machine](
            "RUNS", lambda machine: len(machine.jobs), sort=lambda machine: len(machine.jobs)
        ),
    )
    EMPTY = "No machines are known at the moment."

    _status: ClusterStatus | None = None

    async def find(self) -> Sequence[Machine]:
        cluster_status = self._status = await self.client.cluster.status()
        return [
            Machine(
                launcher,
                node,
                tuple(
                    job
                    for job in cluster_status.jobs
                    if (job.launcher, job.node) == (launcher.name, node.name)
                ),
            )
            for launcher in cluster_status.launchers
            for node in launcher.nodes
        ]

    def detail(self, item: Machine) -> Iterable[Content | str]:
        about = (item.node.name, item.node.address, ", ".join(item.node.partitions), item.node.reason)
        yield one_line(" · ".join(filter(None, about)))
        for job in item.jobs:
            yield one_line(f"{job.name}: {job.state} · {job.job}")

    def notes(self) -> Iterable[Content | str]:
        if self._status is None:
            return
        for launcher in self._status.launchers:
            if launcher.error:
                yield one_line(f"{launcher.name}: {launcher.error}")
            elif launcher.total > len(launcher.nodes):
                yield f"{launcher.name}: {launcher.total - len(launcher.nodes):,} further nodes"
        cluster_jobs = [job for job in self._status.jobs if job.state == "queued"]
        if cluster_jobs:
            yield one_line(f"waiting: {', '.join(job.name for job in cluster_jobs)}")

    @action("enter", "Processes", "What runs where, and why work waits")
    async def processes(self) -> None:
        self.app.push_screen(ProcessesScreen(self.services, "Processes of models and training jobs"))

    @action("b", "Daemons", "Daemons on this database")
    async def daemons(self) -> None:
        self.app.push_screen(ClusterDaemonsScreen(self.services, "Daemons on this database"))

    @row_action(
        "d",
        "Drain",
        "Start no more work on the node; models are moved to other nodes, and running work is not interrupted",
        when=lambda machine: machine.launcher.drains and machine.node.state in ("idle", "busy"),
    )
    async def drain(self, machine: Machine) -> None:
        label, launcher = label_of(machine.node), machine.launcher.name
        drained_node = await self.client.cluster.drain(launcher, machine.node.name, "planned", dry_run=True)
        says = f"; {', '.join(drained_node.moves)} moves elsewhere" if drained_node.moves else ""
        answers = await self.ask(
            Form(f"Drain {one_line(label)} of {launcher}{one_line(says)}", Field("reason", "Why"))
        )
        if answers is not None:
            result = await self.client.cluster.drain(launcher, machine.node.name, answers["reason"])
            self.report("Machines", f"{label} is {result.node.state}.")

    @row_action(
        "e",
        "Resume",
        "Use the node again",
        when=lambda machine: machine.launcher.drains and machine.node.state in ("draining", "drained"),
    )
    async def resume(self, machine: Machine) -> None:
        cluster_node = await self.client.cluster.resume(machine.launcher.name, machine.node.name)
        self.report("Machines", f"{label_of(cluster_node)} is in use again.")


class ProcessesScreen(SublistScreen[ClusterJob]):
    """The processes of all daemons, including processes that are still queued."""

    MODE = "machines"
    TAB = "Machines"
    COLUMNS = (
        TableColumn[ClusterJob]("WHAT", lambda job: job.name, "bold", 28),
        TableColumn[ClusterJob]("STATE", lambda job: job.state),
        TableColumn[ClusterJob]("LAUNCHER", lambda job: job.launcher),
        TableColumn[ClusterJob]("NODE", lambda job: job.node, "", 20),
        TableColumn[ClusterJob]("JOB", lambda job: job.job, "dim", 24),
        TableColumn[ClusterJob]("ENDS", lambda job: clock(job.ends_at), "dim"),
        TableColumn[ClusterJob]("WAITS FOR", lambda job: job.reason),
    )
    EMPTY = "No model is loaded, and no training is running."

    async def find(self) -> Sequence[ClusterJob]:
        return (await self.client.cluster.status()).jobs

    def identify(self, item: ClusterJob) -> str:
        return f"{item.daemon} {item.job}"


class ClusterDaemonsScreen(SublistScreen[ClusterDaemon]):
    """The daemons that share the database; the connected daemon is first."""

    MODE = "machines"
    TAB = "Machines"
    COLUMNS = (
        TableColumn[ClusterDaemon]("DAEMON", lambda daemon: daemon.name, "bold", 24),
        TableColumn[ClusterDaemon]("ADDRESS", lambda daemon: daemon.url),
        TableColumn[ClusterDaemon]("VERSION", lambda daemon: daemon.version),
        TableColumn[ClusterDaemon]("PROCESSES", lambda daemon: daemon.jobs, sort=lambda daemon: daemon.jobs),
        TableColumn[ClusterDaemon]("RUNS", lambda daemon: daemon.runs, sort=lambda daemon: daemon.runs),
        TableColumn[ClusterDaemon](
            "SEEN", lambda daemon: "here" if daemon.here else clock(daemon.seen_at), "dim"
        ),
    )
    EMPTY = "No daemons."

    async def find(self) -> Sequence[ClusterDaemon]:
        return (await self.client.cluster.status()).daemons
