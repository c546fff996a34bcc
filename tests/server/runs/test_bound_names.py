"""The names in a durable run keep their meaning from its start, even if they mean something else when it continues."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.api_server import ApiServer, RelayModel, api_server

SCOPES = ("chat", "apps:*:deploy", "stores:*:manage", "tools:*:call")
ADMIN = {"authorization": "Bearer pk-of-the-operator"}


def says(answer: str) -> dict[str, Any]:
    step = {"op": "pipeline", "name": "says", "steps": [{"op": "emit", "name": "e"}], "output": answer}
    return {"portico_flow": 1, "step": step}


def waits(*steps: dict[str, Any]) -> dict[str, Any]:
    """Return a durable flow that asks a question before it continues."""
    approve = {"op": "approve", "name": "ask", "message": "Go on?"}
    step = {"op": "pipeline", "name": "p", "steps": [approve, *steps]}
    return {"portico_flow": 1, "name": "waits", "durability": "normal", "step": step}


CALLS = {"op": "subflow", "name": "s", "app": "thing"}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, api_key="pk-of-the-operator") as server:
        server.add(RelayModel("default"))
        yield server


async def key(daemon: ApiServer) -> dict[str, str]:
    _row, secret = await daemon.auth.create("somebody", SCOPES)
    return {"authorization": f"Bearer {secret}"}


async def done(daemon: ApiServer, headers: dict[str, str], method: str, path: str, body: Any = None) -> Any:
    answer = await daemon.client.request(method, path, json=body, headers=headers)
    assert answer.status_code < 300, (method, path, answer.text)
    return answer.json() if answer.content else None


async def deploy(daemon: ApiServer, headers: dict[str, str], name: str, answer: str) -> str:
    body = {"name": name, "spec": says(answer)}
    return str((await done(daemon, headers, "POST", "/api/apps", body))["id"])


async def begun(daemon: ApiServer, headers: dict[str, str], flow: dict[str, Any]) -> str:
    """Start a run that waits for an approval; return its id."""
    body = {"flow": flow, "input": "x"}
    async with daemon.client.stream("POST", "/api/flows/run", json=body, headers=headers) as events:
        assert events.status_code == 200, await events.aread()
        async for line in events.aiter_lines():
            if '"asked"' in line:
                break
        return events.headers["x-portico-run"]


async def asked(daemon: ApiServer, headers: dict[str, str], run_id: str) -> list[Any]:
    pending_questions = (await done(daemon, headers, "GET", "/api/questions"))["data"]
    return [question for question in pending_questions if question["run"] == run_id]


async def ended(daemon: ApiServer, headers: dict[str, str], run_id: str) -> dict[str, Any]:
    """Return the run, once its question is answered and it has ended."""
    [question] = await asked(daemon, headers, run_id)
    await done(daemon, headers, "POST", f"/api/questions/{question['id']}/answer", {"accepted": True})
    async with daemon.client.stream("GET", f"/api/runs/{run_id}/events", headers=headers) as events:
        event_lines = [line async for line in events.aiter_lines()]
    run: dict[str, Any] = await done(daemon, headers, "GET", f"/api/runs/{run_id}")
    return {**run, "told": "\n".join(event_lines)}


async def test_a_run_fails_if_a_called_name_now_belongs_to_another_owner(daemon: ApiServer) -> None:
    key_headers = await key(daemon)
    await deploy(daemon, key_headers, "thing", "mine")
    run_id = await begun(daemon, key_headers, waits(CALLS))
    await done(daemon, key_headers, "DELETE", "/api/apps/thing")
    await deploy(daemon, ADMIN, "thing", "the operator's")
    run = await ended(daemon, key_headers, run_id)
    assert run["status"] == "failed", run
    assert run["error"]["code"] == "name_changed" and "app_" in run["error"]["message"]


async def test_a_run_fails_if_its_shared_app_was_replaced_by_a_private_app(daemon: ApiServer) -> None:
    key_headers = await key(daemon)
    shared_app_id = await deploy(daemon, ADMIN, "thing", "the operator's")
    run_id = await begun(daemon, key_headers, waits(CALLS))
    await done(daemon, ADMIN, "DELETE", f"/api/apps/{shared_app_id}")
    await deploy(daemon, key_headers, "thing", "mine")
    run = await ended(daemon, key_headers, run_id)
    assert run["error"]["code"] == "name_changed"


async def test_a_run_calls_its_bound_app_despite_a_new_app_of_that_name(daemon: ApiServer) -> None:
    key_headers = await key(daemon)
    await deploy(daemon, key_headers, "thing", "mine")
    run_id = await begun(daemon, key_headers, waits(CALLS))
    await deploy(daemon, ADMIN, "thing", "the operator's")
    assert (await ended(daemon, key_headers, run_id))["told"].count('"mine"')


async def test_a_fork_fails_if_a_bound_name_now_belongs_to_another_owner(daemon: ApiServer) -> None:
    key_headers = await key(daemon)
    await deploy(daemon, key_headers, "thing", "mine")
    run_id = await begun(daemon, key_headers, waits(CALLS))
    assert (await ended(daemon, key_headers, run_id))["told"].count('"mine"')
    await done(daemon, key_headers, "DELETE", "/api/apps/thing")
    await deploy(daemon, ADMIN, "thing", "the operator's")
    forked = (await done(daemon, key_headers, "POST", f"/api/runs/{run_id}/fork", {"from": "s"}))["id"]
    async with daemon.client.stream("GET", f"/api/runs/{forked}/events", headers=key_headers) as events:
        async for _line in events.aiter_lines():
            pass
    run = await done(daemon, key_headers, "GET", f"/api/runs/{forked}")
    assert run["error"]["code"] == "name_changed"
