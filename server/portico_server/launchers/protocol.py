"""What starts a process and what is known of it then, wherever it runs.

A launcher places nothing itself: a scheduler does, or there is one machine. The daemon speaks to what runs.
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
"""Bytes of one line of a process's output, unless its order says otherwise."""


MAX_RESOURCE_COUNT: Final = 1_000_000_000
"""More than any scheduler has of anything."""


def check_launcher(name: str) -> None:
    """Raise `InvalidRequest` unless there is a launcher of this name; the empty one is the setting's."""
    if name and name not in LAUNCHERS:
        raise InvalidRequest(
            f"There is no launcher '{name[:80]}'. Launchers are: {', '.join(LAUNCHERS)}.{nearest(name, LAUNCHERS)}",
            param="launcher",
        )


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process asks a scheduler for; 0 or empty leaves it to the scheduler's settings. ``minutes`` is how long it
    may run: a process that reaches its time limit is replaced. ``partition`` is Slurm's. ``nodes``: on how many a
    training runs; the others are those of each node.
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
        """From a configuration or a request. Raises `InvalidRequest` that names the field."""
        kinds = {item.name: type(item.default) for item in fields(cls)}
        for name, value in given_fields.items():
            if name not in kinds:
                raise InvalidRequest(
                    f"'resources' has no field '{str(name)[:80]}'; it has {', '.join(kinds)}."
                    f"{nearest(str(name), kinds)}",
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
    """A process to start. ``name`` is what errors call it; its standard error goes to the file ``log``.

    ``environment`` is set in addition to what the process inherits, of which variables with one of the prefixes
    ``without`` are left out. What it reads must be there under the same paths where it runs. ``line_bytes`` is the
    longest line that it writes. ``fingerprint`` is the same for processes that may stand for each other; without one
    it is never taken over by a later daemon. ``sessions``: it starts processes in sessions of their own, which end
    with it and get its signals. ``on_wait`` hears why it does not run yet.
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
    """A process that was started: its standard input and output as lines, its log, its end.

    ``host`` is the address on which it may listen and is reached. ``node`` is its scheduler's name of that machine,
    empty on the daemon's own. ``token`` is a secret for it alone. ``adopted``: an earlier daemon started it, so it has
    its input already.
    ``ends_at`` is when its scheduler ends it, in seconds since 1970. ``pid`` is its number on this machine, ``None``
    if it runs elsewhere. ``on_log`` hears each piece of its log.
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
        """``None`` while it runs; negative if a signal ended it."""

    async def send(self, line: bytes) -> None:
        """Write to its standard input. One that has ended does not read it."""

    def lines(self) -> AsyncIterator[bytes]:
        """What it writes to standard output, until it ends."""

    def log_lines(self, count: int) -> list[str]:
        """The last lines of its log, oldest first."""

    def exit_description(self) -> str:
        """How it ended, as the second half of a sentence."""

    def signal(self, number: signal.Signals) -> None:
        """To it and all that it started."""

    async def wait(self) -> None:
        """Until it has ended, for whatever reason."""

    async def wait_for_log(self) -> None:
        """After its end, until its log is complete, or for a moment."""

    async def stop(self, grace_s: float) -> None:
        """End it and all that it started: first politely, after ``grace_s`` seconds not. Returns when it is gone."""


NodeState = Literal["idle", "busy", "draining", "drained", "down"]


@runtime_checkable
class ListsNodes(Protocol):
    """A scheduler that says what machines it has."""

    async def nodes(self) -> Sequence[ClusterNode]:
        """All of them. Raises `PorticoError` with the scheduler's own words."""


@runtime_checkable
class DrainsNodes(Protocol):
    """A scheduler that takes machines out of use politely. Both raise `PorticoError` with the scheduler's own words."""

    async def drain(self, node: str, reason: str) -> None:
        """Have nothing more started there. What runs there continues."""

    async def resume(self, node: str) -> None:
        """Use it again."""


class Launcher(Protocol):
    """Starts processes on one kind of machines."""

    @property
    def name(self) -> str: ...

    @property
    def here(self) -> bool:
        """Whether its processes run on the daemon's machine; elsewhere memory and GPUs are the scheduler's."""

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """Start it; returns once it runs. Raises `PorticoError`; nothing is left behind then or when cancelled."""

    def jobs(self) -> Sequence[ClusterJob]:
        """What it starts and has started, as far as it has not ended."""


def describe_exit(code: int | None) -> str:
    """How a process ended, by its status, as the second half of a sentence."""
    if code is None:
        return "is running"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
