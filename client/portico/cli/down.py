"""`portico down`: stops the daemon and waits until it has exited."""

from __future__ import annotations

import fcntl
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import typer

from portico._home import home_folder, note
from portico.cli.nouns import print_outcome
from portico.cli.session import AsJson, Invocation, deferred, invocation
from portico.errors import Conflict, DeadlineExceeded, Forbidden, PorticoError, Unauthenticated

app = typer.Typer()

LIMIT = 20
"""Seconds to wait for the daemon to exit."""


@app.command(epilog="Example: portico down")
def down(context: typer.Context, as_json: AsJson = False) -> None:
    """Stop the daemon and its models, and wait until the daemon has exited."""
    connection = invocation(context)
    try:
        home, url = _ask_to_stop(connection)
    except (Conflict, Forbidden, Unauthenticated):
        raise
    except PorticoError:
        daemon_note = None if _configured_url(connection) else note(home_folder())
        if daemon_note is None or not _signal(home_folder(), daemon_note.get("pid")):
            raise
        home, url = home_folder(), daemon_note["url"]
    _wait_for_end(home)
    print_outcome({"stopped": url, "home": str(home)}, as_json, f"Stopped the daemon at {url}.")


def _configured_url(connection: Invocation) -> str | None:
    return connection.url or os.environ.get("PORTICO_URL")


def _ask_to_stop(connection: Invocation) -> tuple[Path, str]:
    """Ask the daemon to stop. Return its home folder and address. Nothing else is read from its answers, so that a
    daemon of another version also stops.
    """
    with deferred("httpx._main"):
        from portico._transport import TIMEOUT_S, Address, Transport

    address = Address.of(connection.url, connection.key)
    transport = Transport(address, TIMEOUT_S)
    try:
        overview = transport.request("GET", "/api/status", dict[str, Any])
        home, url = Path(str(overview.get("home") or "")), str(overview.get("url") or address.url)
        _check_ours(connection, home, url)
        transport.request("POST", "/api/shutdown", None)
    finally:
        transport.close()
    return home, url


def _check_ours(connection: Invocation, home: Path, url: str) -> None:
    """Raise `Conflict` if the daemon uses another home folder and its URL was not given explicitly. A daemon found at
    the default URL, or through an outdated file, may belong to another user.
    """
    own_home = home_folder()
    if not _configured_url(connection) and home != Path() and home.resolve() != own_home.resolve():
        raise Conflict(
            f"No Portico daemon runs on the home folder {own_home}. The daemon at {url} uses "
            f"{home}; to stop it: portico --url {url} down"
        )


def _signal(home: Path, pid: Any) -> bool:
    """Send SIGTERM to the process that keeps the lock on a home folder. Return false if ``pid`` is not this process,
    or belongs to another user.
    """
    try:
        lock = (home / "daemon.lock").stat()
        open_files = [path.stat() for path in Path(f"/proc/{int(pid)}/fd").iterdir() if path.exists()]
        if not any(os.path.samestat(lock, state) for state in open_files):
            return False
        os.kill(int(pid), signal.SIGTERM)
    except (OSError, TypeError, ValueError):
        return False
    return True


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
