"""The package sources of the user on this machine: uv's own configuration, or pip's, converted for uv."""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from portico_server.environments.uv import StepFailedError, run_step, silent
from portico_server.subprocesses import run_module

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
    """Return uv's arguments for the indexes and folders that the user has configured for pip; ``None`` if none are
    configured.

    The result is empty if uv itself is configured, because uv reads its own configuration. ``folder`` is a folder in
    which pip can run.
    """
    if is_uv_set_up(os.environ):
        return ()
    try:
        lines = await run_step(run_module("pip", "config", "list"), "packages", silent, folder=folder)
    except StepFailedError:  # pip is missing or its files are damaged, so use the default index
        return None
    return uv_arguments(lines) or None


def is_uv_set_up(environment: Mapping[str, str]) -> bool:
    """Return whether an environment variable or a file configures uv's package sources."""
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
    """Convert the output of ``pip config list`` to uv's arguments. Variables override files, and ``install.``
    overrides ``global.``.
    """
    settings: dict[str, str] = {}
    for rank in ("global.", "install.", ":env:."):
        for line in lines:
            key, equals, value = line.partition("=")
            if equals and key.startswith(rank):
                try:
                    settings[key.removeprefix(rank)] = str(ast.literal_eval(value))
                except (ValueError, SyntaxError):
                    continue
    arguments: list[str] = []
    for name, option in _ONE.items():
        if words := settings.get(name, "").split():
            arguments += [option, words[-1]]
    for name, option in _SEVERAL.items():
        for word in settings.get(name, "").split():
            arguments += [option, word]
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        arguments.append("--no-index")
    is_named = any(
        option in arguments for option in ("--default-index", "--index", "--find-links", "--no-index")
    )
    return tuple(arguments) if is_named else ()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""
