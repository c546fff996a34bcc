"""Programs that a tool runs: little of our environment, an end that holds, output that is bounded."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from portico_server.core.errors import PorticoError

MAX_OUTPUT_BYTES: Final = 1024 * 1024
"""Bytes of output, and of errors, that are kept; the rest is read and dropped."""

_HANDED_ON: Final = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR")


KEY_VARIABLE: Final = "PORTICO_IDEMPOTENCY_KEY"
"""In the environment of a command: the key of the call, if it has one; of a function, while it is called."""


@dataclass(frozen=True, slots=True)
class FinishedProcess:
    """How a program ended, and what it wrote."""

    code: int
    out: str
    err: str
    truncated: bool


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """What a tool's program gets: where programs and the home folder are, the language, and what was declared."""
    return {**{name: os.environ[name] for name in _HANDED_ON if name in os.environ}, **more}


async def start(
    command: Sequence[str], env: Mapping[str, str], folder: str, *, stdin: int = DEVNULL, stderr: int = PIPE
) -> Process:
    """Start a program in a session of its own. Raises `PorticoError` in words if it cannot be."""
    try:
        return await asyncio.create_subprocess_exec(
            *_mortal(command),
            stdin=stdin,
            stdout=PIPE,
            stderr=stderr,
            env=environment(env),
            cwd=folder or None,
            start_new_session=True,
            limit=16 * MAX_OUTPUT_BYTES,
        )
    except OSError as error:
        raise PorticoError(
            f"'{command[0]}' cannot be started: {error.strerror or error}.", code="program_failed"
        ) from error


def _mortal(command: Sequence[str]) -> Sequence[str]:
    """A command that ends even with a daemon that is killed, where the system has a way to say so."""
    guard = shutil.which("setpriv") if sys.platform == "linux" else None
    if guard is None or shutil.which(command[0]) is None:  # what is not there must fail in its own name
        return command
    return (guard, "--pdeathsig", "KILL", "--", *command)


async def finish(process: Process) -> FinishedProcess:
    """Read all that a program writes until it ends. It does not outlive a caller who leaves."""
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        (out, more), (err, _more) = await asyncio.gather(_read(process.stdout), _read(process.stderr))
        return FinishedProcess(await process.wait(), out, err, more)
    finally:
        await end(process)


async def end(process: Process) -> None:
    """Kill a program and all that it has started in its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


async def _read(stream: asyncio.StreamReader) -> tuple[str, bool]:
    kept = bytearray()
    total = 0
    while chunk := await stream.read(65_536):
        total += len(chunk)
        kept += chunk[: MAX_OUTPUT_BYTES - len(kept)]
    return kept.decode("utf-8", "replace"), total > MAX_OUTPUT_BYTES
