"""`portico down`: stops the daemon and waits until it has exited."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from types import FrameType

import typer

from portico._home import home_folder
from portico.cli.nouns import print_outcome
from portico.cli.session import AsJson, Invocation, connected, invocation
from portico.errors import Conflict, DeadlineExceeded
from portico.schemas.daemon import Status

app = typer.Typer()

LIMIT = 20
"""Seconds to wait for the daemon to exit."""


@app.command(epilog="Example: portico down")
def down(context: typer.Context, as_json: AsJson = False) -> None:
    """Stop the daemon and its models, and wait until the daemon has exited."""
    with connected(context) as client:
        status = client.status()
        _check_ours(invocation(context), status)
        client.shutdown()
    _wait_for_end(Path(status.home))
    print_outcome(
        {"stopped": status.url, "home": status.home}, as_json, f"Stopped the daemon at {status.url}."
    )


def _check_ours(connection: Invocation, status: Status) -> None:
    """Raise `Conflict` if the daemon uses another home folder and its URL was not given explicitly. A daemon found at
    the default URL, or through an outdated file, may belong to another user.
    """
    home = home_folder()
    configured_url = connection.url or os.environ.get("PORTICO_URL")
    if not configured_url and status.home and Path(status.home).resolve() != home.resolve():
        raise Conflict(
            f"No Portico daemon runs on the home folder {home}. The daemon at {status.url} uses "
            f"{status.home}; to stop it: portico --url {status.url} down"
        )


def _wait_for_end(home: Path) -> None:
    """Wait until the daemon's last process releases the lock on the home folder."""
    try:
        lock = os.open(home / "daemon.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # the daemon runs on another machine, or has already exited

    def late(_number: int, _frame: FrameType | None) -> None:
        raise DeadlineExceeded(
            f"The daemon on {home} has not exited within {LIMIT} s; see the log in that folder."
        )

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        os.close(lock)
