"""Runs uv with the package indexes that this machine's user has configured."""

from __future__ import annotations

import ast
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from portico_server.core.errors import PorticoError, Unavailable
from portico_server.subprocesses import own, run_isolated, run_module

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
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("PORTICO_", "VIRTUAL_ENV"))
    }
    ours.setdefault("UV_SYSTEM_CERTS", "1")  # trust what the system trusts, as pip does
    process = await asyncio.create_subprocess_exec(
        *_LEASH,
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**ours, **(env or {})},
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


# Where this machine's user takes packages from: uv's own configuration, or pip's, said to uv.


_UV_VARIABLES: Final = (
    *("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS"),
    *("UV_NO_INDEX", "UV_CONFIG_FILE"),
)
_UV_WORDS: Final = ("index", "find-links")

_ONE: Final = {"index-url": "--default-index"}
_SEVERAL: Final = {
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "trusted-host": "--allow-insecure-host",
}


async def own_sources(folder: Path) -> tuple[str, ...] | None:
    """uv's arguments for the indexes and folders that the user has set up; ``None`` if nothing was.

    Empty where uv itself is set up: it reads that by itself. ``folder``: where pip may be run.
    """
    if is_uv_set_up(os.environ):
        return ()
    try:
        lines = await run_step(run_module("pip", "config", "list"), "packages", silent, folder=folder)
    except StepFailedError:  # there is no pip, or its files are damaged: the usual index is left
        return None
    return uv_arguments(lines) or None


def is_uv_set_up(environment: Mapping[str, str]) -> bool:
    """Whether a variable or a file sets where uv takes packages from."""
    if any(environment.get(name) for name in _UV_VARIABLES):
        return True
    home = environment.get("XDG_CONFIG_HOME") or str(
        Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    files = [Path(home, "uv", "uv.toml")]
    if sys.platform != "win32":
        files.append(Path("/etc/uv/uv.toml"))
    return any(any(word in _text(file) for word in _UV_WORDS) for file in files)


def uv_arguments(lines: Sequence[str]) -> tuple[str, ...]:
    """``pip config list`` as arguments of uv. Variables go before files, and ``install.`` before ``global.``."""
    found: dict[str, str] = {}
    for rank in ("global.", "install.", ":env:."):
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and key.startswith(rank):
                try:
                    found[key.removeprefix(rank)] = str(ast.literal_eval(value))
                except (ValueError, SyntaxError):
                    continue
    arguments: list[str] = []
    for name, option in _ONE.items():
        if words := found.get(name, "").split():
            arguments += [option, words[-1]]
    for name, option in _SEVERAL.items():
        for word in found.get(name, "").split():
            arguments += [option, word]
    if found.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")
    named = any(
        option in arguments for option in ("--default-index", "--index", "--find-links", "--no-index")
    )
    return tuple(arguments) if named else ()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
