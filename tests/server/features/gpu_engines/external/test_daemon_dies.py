"""When the daemon is killed, the processes it started through a warden end too."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest
from tests import daemon as daemons
from tests.server.features.gpu_engines.external.interpreter import interpreter, model

from portico import Client

pytestmark = pytest.mark.process


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_ends_with_the_daemon(tmp_path: Path, number: signal.Signals) -> None:
    spec = {
        "name": "m",
        "source": model(tmp_path),
        "engine": "vllm",
        "parameters": {"python": interpreter(tmp_path, "orphan")},
    }
    configuration = tmp_path / "models.yaml"
    configuration.write_text(json.dumps({"models": [spec]}), encoding="utf-8")
    with daemons.running(tmp_path / "home", "--file", str(configuration)) as daemon:
        with Client(daemon.url) as client:
            pid = client.deployments.load("m").pid
        assert pid is not None
        engine = psutil.Process(pid)
        family = [engine, *engine.parents()[:1], *engine.children(recursive=True)]
        assert len(family) == 3, "the engine, its warden, and the child that ignores SIGTERM"
        daemon.stop(number)
        for _look in range(150):
            if not any(map(_works, family)):
                break
            psutil.wait_procs(family, timeout=0.1)
    assert [process for process in family if _works(process)] == []


def _works(process: psutil.Process) -> bool:
    """Return whether the process still runs; a zombie does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
