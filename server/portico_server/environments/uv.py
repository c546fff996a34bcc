"""Runs uv with the package indexes that this machine's user has configured."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.subprocesses import own, run_isolated

StepReport: TypeAlias = Callable[[str, str], Awaitable[None]]
"""Told the stage (python, packages, check …) and what continues, in a few words."""

_LEASH: Final = tuple(run_isolated("-S", str(Path(__file__).with_name("leash.py"))))
"""What a step is run by: it ends with the daemon, however that ends."""

_LINES: Final = 20
_LISTED: Final = ("+ ", "- ", "~ ")
"""How uv lists what it has installed: dozens of lines that nobody follows."""


class StepFailedError(PorticoError):
    """A step of a build ended badly; its message is what the step said last."""


async def silent(_stage: str, _words: str) -> None:
    """A `StepReport` for steps that nobody follows."""


def find_uv() -> str:
    """Where uv is. Raises `Unavailable` if it is not where its package says."""
    from uv import find_uv_bin  # only who builds an environment needs it

    try:
        return find_uv_bin()
    except FileNotFoundError as error:
        raise Unavailable(
            "Environments are built by uv, which is not where its package says. Install it again: "
            f"'{own()} -m pip install --force-reinstall uv'.",
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
    """Run one step in ``folder`` to its end; its last words. Ended when the caller is cancelled or the daemon is gone.

    Raises `StepFailedError`.
    """
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "VIRTUAL_ENV"))
    }
    variables.setdefault("UV_SYSTEM_CERTS", "1")  # trust what the system trusts, as pip does
    process = await asyncio.create_subprocess_exec(
        *_LEASH,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**variables, **(env or {})},
        cwd=folder,
        start_new_session=True,  # Ctrl-C is for the daemon, which then ends this
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
        process.stdin.close()  # ends it, and what builds a package for it
        await process.wait()
    if code != 0:
        raise StepFailedError(" ".join(words)[-800:] or f"exit status {code}", code="environment_failed")
    return words
