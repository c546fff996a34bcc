"""A real daemon in a separate process, for tests of the public interfaces."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import preloaded

ROOT = Path(__file__).resolve().parent.parent

MODELS = Path(os.environ.get("PORTICO_TEST_MODELS", ROOT / ".portico-test" / "models"))
"""Model files that tests fetch once and share."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that serves at ``url`` from the folder ``home``."""

    url: str
    home: Path
    process: subprocess.Popen[str] | preloaded.Forked

    def settle(self) -> None:
        """Wait until the runs of the start have ended: folders are indexed and files are fetched."""
        with urllib.request.urlopen(f"{self.url}/api/status", timeout=60) as answer:
            startup_runs = json.load(answer)["startup"]
        for run in startup_runs:
            with urllib.request.urlopen(f"{self.url}/api/runs/{run}/events", timeout=60) as events:
                events.read()

    def close(self) -> None:
        """Close the pipes to a daemon that has ended."""
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end of the process, and return its exit code."""
        self.process.send_signal(number)
        try:
            return self.process.wait(60)
        except subprocess.TimeoutExpired as error:
            log = self.home / "logs" / "daemon.log"
            raise AssertionError(f"the daemon does not end: {log.read_text('utf-8')[-6_000:]}") from error


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a daemon under test: ours, without variables that would leak into it."""
    own_variables = {name: value for name, value in os.environ.items() if not name.startswith("PORTICO_")}
    return {**own_variables, "PORTICO_MODELS": str(MODELS), "PORTICO_INSTALL_ENGINES": "false", **more}


def start(
    home: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cold: bool = False,
    python: Path | str = sys.executable,
) -> Daemon:
    """Start a daemon on a free port and wait until it serves.

    Raise `AssertionError` with the daemon's output if it does not serve. ``cold`` is a start as users have it; any
    other start is forked, which takes a third of the processor's time, and reads one document at a time. ``python`` is
    the interpreter of a ``cold`` start.
    """
    command = ("serve", "--home", str(home), "--port", "0", "--parent-watch", "--quiet", *arguments)
    variables = environment(**(env or {}))
    process: subprocess.Popen[str] | preloaded.Forked
    if cold or sys.platform != "linux":
        process = subprocess.Popen(
            [str(python), "-P", "-m", "portico_server", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=variables,
        )
    else:
        # A second process that reads documents would take more processor time to start than it saves.
        process = preloaded.fork(command, {"PORTICO_INGEST_WORKERS": "1", **variables})
    assert process.stdout is not None
    line = process.stdout.readline()
    announcement: dict[str, Any] = json.loads(line) if line.strip() else {}
    if not announcement.get("ready"):
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        raise AssertionError(f"the daemon did not start: {line!r}")
    return Daemon(announcement["url"], home, process)


@contextlib.contextmanager
def running(
    home: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    cold: bool = False,
    python: Path | str = sys.executable,
) -> Iterator[Daemon]:
    """Run a daemon for the duration of a ``with`` block; see `start`."""
    daemon = start(home, *arguments, env=env, cold=cold, python=python)
    try:
        yield daemon
    finally:
        try:
            if daemon.process.poll() is None:
                daemon.stop()
        finally:
            daemon.close()
