"""Command lines of Python interpreters: the only place that builds them.

``python -m`` and ``python -c`` put the current folder first on the module path, and a script its own folder. The
daemon can be started in folders to which anybody may have written: a file ``mcp.py`` there must never be imported. A
test searches for command lines that are built elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

SAFE_PATH: Final = {"PYTHONSAFEPATH": "1"}
"""Environment that protects, in the same way, interpreters that a child process starts."""

OFFLINE_ENVIRONMENT: Final[Mapping[str, str]] = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONUNBUFFERED": "1",
}
"""Environment of programs that process a model's files: they need no network access and report nothing."""


def run_module(name: str, *arguments: str, python: Path | str = "") -> list[str]:
    """Return a command that runs a module with ``python``, by default the daemon's own interpreter."""
    return [str(python or sys.executable), *module(name, *arguments)]


def module(name: str, *arguments: str) -> list[str]:
    """Return the arguments that follow the interpreter in a `run_module` command."""
    return ["-P", "-m", name, *arguments]


def run_script(path: Path, *arguments: str, python: Path | str = "") -> list[str]:
    """Return a command that runs a file with the environment's packages, but without importing files next to it.

    ``python`` can be older than 3.11, which has no ``-P``: the script then removes its folder from its path itself.
    """
    return [str(python or sys.executable), str(path), *arguments]


def run_isolated(*arguments: str, python: Path | str = "") -> list[str]:
    """Return a command that runs a script, or ``-c`` with a statement, isolated from the environment and user
    packages.
    """
    return [str(python or sys.executable), "-I", *arguments]


def own_interpreter() -> str:
    """Return the interpreter that runs the daemon, for advice in messages."""
    return sys.executable


def base() -> str:
    """Return the interpreter for creating environments. It is outside any virtual environment, which may be deleted."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


async def output_of(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float, *, input_data: bytes = b""
) -> tuple[int, str, str]:
    """Return the status, output and errors of a program that reads ``input_data``. Cancellation stops the program.

    Raise `OSError` if the program cannot be started, and `TimeoutError`.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if input_data else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(input_data or None)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    assert process.returncode is not None
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")
