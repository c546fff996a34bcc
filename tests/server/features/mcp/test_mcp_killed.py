"""Tasks of a killed daemon: the next daemon finds the tasks that a client was told of."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests.server.features.mcp.test_tasks import Wire

CONFIGURATION = """
tools:
  - {name: nap, command: [sleep, "{seconds}"], parameters: {seconds: {type: number}}}
"""
# The call itself asks any question within its first second, so the flow sleeps before asking.
FLOW = {
    "portico_flow": 1,
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "steps": [
            {"op": "tool", "tool": "nap", "arguments": {"seconds": 2.5}},
            {"op": "approve", "message": "Go on?"},
            {"op": "code", "source": "lambda _: 'Went on.'"},
        ],
    },
}
ACCEPT = {"accept": "application/json, text/event-stream"}

pytestmark = [pytest.mark.process, pytest.mark.slow]


async def test_tasks_outlive_a_kill(tmp_path: Path) -> None:
    configuration = tmp_path / "portico.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    arguments = ("--file", str(configuration))
    async with asyncio.timeout(120), httpx.AsyncClient(headers=ACCEPT, timeout=60) as http:
        with daemons.running(tmp_path / "home", *arguments) as daemon:
            app = {"name": "walk", "spec": FLOW}
            (await http.post(f"{daemon.url}/api/apps", json=app)).raise_for_status()
            wire = Wire(http, f"{daemon.url}/mcp")
            short, long, durable = [
                task["taskId"]
                for task in await asyncio.gather(
                    wire.result("tools/call", name="nap", arguments={"seconds": 3}),
                    wire.result("tools/call", name="nap", arguments={"seconds": 30}),
                    wire.result("tools/call", name="walk", arguments={"message": "Walk."}),
                )
            ]
            task_before = await wire.until(short, "completed")
            asking = await wire.until(durable, "input_required")
            daemon.stop(signal.SIGKILL)
        with daemons.running(tmp_path / "home", *arguments) as daemon:
            wire = Wire(http, f"{daemon.url}/mcp")
            task_after = await wire.result("tasks/get", taskId=short)
            assert (task_after["status"], task_after["result"]) == ("completed", task_before["result"])
            long_task = await wire.result("tasks/get", taskId=long)
            assert long_task["status"] == "failed" and "daemon stopped" in long_task["error"]["message"]

            again = await wire.until(
                durable, "input_required"
            )  # a durable flow continues, and so does its task
            assert again["inputRequests"] == asking["inputRequests"]
            responses = {key: {"action": "accept", "content": {}} for key in again["inputRequests"]}
            await wire.result("tasks/update", taskId=durable, inputResponses=responses)
            done = await wire.until(durable, "completed")
            assert done["result"]["structuredContent"]["answer"] == "Went on."
