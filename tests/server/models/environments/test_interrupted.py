"""Ctrl-C during the build of an environment ends the daemon at once and leaves nothing behind."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tests import daemon as daemons

from portico import Client

pytestmark = pytest.mark.slow


@pytest.fixture
def stalled() -> Iterator[socket.socket]:
    """Yield a package index that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        yield listening


def test_ctrl_c_ends_a_build_and_leaves_nothing(tmp_path: Path, stalled: socket.socket) -> None:
    index = f"http://127.0.0.1:{stalled.getsockname()[1]}/simple"
    variables = {"PORTICO_PYPI_INDEX": index, "UV_CACHE_DIR": str(tmp_path / "cache")}
    with daemons.running(tmp_path / "home", env=variables) as daemon:
        with Client(daemon.url) as client:
            client.engines.install("transformers")
            connection, _address = stalled.accept()
            [engine] = [candidate for candidate in client.engines.list() if candidate.name == "transformers"]
            assert engine.state == "building"
        family = psutil.Process(daemon.process.pid).children(recursive=True)
        assert any("uv" in process.name() for process in family if process.is_running())
        assert daemon.stop(signal.SIGINT) == 0
        connection.close()
    _gone, survivors = psutil.wait_procs(family, timeout=60)
    assert survivors == []
    assert list((tmp_path / "home" / "environments").iterdir()) == []
