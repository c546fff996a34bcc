"""``/api/cluster`` with a stand-in for Slurm's commands; test_slurm.py and test_ray.py use real clusters."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import api_server
from tests.slurm_standin import SlurmStandIn

from portico.testing.model_fixture import model_fixture, user
from portico_server.core.errors import Unavailable
from portico_server.launchers import launchers
from portico_server.launchers.slurm import read_nodes
from portico_server.models.protocol import RunningEngine
from portico_server.models.spec import ModelSpec
from portico_server.models.startup_progress import unheard


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("IDLE", "idle"),
        ("IDLE+CLOUD+POWERED_DOWN", "idle"),
        ("MIXED", "busy"),
        ("ALLOCATED+DRAIN", "draining"),
        ("DRAINING", "draining"),
        ("IDLE+DRAIN", "drained"),
        ("DOWN", "down"),
        ("IDLE*", "down"),
        ("DOWN*+DRAIN", "down"),
    ],
)
def test_slurm_node_states_are_mapped_to_portico_states(state: str, expected: str) -> None:
    [node] = read_nodes(f"NodeName=n1 CPUTot=2 RealMemory=100 State={state}\n")
    assert (node.state, node.detail) == (expected, state)


async def test_a_call_in_progress_is_answered_by_the_process_being_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with model_fixture(tmp_path) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        await models.models.load("m")
        [process] = [
            server_process
            for server_process in models.models.deployments.processes()
            if server_process.name == "m"
        ]
        call = process.enter()
        first = (await process.engine(call, unheard)).process
        process.replacement.move()
        process.replacement.move()  # it is already moving
        assert process.replacement._moving is not None and first is not None
        await process.replacement._moving
        second = process.running
        assert second is not None and second.process is not first and first.alive
        assert (await models.ask("m", {"messages": user("again")}))["choices"]
        call.leave()
        await first.wait()
        assert (process.slot.starts, process.slot.crashes, process.replacement.leaving) == (2, 0, False)

        async def no_room(*_given: object) -> RunningEngine:
            raise Unavailable("There is no other node.")

        monkeypatch.setattr(process.launch.kind, "start", no_room)
        process.replacement.move()
        await process.replacement._moving
        assert process.replacement.leaving and process.running is second, "it answers until it is idle"


async def test_an_engine_that_is_still_starting_on_a_drained_node_moves_once_it_is_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with model_fixture(tmp_path) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        [process] = [
            server_process
            for server_process in models.models.deployments.processes()
            if server_process.name == "m"
        ]
        start_signal, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)
        start = process.launch.kind.start

        async def held_up(*given: Any) -> RunningEngine:
            start_signal.release()
            await go_on.acquire()
            return await start(*given)

        monkeypatch.setattr(process.launch.kind, "start", held_up)
        loading = asyncio.create_task(models.models.load("m"))
        await start_signal.acquire()
        process.replacement.leave_node("local", "")
        process.replacement.leave_node("local", "another")
        go_on.release()
        await loading
        await start_signal.acquire()
        assert process.replacement._moving is not None
        process.replacement.leave_node("local", "")  # it is already moving away
        go_on.release()
        await process.replacement._moving
        assert (process.slot.starts, process.slot.crashes) == (2, 0)
        assert (await models.ask("m", {"messages": user("there")}))["choices"]
        process.replacement.leave_node("local", "another")
        assert process.replacement._moving.done() and not process.replacement._leaves


async def test_nodes_of_slurm_are_listed_drained_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = SlurmStandIn(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{slurm.folder}{os.pathsep}{os.environ['PATH']}")
    home = tmp_path / "home"
    home.mkdir()
    async with api_server(home, slurm_partition="gpu") as server:

        async def nodes() -> dict[str, Any]:
            cluster_status = (await server.client.get("/api/cluster")).json()
            assert [launcher_row["name"] for launcher_row in cluster_status["launchers"]] == [
                "local",
                "slurm",
            ]
            [daemon] = cluster_status["daemons"]
            assert daemon["here"] and daemon["url"] == server.url
            assert cluster_status["launchers"][1]["drains"] and not cluster_status["launchers"][0]["drains"]
            return {node["name"]: node for node in cluster_status["launchers"][1]["nodes"]}

        async def change(verb: str, node: str, launcher: str = "slurm", **body: Any) -> httpx.Response:
            path = f"/api/cluster/nodes/{launcher}/{node}/{verb}"
            return await server.client.post(path, json=body or None)

        node_rows = await nodes()
        assert node_rows["g1"] == {
            "name": "g1",
            "state": "busy",
            "address": "g1.intern",
            "detail": "MIXED",
            "reason": "",
            "cpus": 64,
            "cpus_used": 8,
            "memory_mb": 512000,
            "memory_used_mb": 64000,
            "gpus": 4,
            "gpus_used": 1,
            "gpu_types": ["a100"],
            "partitions": ["gpu", "long"],
        }
        assert (node_rows["g2"]["state"], node_rows["g2"]["reason"]) == ("down", "power State=IDLE, rack 4")

        planned = await change("drain", "g1", reason="New disks", dry_run=True)
        assert planned.json()["dry_run"] and planned.json()["moves"] == [] and not slurm.updates
        done = await change("drain", "g1", reason="New\n disks")
        assert done.json()["node"]["state"] == "drained", done.text
        assert slurm.updates == ["NodeName=g1 State=DRAIN Reason=New disks"]
        assert (await nodes())["g1"]["reason"] == "New disks"
        assert (await change("resume", "g1.intern")).json()["state"] == "idle"

        _, secret = await server.auth.create("reader", ("chat", "models:read", "finetune"))
        for method, path, body in (
            ("GET", "/api/cluster", None),
            ("POST", "/api/cluster/nodes/slurm/g1/drain", {"reason": "x"}),
            ("POST", "/api/cluster/nodes/slurm/g1/resume", None),
        ):
            headers = {"authorization": f"Bearer {secret}"}
            answer = await server.client.request(method, path, json=body, headers=headers)
            assert answer.status_code == 403, (path, answer.text)

        (slurm.folder / "refuses").touch()
        refusals = (
            (await change("resume", "g1"), 409, "node_not_drained", "it is idle"),
            (await change("drain", "g1", reason="x"), 409, "drain_refused", "Access/permission denied"),
            (await change("drain", "g2", reason="x"), 409, "node_down", "rack 4"),
            (await change("drain", "g3", reason="x"), 404, "node_not_found", "It has g1, g2."),
            (await change("drain", "ALL", reason="x"), 404, "node_not_found", "no node 'ALL'"),
            (await change("drain", "g1", reason=" "), 400, None, "'reason' must explain"),
            (await change("drain", "g1", reason="\x1b[2J"), 400, None, "'reason' must explain"),
            (await change("drain", "x", "local", reason="x"), 400, "drain_unsupported", "has no scheduler"),
            (await change("resume", "x", "local"), 400, "drain_unsupported", "has no scheduler"),
            (await change("drain", "x", "slrum", reason="x"), 400, None, "Unknown launcher 'slrum'"),
        )
        for answer, status, code, words in refusals:
            error = answer.json()["error"]
            assert (answer.status_code, words in error["message"]) == (status, True), answer.text
            assert code is None or error["code"] == code


async def test_a_scheduler_that_is_missing_or_hangs_is_an_error_of_its_launcher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = SlurmStandIn(tmp_path / "bin")
    (slurm.folder / "hangs").touch()
    home = tmp_path / "home"
    home.mkdir()
    async with api_server(home, launcher="slurm", ray_python="/nowhere/python") as server:

        async def expect(words: str) -> list[dict[str, Any]]:
            answer = await server.client.get("/api/cluster")
            assert answer.status_code == 200, answer.text
            launcher_rows: list[dict[str, Any]] = answer.json()["launchers"]
            assert launcher_rows[0]["error"] is None and len(launcher_rows[0]["nodes"]) == 1
            assert words in launcher_rows[2]["error"] and launcher_rows[2]["nodes"] == []
            response = await server.client.post("/api/cluster/nodes/slurm/g1/drain", json={"reason": "x"})
            assert response.status_code == 503 and words in response.json()["error"]["message"]
            return launcher_rows

        path = os.environ["PATH"]
        monkeypatch.setenv("PATH", str(tmp_path))
        launcher_rows = await expect("needs the command 'scontrol'")
        assert "which /nowhere/python is not" in launcher_rows[1]["error"]
        monkeypatch.setattr(launchers, "NODES_TIMEOUT_S", 0.05)
        monkeypatch.setenv("PATH", f"{slurm.folder}{os.pathsep}{path}")
        await expect("did not list its nodes within 0.05 s")
