"""However the daemon ends, its servers and programs end with it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

import httpx
import psutil
import pytest
from tests import daemon as daemons

pytestmark = pytest.mark.process

HERE = Path(__file__).parent


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_servers_and_functions_end_with_the_daemon(tmp_path: Path, number: signal.Signals) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}) as daemon:
        with httpx.Client(base_url=daemon.url, timeout=60) as http:
            server = {
                "name": "odd",
                "command": [sys.executable, str(HERE.parent / "mcp_servers" / "stranger.py")],
            }
            assert http.post("/api/mcp/servers", json=server).json()["state"] == "ready"
            function = {"name": "pid", "function": "geometry:pid", "folder": str(HERE / "sources")}
            assert http.post("/api/tool-sources", json=function).json()["state"] == "ready"
            worker = int(http.post("/api/tools/pid/call", json={}).json()["text"])
        children = psutil.Process(daemon.process.pid).children(recursive=True)
        assert worker in {child.pid for child in children} and len(children) >= 2
        daemon.stop(number)
    _gone, alive = psutil.wait_procs(children, timeout=60)
    assert alive == []


@pytest.mark.skipif(not shutil.which("setpriv"), reason="the system has no setpriv")
def test_a_command_that_runs_ends_with_a_daemon_that_is_killed(tmp_path: Path) -> None:
    pid_pipe = tmp_path / "pid"
    os.mkfifo(pid_pipe)  # a reader of this pipe waits for the program
    code = f"import os, time; open({str(pid_pipe)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    with (
        daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as http,
    ):
        source = {"name": "slow", "command": [sys.executable, "-c", code], "description": "Takes long."}
        assert http.post("/api/tool-sources", json=source).json()["state"] == "ready"

        def call() -> None:
            with pytest.raises(httpx.HTTPError):
                http.post("/api/tools/slow/call", json={})

        calling = threading.Thread(target=call)
        calling.start()
        program = psutil.Process(int(pid_pipe.read_text()))
        daemon.stop(signal.SIGKILL)
        calling.join(60)
    _gone, alive = psutil.wait_procs([program], timeout=60)
    assert alive == []
