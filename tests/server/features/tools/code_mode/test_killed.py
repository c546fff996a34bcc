"""Code in a durable run and `kill -9`: no call that has ended is made again."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

pytestmark = [pytest.mark.process, pytest.mark.process]

CODE = """
import random
from datetime import datetime

items = []
for number in range(3):
    label = f"{number} {random.random()} {datetime.now()}"
    items.append(portico.tools.count(item=label)["stdout"].strip())
portico.tools.pay(item="approved")
portico.tools.count(item="last")
len(items) == len(set(items)) == 3
"""
WRITE = "import pathlib, sys; pathlib.Path(sys.argv[1]).open('a').write(sys.argv[2] + chr(10)); print(sys.argv[2])"


class KilledDaemon:
    """A daemon that is killed and restarted on the same home, with three tools that write each call to a file."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.calls = home / "calls"
        self.daemon = self._start()
        for name, approval in (("count", "never"), ("pay", "always"), ("wipe", "data")):
            command = [sys.executable, "-c", WRITE, str(self.calls), "{item}"]
            self.post("/api/tool-sources", {"name": name, "command": command, "approval": approval})

    def _start(self) -> Daemon:
        return daemons.start(self._home / "data", env={"PORTICO_MODEL": ""})

    def post(self, path: str, body: Any) -> None:
        httpx.post(f"{self.daemon.url}{path}", json=body, timeout=60).raise_for_status()

    def restart(self) -> None:
        self.daemon.process.send_signal(signal.SIGKILL)
        self._wait()
        self.daemon = self._start()

    def stop(self) -> None:
        self.daemon.stop()
        self._wait()

    def _wait(self) -> None:
        self.daemon.process.wait(60)
        for stream in (self.daemon.process.stdin, self.daemon.process.stdout):
            if stream is not None:
                stream.close()

    def begin(self, step: dict[str, Any]) -> tuple[str, str]:
        """Return the ids of a durable run of one step, and of the question that it asks."""
        flow = {"portico_flow": 1, "name": "t", "durability": "full", "step": step}
        body = {"flow": flow, "input": "go"}
        with httpx.stream("POST", f"{self.daemon.url}/api/flows/run", json=body, timeout=60) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: ") and (event := json.loads(line[6:]))["type"] == "asked":
                    return answer.headers["x-portico-run"], event["id"]
        raise AssertionError("the run asked nothing")

    def last_event(self, run: str) -> dict[str, Any]:
        with httpx.stream("GET", f"{self.daemon.url}/api/runs/{run}/events", timeout=60) as answer:
            events = [line for line in answer.iter_lines() if line.startswith("data: ")]
        last: dict[str, Any] = json.loads(events[-1].removeprefix("data: "))
        return last


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[KilledDaemon]:
    daemon = KilledDaemon(tmp_path)
    yield daemon
    daemon.stop()


def test_code_of_a_flow_resumes_without_repeated_calls_after_a_kill(killed: KilledDaemon) -> None:
    step = {"op": "tool", "name": "code", "tool": "run_code", "arguments": {"code": CODE}}
    run, question = killed.begin(step)
    calls_before = killed.calls.read_text().splitlines()
    assert len(calls_before) == 3, "the code waits for the approval of its fourth call"
    killed.restart()
    killed.post(f"/api/questions/{question}/answer", {"accepted": True})
    result = killed.last_event(run)["result"]
    assert result == {"output": "", "value": "True", "error": None}
    assert killed.calls.read_text().splitlines() == [*calls_before, "approved", "last"]


@pytest.mark.slow
def test_code_of_an_agent_resumes_without_repeated_calls_after_a_kill(killed: KilledDaemon) -> None:
    call = {"name": "run_code", "arguments": {"code": CODE}}
    script = [{"result": "True", "content": "Done."}, {"match": "go", "tool_calls": [call]}]
    model = {"name": "clerk", "source": "fake://", "parameters": {"script": script}}
    killed.post("/api/deployments", model)
    agent = {"portico_agent": 1, "name": "desk", "model": "clerk", "tools": ["run_code"]}
    run, question = killed.begin({"op": "agent", "name": "desk", "agent": agent})
    calls_before = killed.calls.read_text().splitlines()
    killed.restart()
    killed.post(f"/api/questions/{question}/answer", {"accepted": True})
    assert killed.last_event(run)["result"] == "Done."
    assert len(calls_before) == 3 and killed.calls.read_text().splitlines() == [
        *calls_before,
        "approved",
        "last",
    ]


def test_a_call_that_depends_on_data_still_needs_its_approval_after_a_restart(
    killed: KilledDaemon,
) -> None:
    code = "item = portico.tools.count(item='x')['stdout'].strip()\nportico.tools.wipe(item=item + '!')"
    step = {"op": "tool", "name": "code", "tool": "run_code", "arguments": {"code": code}}
    run, question = killed.begin(step)
    killed.restart()
    killed.post(f"/api/questions/{question}/answer", {"accepted": False})
    assert "was refused" in killed.last_event(run)["error"]["message"]
    assert killed.calls.read_text() == "x\n"


def test_resumed_code_whose_calls_differ_from_the_recorded_ones_fails(killed: KilledDaemon) -> None:
    code = "if hasattr(portico.tools, 'count'):\n    portico.tools.count(item='first')\nportico.tools.pay(item='x')"
    step = {"op": "tool", "name": "code", "tool": "run_code", "arguments": {"code": code}}
    run, _question = killed.begin(step)
    httpx.delete(f"{killed.daemon.url}/api/tool-sources/count", timeout=60).raise_for_status()
    killed.restart()
    error = killed.last_event(run)["error"]
    assert error["code"] == "step_changed" and "'code.call[0]' was recorded" in error["message"]
    assert killed.calls.read_text() == "first\n"
