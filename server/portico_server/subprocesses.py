"""Command lines of Python interpreters: the only place that makes them.

``python -m`` and ``python -c`` put the current folder first on the module path, and a script its own folder. The daemon
is started in folders that anybody may have written to: a file ``mcp.py`` there must never be imported. A test looks for
command lines that are made elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from portico.wire import is_loopback

SAFE_PATH: Final = {"PYTHONSAFEPATH": "1"}
"""The same for interpreters that a child starts by itself."""


def run_module(name: str, *arguments: str, python: Path | str = "") -> list[str]:
    """Runs a module with ``python``, by default the daemon's own."""
    return [str(python or sys.executable), *module(name, *arguments)]


def module(name: str, *arguments: str) -> list[str]:
    """What follows the interpreter in `run_module`."""
    return ["-P", "-m", name, *arguments]


def run_script(path: Path, *arguments: str, python: Path | str = "") -> list[str]:
    """Runs a file that may import what the environment offers, but not what lies beside it.

    ``python`` may be older than 3.11, which has no ``-P``: the script takes its folder from its path itself.
    """
    return [str(python or sys.executable), str(path), *arguments]


def run_isolated(*arguments: str, python: Path | str = "") -> list[str]:
    """Runs a script, or ``-c`` with a statement, without anything from the environment or the user's own packages."""
    return [str(python or sys.executable), "-I", *arguments]


def own() -> str:
    """The interpreter that runs the daemon, for advice in messages."""
    return sys.executable


def base() -> str:
    """The interpreter from which environments are made: not that of a virtual environment, which may go away."""
    return str(getattr(sys, "_base_executable", "") or sys.executable)


async def output_of(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float, *, given: bytes = b""
) -> tuple[int, str, str]:
    """The status, output and errors of a program that reads ``given``; nothing of it is left when it is cancelled.

    Raises `OSError` if it cannot be started and `TimeoutError`.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE if given else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(given or None)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await asyncio.shield(process.wait())
    assert process.returncode is not None
    return process.returncode, out.decode("utf-8", "replace"), err.decode("utf-8", "replace")


# What of our environment a child process gets, and what of it is about proxies.


_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
"""Ends of names whose values no model and no training has any business with."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOCAL = ("localhost", "127.0.0.1", "::1")


_for_daemon: set[str] = set()
"""Names of variables that we have set for this process alone."""


def set_for_daemon(name: str, value: str) -> None:
    """Set a variable of our environment which the operator has not set; what `inherited` gives lacks it."""
    if name not in os.environ:
        os.environ[name] = value
        _for_daemon.add(name)


def inherited(*without: str) -> dict[str, str]:
    """Our environment less our own settings, secrets, and what begins with one of the prefixes ``without``.

    Interpreters that the child starts keep the current folder off their module path.
    """
    ours = {
        name: value
        for name, value in {**os.environ, **unproxied(os.environ)}.items()
        if not name.startswith(("PORTICO_", *without))
        and not name.upper().endswith(_SECRET)
        and name not in _for_daemon
    }
    return {**ours, **SAFE_PATH}


def is_local(host: str | None) -> bool:
    """Whether a host of a URL is this machine, which no proxy can reach for us."""
    return is_loopback((host or "").strip("[]").rstrip("."))


def unproxied(environment: Mapping[str, str]) -> dict[str, str]:
    """``NO_PROXY`` in both spellings, completed by this machine; empty if ``environment`` names no proxy."""
    values = {name.lower(): value for name, value in environment.items() if value}
    if not any(name in values for name in _PROXIES):
        return {}
    given = [environment.get(name, "") for name in ("no_proxy", "NO_PROXY")]
    hosts = dict.fromkeys(host for text in given for host in text.replace(" ", ",").split(",") if host)
    if "*" in hosts:
        return {}
    value = ",".join(dict.fromkeys((*hosts, *_LOCAL)))
    return {"no_proxy": value, "NO_PROXY": value}


# What a child process writes to standard error: its last lines, and a bounded log on disk.


LOG_BYTES: Final = 4 * 1024 * 1024
"""What a log may have before it starts again."""


async def transcribe(
    stream: asyncio.StreamReader, path: Path, lines: deque[str], on_text: Callable[[str], None] | None = None
) -> None:
    """Copy ``stream`` to the file ``path`` and, line by line, to ``lines``, until it ends.

    ``heard`` is called with each piece as it comes, whole lines or not.
    """
    rest = b""
    with path.open("ab") as file:
        while data := await stream.read(65_536):
            if file.tell() > LOG_BYTES:
                file.truncate(0)
            file.write(data)
            file.flush()
            if on_text is not None:
                on_text(data.decode("utf-8", "replace"))
            *whole, rest = (rest + data).split(b"\n")
            lines.extend(line.decode("utf-8", "replace") for line in whole)
            rest = rest[-65_536:]
    if rest:
        lines.append(rest.decode("utf-8", "replace"))
