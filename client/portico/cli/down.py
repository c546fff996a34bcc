"""`portico down`: stop the daemon and wait until it has ended."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from types import FrameType

import typer

from portico.cli.nouns import print_outcome
from portico.cli.session import AsJson, Invocation, connected, home_folder, invocation
from portico.errors import Conflict, DeadlineExceeded
from portico.schemas.daemon import Status

app = typer.Typer()

LIMIT = 20
"""Seconds to wait for the end of the daemon."""


@app.command(epilog="Example: portico down")
def down(context: typer.Context, as_json: AsJson = False) -> None:
    """Stop the daemon, its models included, and wait until it has ended."""
    with connected(context) as client:
        status = client.status()
        _check_ours(invocation(context), status)
        client.shutdown()
    _wait_for_end(Path(status.home))
    print_outcome(
        {"stopped": status.url, "home": status.home}, as_json, f"Stopped the daemon at {status.url}."
    )


def _check_ours(ours: Invocation, status: Status) -> None:
    """A daemon that was found at the usual address, or by a note that is out of date, may be somebody else's."""
    home = home_folder()
    configured_url = ours.url or os.environ.get("PORTICO_URL")
    if (
        not configured_url
        and home is not None
        and status.home
        and Path(status.home).resolve() != home.resolve()
    ):
        raise Conflict(
            f"No Portico daemon runs on the home folder {home}. The one at {status.url} uses {status.home}; "
            f"to stop that one: portico --url {status.url} down"
        )


def _wait_for_end(home: Path) -> None:
    """The daemon holds a lock on its home folder until its last process is gone."""
    try:
        lock = os.open(home / "daemon.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return  # another machine's daemon, or already gone

    def late(_number: int, _frame: FrameType | None) -> None:
        raise DeadlineExceeded(f"The daemon on {home} has not ended within {LIMIT} s; see its log there.")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        os.close(lock)
