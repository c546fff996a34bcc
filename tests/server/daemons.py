"""Daemons with separate homes on one PostgreSQL, for tests of their interaction."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from tests import daemon as daemons
from tests.daemon import Daemon

WAIT_S = 60.0


def start(folder: Path, name: str, database: str, configuration: str, **environment: str) -> Daemon:
    """Start a daemon with its own home in a folder that all daemons share for their files."""
    (folder / "models.yaml").write_text(configuration)
    variables = {"PORTICO_DATABASE": database, "PORTICO_FILES": str(folder / "files"), **environment}
    return daemons.start(folder / name, "--file", str(folder / "models.yaml"), env=variables)


def end(*running: Daemon) -> None:
    """Stop the daemons that still run, and close their streams."""
    for daemon in running:
        if daemon.process.poll() is None:
            daemon.stop()
        for stream in (daemon.process.stdin, daemon.process.stdout):
            if stream is not None:
                stream.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    """Poll a condition for up to a minute and return its result once it is true."""
    stop = threading.Event()
    timer = threading.Timer(WAIT_S, stop.set)
    timer.start()
    try:
        while not stop.is_set():
            if result := condition():
                return result
            stop.wait(0.05)
    finally:
        timer.cancel()
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


def call(daemon: Daemon, method: str, path: str, key: str = "", **more: Any) -> httpx.Response:
    """Return the answer of a daemon, whatever its status."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, daemon.url + path, headers=headers, timeout=WAIT_S, **more)


def answered(daemon: Daemon, method: str, path: str, **more: Any) -> Any:
    """Return the result of a call that must succeed."""
    answer = call(daemon, method, path, **more)
    assert answer.is_success, answer.text
    return answer.json()
