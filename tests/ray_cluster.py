"""A Ray cluster on this machine: two nodes on loopback, protected by a token.

``PORTICO_TEST_RAY`` names an interpreter that has Ray; otherwise Ray is installed once for all tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import platform
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from portico_server.core.errors import Unavailable
from portico_server.environments.build import PackageSet, build, is_whole, python_in
from tests.daemon import ROOT
from tests.environments import ENVIRONMENTS, alone
from tests.guarded import Guarded

HEAD, WORKER = "127.0.0.2", "127.0.0.3"
"""Addresses of the two nodes. A head on 127.0.0.1 silently takes another address."""

LOCK = ROOT / "requirements" / "ray.lock"

BUILD_TIMEOUT_S = 110
"""Maximum time to fetch packages, in seconds. Packages fetched by then are kept for the next time."""


async def _quiet(_stage: str, _words: str) -> None:
    """Discard a progress message."""


async def _furnish(_draft: Path) -> dict[str, str]:
    """Add nothing to the packages."""
    return {}


def interpreter() -> Path:
    """Return an interpreter that has Ray; skip the test if none is available."""
    if interpreter_path := os.environ.get("PORTICO_TEST_RAY"):
        return Path(interpreter_path)
    python = platform.python_version()
    digest = hashlib.sha256(LOCK.read_bytes() + python.encode()).hexdigest()[:16]
    place = ENVIRONMENTS / f"ray-{digest}"
    packages = PackageSet(
        name="ray",
        what="The environment of Ray",
        again="PORTICO_TEST_RAY can name an interpreter that has it.",
        python=python.rpartition(".")[0],
        install=("--require-hashes", "--requirement", str(LOCK)),
    )
    with alone("ray"):
        if not is_whole(place):
            try:
                building = build(packages, place, _quiet, furnish=_furnish)
                asyncio.run(asyncio.wait_for(building, BUILD_TIMEOUT_S))
            except (Unavailable, TimeoutError) as error:
                pytest.skip(f"Ray cannot be installed here: {error}"[:400])
    return python_in(place)


class RayCluster:
    """A cluster whose ``settings`` are what a daemon needs to use it."""

    def __init__(self, python: Path, folder: Path) -> None:
        """``folder`` must have a short path: Ray creates sockets in it, whose paths can be at most 107 bytes."""
        self._ray = str(python.with_name("ray"))
        self._folder = folder
        self._nodes: dict[str, Guarded] = {}
        with socket.socket() as free:
            free.bind((HEAD, 0))
            self._port = free.getsockname()[1]
        token = secrets.token_hex(32)
        self._environment = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_worker_niceness": "0",
        }
        self.settings = {
            "launcher": "ray",
            "ray_python": str(python),
            "ray_address": f"{HEAD}:{self._port}",
            "ray_token": token,
        }

    def start(self) -> None:
        head = (f"--port={self._port}", "--include-dashboard=false", f"--temp-dir={self._folder}")
        self._run(HEAD, "--head", *head)
        self.wait_until(self._listens)
        self.start_worker()
        self.wait_until(lambda: self._started(HEAD))

    def start_worker(self) -> None:
        """Start or restart the worker node."""
        self._run(WORKER, f"--address={HEAD}:{self._port}")
        self.wait_until(lambda: self._started(WORKER))

    def wait_until_drained(self, address: str, ready: Callable[[], object]) -> None:
        """Wait like `wait_until` while a node leaves, including the end of the processes that started it."""
        leaving = self._nodes.pop(address)
        try:
            self.wait_until(ready)
        finally:
            leaving.end()

    def _run(self, address: str, *options: str) -> None:
        command = [
            *(self._ray, "start", "--block", f"--node-ip-address={address}", "--num-cpus=1"),
            *("--object-store-memory=80000000", *options),
        ]
        self._nodes[address] = Guarded(command, self._folder / f"{address}.out", self._environment)

    def _listens(self) -> bool:
        with socket.socket() as attempt:
            return attempt.connect_ex((HEAD, self._port)) == 0

    def _started(self, address: str) -> bool:
        return "Ray runtime started" in (self._folder / f"{address}.out").read_text()

    def actors(self) -> list[psutil.Process]:
        """Return the processes of actors on the cluster's nodes."""
        return [process for node in self._nodes.values() for process in _named("ray::JobActor", node)]

    def kill_raylet(self, address: str) -> None:
        """Kill the raylet of a node, and then everything else that runs on the node."""
        node = self._nodes.pop(address)
        [raylet] = _named("raylet", node)
        raylet.kill()
        node.end()

    def stop(self) -> None:
        for node in reversed(self._nodes.values()):
            node.end()

    def wait_until(self, ready: Callable[[], object]) -> None:
        for _ in range(1200):
            if ready():
                return
            dead_nodes = [address for address, node in self._nodes.items() if not node.alive]
            assert not dead_nodes, f"{dead_nodes} ended: {self._outputs()}"
            # No event announces that a node has registered.
            subprocess.run(["sleep", "0.1"], check=True)
        raise AssertionError(f"it did not come to that: {self._outputs()}")

    def _outputs(self) -> list[str]:
        return [path.read_text()[-800:] for path in self._folder.glob("*.out")]


def _named(name: str, node: Guarded) -> Iterator[psutil.Process]:
    """Yield the processes of a node whose names begin with ``name``."""
    for process in node.processes():
        # A process may have ended since it was listed.
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith(name):
                yield process


@contextlib.contextmanager
def ray_cluster() -> Iterator[RayCluster]:
    """Start a Ray cluster; skip the test if Ray is unavailable."""
    python = interpreter()
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        cluster = RayCluster(python, Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
