"""What runs notebooks, seen from outside: a sandbox opens kernels, a kernel runs cells.

The one implementation here is `portico_server.tools.sandbox.local`. A sandbox on another machine is another one:
nothing above this module knows where a kernel runs, or what it needs to run there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol, TypeAlias

from portico_server.core.dataclass import dataclass

MB = 2**20

MAX_PATH_CHARS = 255

MAX_COMMANDS = 50
"""Commands of one cell."""


def is_path(text: str) -> bool:
    """Whether it is the path of a file in a working folder: relative, and without a way out of it."""
    fits = text.isprintable() and "\\" not in text and len(text.encode()) <= MAX_PATH_CHARS
    return fits and not any(part in ("", ".", "..") for part in text.split("/"))


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one kernel may use, all its processes together unless it says otherwise."""

    seconds: float = 60.0
    """Wall time of a cell."""
    memory: int = 1024 * MB
    processes: int = 64
    disk: int = 256 * MB
    """Bytes of its working folder; as much again is shared memory and temporary files. All of it is memory."""
    inodes: int = 20_000
    """Files in each of its folders."""
    output: int = 64 * 1024
    """Characters of printed text, and of the value, that are passed on."""
    artifacts: int = 16 * MB
    """Bytes of all files that one cell may hand over."""
    artifact_count: int = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """Code, and files to lay into the working folder before it runs: name to content.

    ``skills`` are folders that it finds below ``/skills`` and cannot change: by their names, the files by their paths.
    """

    code: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    skills: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    """Commands of a shell, one after the other, in place of code."""
    seconds: float | None = None
    """What all commands together may take, if that is less than a cell may."""
    fetch: str = ""
    """A file of the working folder that is handed over, in place of code."""
    remove: str = ""
    """A file of the working folder that is deleted, in place of code."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command wrote; ``exit_code`` is ``None`` for one that took too long."""

    stdout: str
    stderr: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Product:
    """A figure or a file that a cell made: its plain name, and its path in the working folder."""

    name: str
    data: bytes
    path: str = ""


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """What a cell printed, its value as text, the error that ended it, and what it made.

    ``notes`` are sentences about what the sandbox did: stopped it, left something out.
    """

    output: str = ""
    value: str | None = None
    error: str | None = None
    products: Sequence[Product] = ()
    gone: Sequence[str] = ()
    """Files that were there before the cell."""
    results: Sequence[CommandResult] = ()
    notes: Sequence[str] = ()


class Kernel(Protocol):
    """One interpreter with its state, in a place that it cannot leave."""

    @property
    def alive(self) -> bool: ...

    async def run(self, cell: Cell) -> CellOutcome:
        """Run a cell; one at a time. Cancelling interrupts the cell and keeps the state, if the code obeys.

        A cell that breaks a limit is an outcome with an error; the kernel may be dead then.
        """

    async def stop(self) -> None:
        """End it and everything that it started. Returns when it is gone."""


Report: TypeAlias = Callable[[str], Awaitable[None]]
"""Told what is continuing, in a few words."""


class Sandbox(Protocol):
    """A place for kernels."""

    def missing(self) -> str | None:
        """The sentence that says what to do before it can work here, or ``None`` if it can."""

    async def prepare(self, report: Report) -> None:
        """Have what is needed before the first kernel; ``report`` is told if that takes long. Raises `Unavailable`."""

    async def open(self, limits: SandboxLimits) -> Kernel:
        """A fresh kernel, ready for its first cell. Raises `Unavailable`."""
