"""Daemons with homes of their own on one PostgreSQL, for tests of what they do together."""

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
    """One with a home of its own in a folder, in which all of them have their files."""
    (folder / "models.yaml").write_text(configuration)
    variables = {"PORTICO_DATABASE": database, "PORTICO_FILES": str(folder / "files"), **environment}
    return daemons.start(folder / name, "--file", str(folder / "models.yaml"), env=variables)


def end(*running: Daemon) -> None:
    """Stop those that still run, and let go of their streams."""
    for daemon in running:
        if daemon.process.poll() is None:
            daemon.stop()
        for stream in (daemon.process.stdin, daemon.process.stdout):
            if stream is not None:
                stream.close()


def until(condition: Callable[[], Any], what: str) -> Any:
    """What a condition returns once it is true; it is asked again and again for a minute."""
    stop = threading.Event()
    timer = threading.Timer(WAIT_S, stop.set)
    timer.start()
    try:
        while not stop.is_set():
            if found := condition():
                return found
            stop.wait(0.05)
    finally:
        timer.cancel()
    raise AssertionError(f"not within {WAIT_S:g} s: {what}")


def call(daemon: Daemon, method: str, path: str, key: str = "", **more: Any) -> httpx.Response:
    """The answer of a daemon, whatever it is."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx.request(method, daemon.url + path, headers=headers, timeout=WAIT_S, **more)


def answered(daemon: Daemon, method: str, path: str, **more: Any) -> Any:
    """What a call that must succeed returns."""
    answer = call(daemon, method, path, **more)
    assert answer.is_success, answer.text
    return answer.json()
