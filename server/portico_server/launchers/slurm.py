"""Slurm: each process is an ``sbatch`` job. Its agent writes its address to a folder that all nodes can access."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from portico.schemas.cluster import ClusterNode
from portico_server.child_environment import inherited
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, Unavailable
from portico_server.launchers.protocol import LaunchOrder, NodeState, Resources
from portico_server.launchers.remote import (
    LOG,
    MAX_REASON_CHARS,
    JobLook,
    agent_command,
    last_words,
    read_address,
)
from portico_server.settings import Settings
from portico_server.subprocesses import output_of

COMMAND_TIMEOUT_S: Final = 30.0
"""Maximum time for a Slurm command, in seconds."""

SCRIPT_FILE: Final = "job.sh"

_WAITING: Final = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESIZING", "SUSPENDED"})
_WORKING: Final = frozenset({"RUNNING", "STAGE_OUT", "SIGNALING", "STOPPED"})

_HOPELESS: Final = frozenset(
    {
        *("AccountNotAllowed", "BadConstraints", "DependencyNeverSatisfied", "InvalidAccount", "InvalidQOS"),
        *("PartitionNodeLimit", "PartitionTimeLimit", "QOSNotAllowed", "JobHeldAdmin", "JobHeldUser"),
    }
)
"""Reasons for which a job waits indefinitely. https://slurm.schedmd.com/job_reason_codes.html"""

_MODULE: Final = re.compile(r"[\w.+/-]+")


@dataclass(frozen=True, slots=True)
class SlurmOptions:
    """Default options of every job, unless the job's own resources override them. ``container`` is a prefix of the
    job's command line.
    """

    partition: str = ""
    account: str = ""
    gres: str = ""
    time: str = ""
    modules: str = ""
    container: str = ""
    options: str = ""


def backend(settings: Settings) -> SlurmBackend:
    """Return the backend configured by the settings."""
    values = {item.name: getattr(settings, f"slurm_{item.name}") for item in fields(SlurmOptions)}
    return SlurmBackend(SlurmOptions(**values))


class CommandFailed(Unavailable):
    """A Slurm command ended with an error; ``words`` is its output."""

    def __init__(self, program: str, words: str) -> None:
        super().__init__(f"Slurm's '{program}' failed: {words}", code="launcher_failed")
        self.words = words


