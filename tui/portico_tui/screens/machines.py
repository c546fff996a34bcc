"""Machines: the nodes of each launcher, the processes of models and trainings, and the daemons."""

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
    """A node of a launcher, and what runs there."""

    launcher: ClusterLauncher
    node: ClusterNode
    jobs: tuple[ClusterJob, ...]

    @property
    def id(self) -> str:
        return f"{self.launcher.name} {self.node.name}"


def _state(one: Machine) -> Any:
    return cell(state_of(one.node), COLOURS[one.node.state])


class MachinesScreen(ListingScreen[Machine]):
    """The nodes of all launchers that are in use."""

    MODE = "machines"
    TAB = "Machines"
    LOOK_INTERVAL_S = 5.0
    COLUMNS = (
        TableColumn[Machine]("NODE", lambda one: label_of(one.node), "bold", 28),
        TableColumn[Machine]("LAUNCHER", lambda one: one.launcher.name),
        TableColumn[Machine]("STATE", _state),
        TableColumn[Machine]("CORES", lambda one: figures_of(one.node)[0], sort=lambda one: one.node.cpus),
        TableColumn[Machine](
            "MEMORY", lambda one: figures_of(one.node)[1], sort=lambda one: one.node.memory_mb
        ),
        TableColumn[Machine]("GPUS", lambda one: figures_of(one.node)[2], sort=lambda one: one.node.gpus),
        TableColumn[Machine]("RUNS", lambda one: len(one.jobs), sort=lambda one: len(one.jobs)),
    )
    EMPTY = "No machines are known just now."

    _status: ClusterStatus | None = None

    async def find(self) -> Sequence[Machine]:
        found = self._status = await self.client.cluster.status()
        return [
            Machine(
                launcher,
                node,
                tuple(job for job in found.jobs if (job.launcher, job.node) == (launcher.name, node.name)),
            )
            for launcher in found.launchers
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
        waiting = [job for job in self._status.jobs if job.state == "queued"]
        if waiting:
            yield one_line(f"waiting: {', '.join(job.name for job in waiting)}")

    @action("enter", "Processes", "What runs where, and what waits for what")
    async def processes(self) -> None:
        self.app.push_screen(ProcessesScreen(self.services, "Processes of models and trainings"))

    @action("b", "Daemons", "The daemons on this database")
    async def daemons(self) -> None:
        self.app.push_screen(ClusterDaemonsScreen(self.services, "Daemons on this database"))

    @row_action(
        "d",
        "Drain",
        "Have nothing more started there; models move elsewhere, nothing that runs is cut",
        when=lambda one: one.launcher.drains and one.node.state in ("idle", "busy"),
    )
    async def drain(self, machine: Machine) -> None:
        label, launcher = label_of(machine.node), machine.launcher.name
        planned = await self.client.cluster.drain(launcher, machine.node.name, "planned", dry_run=True)
        says = f"; {', '.join(planned.moves)} moves elsewhere" if planned.moves else ""
        given = await self.ask(
            Form(f"Drain {one_line(label)} of {launcher}{one_line(says)}", Field("reason", "Why"))
        )
        if given is not None:
            done = await self.client.cluster.drain(launcher, machine.node.name, given["reason"])
            self.report("Machines", f"{label} is {done.node.state}.")

    @row_action(
        "e",
        "Resume",
        "Use the node again",
        when=lambda one: one.launcher.drains and one.node.state in ("draining", "drained"),
    )
    async def resume(self, machine: Machine) -> None:
        found = await self.client.cluster.resume(machine.launcher.name, machine.node.name)
        self.report("Machines", f"{label_of(found)} is used again.")


class ProcessesScreen(SublistScreen[ClusterJob]):
    """The processes of all daemons, and those that wait."""

    MODE = "machines"
    TAB = "Machines"
    COLUMNS = (
        TableColumn[ClusterJob]("WHAT", lambda one: one.name, "bold", 28),
        TableColumn[ClusterJob]("STATE", lambda one: one.state),
        TableColumn[ClusterJob]("LAUNCHER", lambda one: one.launcher),
        TableColumn[ClusterJob]("NODE", lambda one: one.node, "", 20),
        TableColumn[ClusterJob]("JOB", lambda one: one.job, "dim", 24),
        TableColumn[ClusterJob]("ENDS", lambda one: clock(one.ends_at), "dim"),
        TableColumn[ClusterJob]("WAITS FOR", lambda one: one.reason),
    )
    EMPTY = "No model is loaded, and nothing is trained."

    async def find(self) -> Sequence[ClusterJob]:
        return (await self.client.cluster.status()).jobs

    def identify(self, item: ClusterJob) -> str:
        return f"{item.daemon} {item.job}"


class ClusterDaemonsScreen(SublistScreen[ClusterDaemon]):
    """The daemons on one database, this one first."""

    MODE = "machines"
    TAB = "Machines"
    COLUMNS = (
        TableColumn[ClusterDaemon]("DAEMON", lambda one: one.name, "bold", 24),
        TableColumn[ClusterDaemon]("ADDRESS", lambda one: one.url),
        TableColumn[ClusterDaemon]("VERSION", lambda one: one.version),
        TableColumn[ClusterDaemon]("PROCESSES", lambda one: one.jobs, sort=lambda one: one.jobs),
        TableColumn[ClusterDaemon]("RUNS", lambda one: one.runs, sort=lambda one: one.runs),
        TableColumn[ClusterDaemon]("SEEN", lambda one: "here" if one.here else clock(one.seen_at), "dim"),
    )
    EMPTY = "No daemons."

    async def find(self) -> Sequence[ClusterDaemon]:
        return (await self.client.cluster.status()).daemons
