"""The interface of notebook sandboxes: a sandbox opens kernels, a kernel runs cells.

The only implementation is `portico_server.features.sandbox.local`. A sandbox on another machine would be a second
implementation: nothing above this module knows where a kernel runs, or what a kernel needs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import field
from typing import Protocol, TypeAlias

from portico_server.core.dataclass import dataclass

MB = 2**20

MAX_PATH_CHARS = 255

MAX_COMMANDS = 50
"""Maximum number of commands in one cell."""


def is_path(text: str) -> bool:
    """Return whether the text is a valid path in a working folder: relative, and never outside the folder."""
    fits = text.isprintable() and "\\" not in text and len(text.encode()) <= MAX_PATH_CHARS
    return fits and not any(part in ("", ".", "..") for part in text.split("/"))


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """The limits of one kernel, for all its processes together unless stated otherwise."""

    seconds: float = 60.0
    """Wall time of a cell, in seconds."""
    memory: int = 1024 * MB
    processes: int = 64
    disk: int = 256 * MB
    """Size of the working folder in bytes. Shared memory and temporary files have the same limit. All these files are
    in memory.
    """
    inodes: int = 20_000
    """Maximum number of files in each of the kernel's folders."""
    output: int = 64 * 1024
    """Maximum characters that are returned, of the printed text and of the value."""
    artifacts: int = 16 * MB
    """Maximum total size of the files that one cell can return, in bytes."""
    artifact_count: int = 20


@dataclass(frozen=True, slots=True)
class Cell:
    """Code, and files that are written to the working folder before the code runs (name to content).

    ``skills`` are read-only folders below ``/skills``, keyed by name. Each maps paths to the contents of files.
    """

    code: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    skills: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    commands: tuple[str, ...] = ()
    """Shell commands to run one after another, instead of code."""
    seconds: float | None = None
    """Timeout of all commands together, in seconds, if it is less than the limit of a cell."""
    fetch: str = ""
    """A file of the working folder to return, instead of code."""
    remove: str = ""
    """A file of the working folder to delete, instead of code."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The output of a command; ``exit_code`` is ``None`` for a command that took too long."""

    stdout: str
    stderr: str
    exit_code: int | None


@dataclass(frozen=True, slots=True)
class Product:
    """A figure or a file that a cell created: its file name, and its path in the working folder."""

    name: str
    data: bytes
    path: str = ""


@dataclass(frozen=True, slots=True)
class CellOutcome:
    """The output of a cell, its value as text, the error that ended it, and the files that it created.

    ``notes`` are sentences about what the sandbox did, for example that it stopped the cell or left out a file.
    """

    output: str = ""
    value: str | None = None
    error: str | None = None
    products: Sequence[Product] = ()
    gone: Sequence[str] = ()
    """Files that the cell deleted."""
    results: Sequence[CommandResult] = ()
    notes: Sequence[str] = ()


class Kernel(Protocol):
    """A stateful interpreter in a sandbox."""

    @property
    def alive(self) -> bool: ...

    async def run(self, cell: Cell) -> CellOutcome:
        """Run one cell at a time. Cancelling interrupts the cell and keeps the kernel's state, if the code responds.

        If a cell exceeds a limit, the outcome contains an error, and the kernel may have ended.
        """

    async def stop(self) -> None:
        """Stop the kernel and everything that it started. Return once all of it has ended."""


Report: TypeAlias = Callable[[str], Awaitable[None]]
"""Callback with a short text about the current activity."""


class Sandbox(Protocol):
    """A factory of kernels."""

    def missing(self) -> str | None:
        """Return a sentence that says what to do so that the sandbox can work on this machine, or ``None`` if it
        can.
        """

    async def prepare(self, report: Report) -> None:
        """Prepare what the first kernel needs. ``report`` is called if the preparation takes long. Raise
        `Unavailable`.
        """

    async def open(self, limits: SandboxLimits) -> Kernel:
        """Return a new kernel, ready for its first cell. Raise `Unavailable`."""
