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
from portico.cli.session import Invocation, daemon_command, home_folder, invocation, note
from portico.client import Client
from portico.errors import ConnectionFailed, PorticoError, from_body
from portico.wire import ErrorBody

Report = Callable[[str, int, int], None]
"""Hears of progress: what is done, how far, of how much."""


@contextmanager
def serving(context: typer.Context, home: Path | None) -> Iterator[Client | None]:
    """The daemon to ask: the one that was named, or the one that runs on ``home``, by default this user's folder.

    ``None``: none runs there, and what is to be done is done to the folder.
    """
    ours = invocation(context)
    found_invocation = (
        ours if home is None and (ours.url or os.environ.get("PORTICO_URL")) else _on(home, ours)
    )
    if found_invocation is None:
        yield None
    else:
        with Client(found_invocation.url, found_invocation.key) as client:
            yield client


def _on(home: Path | None, ours: Invocation) -> Invocation | None:
    folder = home or home_folder()
    if folder is None:
        return ours
    daemon_note = note(folder)
    if daemon_note is not None and _runs(daemon_note["url"], ours.key, folder):
        return Invocation(daemon_note["url"], ours.key)
    return None if home is not None or (folder / "portico.db").is_file() else ours


def _runs(url: str, key: str | None, folder: Path) -> bool:
    """Whether the daemon there is that of the folder: a note outlives one that was killed."""
    try:
        with Client(url, key) as client:
            daemon_home = client.status().home
    except ConnectionFailed:
        return False
    return not daemon_home or Path(daemon_home).resolve() == folder.resolve()


def run_offline(command: str, *arguments: str, home: Path | None, report: Report) -> dict[str, Any]:
    """Run a command of the daemon's program to its end; what it says at last. Raises its `PorticoError`."""
    place = ["--home", str(home)] if home else []
    command_line = daemon_command(command, *place, *arguments)
    result: dict[str, Any] = {}
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                result = json.loads(line)
                if "progress" in result:
                    step = result["progress"]
                    report(str(step["what"]), int(step["done"]), int(step["total"]))
        except BaseException:
            process.send_signal(signal.SIGINT)  # as Ctrl-C does: it tidies up
            raise
    code = process.returncode
    if "error" in result:
        raise from_body(ErrorBody(**result["error"]))
    if code or not result or "progress" in result:
        raise PorticoError(f"'{command}' ended with exit code {code} and did not say why.")
    return result


@contextmanager
def progress_report(label: str) -> Iterator[Report]:
    """A spinner that says how far it is."""
    with Spinner(label) as spinner:

        def report(stage: str, done_bytes: int, total: int) -> None:
            if stage == "archive":
                progress = f"{amount(done_bytes)} of {amount(total)}" if total else amount(done_bytes)
            else:
                progress = f"{stage}, {100 * done_bytes // max(total, 1)} %"
            spinner.say(f"{label}: {progress}")

        yield report