class SlurmBackend:
    """Runs jobs on Slurm; see `portico_server.launchers.remote.JobBackend`. Requires Slurm's commands, as on a login
    node.
    """

    name = "slurm"
    title = "Slurm"

    def __init__(self, options: SlurmOptions) -> None:
        self._options = options

    async def submit(self, job: str, order: LaunchOrder, folder: Path, avoid: Sequence[str]) -> None:
        """See `JobBackend`."""
        script = folder / SCRIPT_FILE
        arguments = [*job_options(job, order.resources, folder, self._options), str(script)]
        await pools.MODELS.run(script.write_text, job_script(folder, self._options), "utf-8")
        if avoid:
            try:
                await self._sbatch(order.name, f"--exclude={','.join(avoid)}", *arguments)
                return
            except Unavailable as error:
                if error.code != "launch_refused":
                    raise  # retry without exclusions, because the cluster may have no other nodes
        await self._sbatch(order.name, *arguments)

    async def _sbatch(self, name: str, *arguments: str) -> None:
        try:
            await self._run("sbatch", *arguments)
        except CommandFailed as error:
            raise Unavailable(
                f"Slurm rejected the job of '{name}': {error.words}", code="launch_refused"
            ) from error

    async def look(self, job: str, folder: Path) -> JobLook:
        """See `JobBackend`."""
        listing = await self._run(
            "squeue", "--noheader", "--states=all", f"--name={job}", "--format=%i|%T|%r|%e"
        )
        return await pools.MODELS.run(read_job, listing, folder)

    async def cancel(self, job: str) -> None:
        """See `JobBackend`."""
        await self._run("scancel", f"--name={job}")

    async def close(self) -> None:
        """Do nothing, because no connections are kept open."""

    async def nodes(self) -> Sequence[ClusterNode]:
        """See `ListsNodes`."""
        return read_nodes(await self._run("scontrol", "--oneliner", "show", "nodes"))

    async def drain(self, node: str, reason: str) -> None:
        """See `DrainsNodes`. Slurm allows only its operators to drain nodes."""
        await self._update(node, "State=DRAIN", f"Reason={reason}")

    async def resume(self, node: str) -> None:
        """See `DrainsNodes`."""
        await self._update(node, "State=RESUME")

    async def _update(self, node: str, *changes: str) -> None:
        try:
            await self._run("scontrol", "update", f"NodeName={node}", *changes)
        except CommandFailed as error:
            raise Conflict(
                f"Slurm did not change the node '{node}': {error.words}", code="drain_refused"
            ) from error

    async def _run(self, program: str, *arguments: str) -> str:
        """Return the output of a Slurm command. Raises `Unavailable`."""
        # If the daemon itself runs in a Slurm job, the jobs that it submits must not inherit the variables of
        # that job.
        environment = {
            **inherited("SBATCH_", "SLURM_JOB", "SLURM_STEP", "SLURM_TASK"),
            "SLURM_TIME_FORMAT": "%s",
        }
        try:
            status, out, err = await output_of((program, *arguments), environment, COMMAND_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable(
                f"Slurm's '{program}' did not respond within {COMMAND_TIMEOUT_S:g} s.", code="launcher_silent"
            ) from error
        except OSError as error:
            raise Unavailable(
                f"The launcher 'slurm' needs the command '{program}', which cannot be run "
                f"({error.strerror}). Run Portico on a login node of the cluster, or use the launcher "
                "'local'.",
                code="launcher_missing",
            ) from error
        if status:
            words = " ".join(err.split())[:MAX_REASON_CHARS]
            raise CommandFailed(program, words or f"it ended with status {status}")
        return out


def job_options(job: str, resources: Resources, folder: Path, options: SlurmOptions) -> list[str]:
    """Return the command line options for ``sbatch``, which take precedence over environment variables. Pure."""
    gpu = f":{resources.gpu_type}" if resources.gpu_type else ""
    asked_options = {
        "job-name": job,
        "output": str(folder / LOG).replace("%", "%%"),
        "chdir": str(folder),
        "nodes": str(resources.nodes) if resources.nodes > 1 else "",
        "ntasks": str(max(1, resources.nodes)),
        "ntasks-per-node": "1" if resources.nodes > 1 else "",
        "partition": resources.partition or options.partition,
        "account": options.account,
        "gres": f"gpu{gpu}:{resources.gpus}" if resources.gpus else options.gres,
        "cpus-per-task": str(resources.cpus or ""),
        "mem": f"{resources.memory_mb}M" if resources.memory_mb else "",
        "time": str(resources.minutes) if resources.minutes else options.time,
    }
    return [
        *(f"--{name}={value}" for name, value in asked_options.items() if value),
        "--no-requeue",  # the daemon itself resubmits a lost job, because the new agent has another address
        *_words_of("slurm_options", options.options),
    ]


def job_script(folder: Path, options: SlurmOptions) -> str:
    """Return the script for ``sbatch``. Pure. Raises `Unavailable` for invalid settings."""
    modules = options.modules.replace(",", " ").split()
    for module in modules:
        if not _MODULE.fullmatch(module):
            raise Unavailable(
                f"'{module}' in 'slurm_modules' is not a valid module name.", code="setting_invalid"
            )
    container = _words_of("slurm_container", options.container)
    return "\n".join(
        [
            "#!/bin/bash -l" if modules else "#!/bin/bash",
            *([f"module load {' '.join(modules)} || exit 1"] if modules else []),
            f"exec {shlex.join([*container, *agent_command(folder)])}",
            "",
        ]
    )


def _words_of(setting: str, text: str) -> list[str]:
    """Split a text into words, as a shell does."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise Unavailable(
            f"'{setting}' is not a valid command line: {error}.", code="setting_invalid"
        ) from error


_WORKLOAD_STATES: Final = ("ALLOCATED", "MIXED", "COMPLETING")
_DOWN_STATES: Final = ("DOWN", "FAIL", "UNKNOWN", "FUTURE", "NOT_RESPONDING")


def read_nodes(listing: str) -> list[ClusterNode]:
    """Parse the output of ``scontrol --oneliner show nodes`` of any Slurm version. Pure."""
    return [_node(line) for line in listing.splitlines() if line.startswith("NodeName=")]


def _node(line: str) -> ClusterNode:
    facts: dict[str, str] = {}
    for name, value in re.findall(r"(?:^| )(\w+)=(\S*)", line):
        # the first value counts, because text written by users (reason and comments) comes last
        facts.setdefault(name, value)
    detail = facts.get("State", "UNKNOWN")
    words = re.search(r" Reason=(.*?)(?: \[\S+@\S+\]|$)", line)
    sizes = re.findall(r"gpu(?::([\w.-]+))?:(\d+)", facts.get("Gres", ""))
    return ClusterNode(
        facts["NodeName"],
        _state(detail),
        facts.get("NodeAddr", ""),
        detail,
        words[1].strip() if words else "",
        _number(facts.get("CPUTot")) or 0,
        _number(facts.get("CPUAlloc")),
        _number(facts.get("RealMemory")) or 0,
        _number(facts.get("AllocMem")),
        sum(int(count) for _, count in sizes),
        _number((re.search(r"gres/gpu=(\d+)", facts.get("AllocTRES", "")) or ["", "0"])[1]),
        tuple(dict.fromkeys(kind for kind, _ in sizes if kind)),
        tuple(filter(None, facts.get("Partitions", "").split(","))),
    )


def _state(detail: str) -> NodeState:
    """Parse a state such as ``MIXED+DRAIN*``, where the star means that the node does not respond.

    https://slurm.schedmd.com/sinfo.html
    """
    words = re.split(r"[^A-Z_]+", detail.upper())
    if "*" in detail or any(word in words for word in _DOWN_STATES):
        return "down"
    works = any(word in words for word in _WORKLOAD_STATES)
    if any(word.startswith("DRAIN") for word in words):
        return "draining" if works or "DRAINING" in words else "drained"
    return "busy" if works else "idle"


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def read_job(listing: str, folder: Path) -> JobLook:
    """Return the state of a job from the output of ``squeue``, with the address that the job's agent has written.
    Blocks.
    """
    rows = [line.split("|") for line in listing.splitlines() if line.count("|") == 3]
    if not rows:
        return JobLook("ended", last_words(folder / LOG) or "Slurm no longer knows the job")
    number, state, reason, end = max(rows, key=lambda row: int(re.sub(r"\D.*", "", row[0]) or 0))
    if state in _WAITING:
        return JobLook("ended" if reason in _HOPELESS else "queued", reason)
    if state not in _WORKING:
        words = last_words(folder / LOG)
        return JobLook("ended", f"job {number}: {state}{f'; {words}' if words else ''}")
    return replace(read_address(folder), ends_at=float(end) if end.isdecimal() else None)
