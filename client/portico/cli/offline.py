"""Commands for a home folder: by the daemon that runs on it, or by its program, which holds the folder meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from portico.cli.progress import Spinner
from portico.cli.render import amount
from portico.cli.session import Session, daemon_command, home_folder, note, session
from portico.client import Client
from portico.errors import ConnectionFailed, PorticoError, from_body
from portico.wire import ErrorBody

Told = Callable[[str, int, int], None]
"""Hears of progress: what is done, how far, of how much."""


@contextmanager
def serving(context: typer.Context, home: Path | None) -> Iterator[Client | None]:
    """The daemon to ask: the one that was named, or the one that runs on ``home``, by default this user's folder.

    ``None``: none runs there, and what is to be done is done to the folder.
    """
    ours = session(context)
    found = ours if home is None and (ours.url or os.environ.get("PORTICO_URL")) else _on(home, ours)
    if found is None:
        yield None
    else:
        with Client(found.url, found.key) as client:
            yield client


def _on(home: Path | None, ours: Session) -> Session | None:
    folder = home or home_folder()
    if folder is None:
        return ours
    found = note(folder)
    if found is not None and _runs(found["url"], ours.key, folder):
        return Session(found["url"], ours.key)
    return None if home is not None or (folder / "portico.db").is_file() else ours


def _runs(url: str, key: str | None, folder: Path) -> bool:
    """Whether the daemon there is that of the folder: a note outlives one that was killed."""
    try:
        with Client(url, key) as client:
            told = client.status().home
    except ConnectionFailed:
        return False
    return not told or Path(told).resolve() == folder.resolve()


def run_offline(command: str, *arguments: str, home: Path | None, told: Told) -> dict[str, Any]:
    """Run a command of the daemon's program to its end; what it says at last. Raises its `PorticoError`."""
    place = ["--home", str(home)] if home else []
    command_line = daemon_command(command, *place, *arguments)
    said: dict[str, Any] = {}
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                said = json.loads(line)
                if "progress" in said:
                    step = said["progress"]
                    told(str(step["what"]), int(step["done"]), int(step["total"]))
        except BaseException:
            process.send_signal(signal.SIGINT)  # as Ctrl-C does: it tidies up
            raise
    code = process.returncode
    if "error" in said:
        raise from_body(ErrorBody(**said["error"]))
    if code or not said or "progress" in said:
        raise PorticoError(f"'{command}' ended with exit code {code} and did not say why.")
    return said


@contextmanager
def shown(label: str) -> Iterator[Told]:
    """A spinner that says how far it is."""
    with Spinner(label) as spinner:

        def told(what: str, done: int, total: int) -> None:
            if what == "archive":
                how_far = f"{amount(done)} of {amount(total)}" if total else amount(done)
            else:
                how_far = f"{what}, {100 * done // max(total, 1)} %"
            spinner.say(f"{label}: {how_far}")

        yield told
