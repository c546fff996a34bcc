"""Interfaces for starting processes, and for information about them, on whatever machine they run.

A launcher does not choose the machine of a process: a scheduler does, unless there is only one machine. The daemon
communicates with the running process directly.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from portico.schemas.cluster import ClusterJob, ClusterNode
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.settings import LAUNCHERS

LINE_BYTES: Final = 64 * 1024
"""Default maximum length of a process's output line, in bytes."""


MAX_RESOURCE_COUNT: Final = 1_000_000_000
"""Maximum amount of a resource that can be requested, more than any scheduler has."""


def check_launcher(name: str) -> None:
    """Raise `InvalidRequest` unless the launcher exists. An empty name means the launcher in the settings."""
    if name and name not in LAUNCHERS:
        raise InvalidRequest(
            f"Unknown launcher '{name[:80]}'. Choose one of {', '.join(LAUNCHERS)}.{nearest(name, LAUNCHERS)}",
            param="launcher",
        )


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources that a process requests from a scheduler. 0 or an empty string selects the scheduler's default.

    ``minutes`` is the maximum run time; a process that reaches it is replaced. ``partition`` is for Slurm. ``nodes``
    is the number of nodes of one job; all other values are per node.
    """

    cpus: int = 0
    gpus: int = 0
    gpu_type: str = ""
    memory_mb: int = 0
    minutes: int = 0
    partition: str = ""
    nodes: int = 0

    @classmethod
    def parse(cls, given_fields: Mapping[str, Any]) -> Resources:
        """Parse resources from a configuration or a request. Raise `InvalidRequest` that names the field."""
        kinds = {item.name: type(item.default) for item in fields(cls)}
        for name, value in given_fields.items():
            if name not in kinds:
                raise InvalidRequest(
                    f"'resources' has no field '{str(name)[:80]}'; valid fields are "
                    f"{', '.join(kinds)}.{nearest(str(name), kinds)}",
                    code="unknown_field",
                    param=f"resources.{str(name)[:80]}",
                )
            if kinds[name] is int:
                fits = type(value) is int and 0 <= value <= MAX_RESOURCE_COUNT
            else:
                fits = (
                    isinstance(value, str)
                    and value.replace("-", "").replace("_", "").replace(".", "").isalnum()
                )
            if not fits:
                raise InvalidRequest(
                    f"'resources.{name}' must be {'a whole number ≥ 0' if kinds[name] is int else 'a name'}, not "
                    f"{str(value)[:80]!r}.",
                    param=f"resources.{name}",
                )
        return cls(**given_fields)


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """A process to start. ``name`` is the name of the process in errors. Its standard error is written to the file
    ``log``.

    ``environment`` is added to the inherited variables, except those with a prefix in ``without``. The files that the
    process reads must exist under the same paths on its machine. ``line_bytes`` is the maximum length of its output
    lines. ``fingerprint`` is equal for interchangeable processes; without a fingerprint, a later daemon never takes
    the process over. ``sessions`` means that the process starts children in separate sessions, which receive its
    signals and end with it. ``on_wait`` receives the reason why the process is not running yet.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    line_bytes: int = LINE_BYTES
    resources: Resources = Resources()
    fingerprint: str = ""
    sessions: bool = False
    on_wait: Callable[[str], None] | None = None


class LaunchedProcess(Protocol):
    """A started process, with its standard input and output as lines, its log and its exit status.

    ``host`` is the address on which the process may listen and can be accessed. ``node`` is the scheduler's name of
    the machine, empty for the daemon's own. ``token`` is a secret for this process only. ``adopted`` means that an
    earlier daemon started the process, so the process has already received its input.

    ``ends_at`` is the time at which the scheduler will end the process, in seconds since 1970. ``pid`` is the process
    id on this machine, or ``None`` if the process runs on another machine. ``on_log`` receives each piece of the log.
    """

    host: str
    node: str
    token: str
    adopted: bool
    ends_at: float | None
    on_log: Callable[[str], None] | None

    @property
    def pid(self) -> int | None: ...

    @property
    def returncode(self) -> int | None:
        """The exit status: ``None`` while the process runs, and negative if a signal ended it."""

    async def send(self, line: bytes) -> None:
        """Write a line to the standard input of the process. Has no effect if the process has ended."""

    def lines(self) -> AsyncIterator[bytes]:
        """Yield the lines of standard output until the process ends."""

    def log_lines(self, count: int) -> list[str]:
        """Return the last lines of the log, oldest first."""

    def exit_description(self) -> str:
        """Describe how the process ended, in words that complete a sentence about it."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all its children."""

    async def wait(self) -> None:
        """Wait until the process has ended for any reason."""

    async def wait_for_log(self) -> None:
        """After the process has ended, wait briefly until its log is complete."""

    async def stop(self, grace_s: float) -> None:
        """Ask the process and its children to end, and kill them after ``grace_s`` seconds. Returns once they have
        ended.
        """


NodeState = Literal["idle", "busy", "draining", "drained", "down"]


@runtime_checkable
class ListsNodes(Protocol):
    """A scheduler that can list its nodes."""

    async def nodes(self) -> Sequence[ClusterNode]:
        """Return all nodes. Raises `PorticoError` with the scheduler's own message."""


@runtime_checkable
class DrainsNodes(Protocol):
    """A scheduler that can drain nodes. Both methods raise `PorticoError` with the scheduler's own message."""

    async def drain(self, node: str, reason: str) -> None:
        """Stop starting processes on a node. Running processes continue."""

    async def resume(self, node: str) -> None:
        """Return a drained node to use."""


class Launcher(Protocol):
    """Starts processes on one kind of machine."""

    @property
    def name(self) -> str: ...

    @property
    def here(self) -> bool:
        """Return whether processes run on the daemon's machine. If not, the scheduler manages memory and GPUs."""

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """Start a process, and return once it runs. Raises `PorticoError`. If the start fails or is cancelled, nothing
        is left behind.
        """

    def jobs(self) -> Sequence[ClusterJob]:
        """Return the jobs of this launcher that have not ended."""


def describe_exit(code: int | None) -> str:
    """Describe how a process with this exit status ended, in words that complete a sentence about it."""
    if code is None:
        return "is running"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
