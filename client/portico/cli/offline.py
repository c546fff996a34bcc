"""Commands that work on a home folder: through the daemon that runs on it, or else by running the daemon's program,
which locks the folder meanwhile.
"""

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

from portico._home import home_folder, note
from portico.cli.progress import Spinner
from portico.cli.render import amount
from portico.cli.session import Invocation, daemon_command, invocation
from portico.client import Client
from portico.errors import ConnectionFailed, PorticoError, from_body
from portico.wire import ErrorBody

Report = Callable[[str, int, int], None]
"""Progress callback: the activity, the amount done, and the total."""


@contextmanager
def serving(context: typer.Context, home: Path | None) -> Iterator[Client | None]:
    """Yield a client for the daemon to use: the one whose URL is given, or the one running on ``home``. The default is
    this user's home folder.

    Yields ``None`` if no daemon is running on the folder. The command must then work on the folder directly.
    """
    connection = invocation(context)
    found_invocation = (
        connection
        if home is None and (connection.url or os.environ.get("PORTICO_URL"))
        else _on(home, connection)
    )
    if found_invocation is None:
        yield None
    else:
        with Client(found_invocation.url, found_invocation.key) as client:
            yield client


def _on(home: Path | None, connection: Invocation) -> Invocation | None:
    folder = home or home_folder()
    daemon_note = note(folder)
    if daemon_note is not None and _runs(daemon_note["url"], connection.key, folder):
        return Invocation(daemon_note["url"], connection.key)
    return None if home is not None or (folder / "portico.db").is_file() else connection


def _runs(url: str, key: str | None, folder: Path) -> bool:
    """Return whether the daemon at ``url`` runs on the folder. The file with its URL remains after a daemon is killed,
    so another daemon may respond.
    """
    try:
        with Client(url, key) as client:
            daemon_home = client.status().home
    except ConnectionFailed:
        return False
    return not daemon_home or Path(daemon_home).resolve() == folder.resolve()


def run_offline(command: str, *arguments: str, home: Path | None, report: Report) -> dict[str, Any]:
    """Run a command of the daemon's program and return its result. Raise the `PorticoError` that the program
    reports.
    """
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
            process.send_signal(signal.SIGINT)  # like Ctrl-C, so that the program cleans up
            raise
    code = process.returncode
    if "error" in result:
        raise from_body(ErrorBody(**result["error"]))
    if code or not result or "progress" in result:
        raise PorticoError(f"'{command}' exited with code {code} without a reason.")
    return result


@contextmanager
def progress_report(label: str) -> Iterator[Report]:
    """Show a spinner with progress."""
    with Spinner(label) as spinner:

        def report(stage: str, done_bytes: int, total: int) -> None:
            if stage == "archive":
                progress = f"{amount(done_bytes)} of {amount(total)}" if total else amount(done_bytes)
            else:
                progress = f"{stage}, {100 * done_bytes // max(total, 1)} %"
            spinner.say(f"{label}: {progress}")

        yield report
