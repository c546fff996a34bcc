"""Runs uv with the package indexes that the user of this machine has configured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.subprocesses import own_interpreter, run_isolated

StepReport: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Progress callback: ``(stage, description)``; stages are python, packages, check and others, and the description of
the current step is short.
"""

_LEASH: Final = tuple(run_isolated("-S", str(Path(__file__).with_name("leash.py"))))
"""Prefix of a step's command, which kills the command when the daemon ends, however it ends."""

_LINES: Final = 20
_LISTED: Final = ("+ ", "- ", "~ ")
"""Prefixes of the lines in which uv lists installed packages, which are not shown."""


class StepFailedError(PorticoError):
    """A build step failed; the message is the last part of its output."""


async def silent(_stage: str, _words: str) -> None:
    """Ignore progress, as a `StepReport`."""


def find_uv() -> str:
    """Return the path of the uv executable. Raises `Unavailable` if it is not where the uv package says."""
    from uv import find_uv_bin  # imported only when an environment is built

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise Unavailable(
            "The uv executable, which builds environments, is not where its package says. Install it again: "
            f"'{own_interpreter()} -m pip install --force-reinstall uv'.",
            code="uv_missing",
        ) from error


async def run_step(
    command: Sequence[str],
    stage: str,
    report: StepReport,
    *,
    folder: Path,
    env: Mapping[str, str] | None = None,
) -> list[str]:
    """Run one step in ``folder`` and return the last lines of its output. The step is stopped if the caller is
    cancelled or the daemon ends.

    Raises `StepFailedError`.
    """
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "VIRTUAL_ENV"))
    }
    variables.setdefault("UV_SYSTEM_CERTS", "1")  # trust the system's certificates, as pip does
    process = await asyncio.create_subprocess_exec(
        *_LEASH,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**variables, **(env or {})},
        cwd=folder,
        start_new_session=True,  # Ctrl-C then reaches only the daemon, which ends this process
    )
    assert process.stdin is not None
    assert process.stdout is not None
    words: list[str] = []
    try:
        async for line in process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if text:
                words = [*words[1 - _LINES :], text]
                if not text.startswith(_LISTED):
                    await report(stage, text[:200])
        code = await process.wait()
    finally:
        process.stdin.close()  # ends the step and the package builds that it started
        await process.wait()
    if code != 0:
        raise StepFailedError(" ".join(words)[-800:] or f"exit status {code}", code="environment_failed")
    return words
