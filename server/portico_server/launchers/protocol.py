"""What starts a process and what is known of it then, wherever it runs.

A launcher places nothing itself: a scheduler does, or there is one machine. The daemon speaks to what runs.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

LINE_BYTES: Final = 64 * 1024
"""Bytes of one line of a process's output, unless its order says otherwise."""


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """A process to start. ``name`` is what errors call it; its standard error goes to the file ``log``.

    ``environment`` is set in addition to what the process inherits, of which variables with one of the prefixes
    ``without`` are left out. ``files`` must be readable under the same paths where it runs. ``line_bytes`` is the
    longest line that it writes.
    """

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    line_bytes: int = LINE_BYTES


class LaunchedProcess(Protocol):
    """A process that was started: its standard input and output as lines, its log, its end.

    ``host`` is where its ports are reached, ``token`` a secret for it alone. ``pid`` is its number on this machine,
    ``None`` if it runs elsewhere. ``on_log`` hears each piece of its log.
    """

    host: str
    token: str
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


class Launcher(Protocol):
    """Starts processes on one kind of machines."""

    @property
    def name(self) -> str: ...

    async def launch(self, order: LaunchOrder) -> LaunchedProcess:
        """Start it; returns once it runs. Raises `PorticoError`; nothing is left behind then or when cancelled."""


def describe_exit(code: int | None) -> str:
    """How a process ended, by its status, as the second half of a sentence."""
    if code is None:
        return "is running"
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with status {code}"
