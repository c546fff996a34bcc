"""Questions over the native API: tools that ask before they run, who may answer, and functions for workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, api_server

from portico.client import AsyncClient
from portico.wire import Finished
from portico_server.core.context import Context
from portico_server.core.question import NewQuestion
from portico_server.core.request import ToolResult
from portico_server.features.tools.entry import Approval
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox

SCHEMA = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
    "additionalProperties": False,
}


class Deleting:
    """A tool that says what it would delete and records it."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def __call__(self, arguments: Mapping[str, Any], _context: Context) -> ToolResult:
        self.done.append(arguments["path"])
        return ToolResult(f"deleted {arguments['path']}")


async def colour(_arguments: Mapping[str, Any], context: Context) -> ToolResult:
    """Ask a person for a colour."""
    schema = {"type": "object", "properties": {"colour": {"enum": ["red", "green"]}}, "required": ["colour"]}
    answer = await context.ask(
        NewQuestion("input", "colour", "Which colour?", answer_schema=schema, limit=30)
    )
    return ToolResult(json.dumps(answer.value))


def furnish(daemon: ApiServer) -> Deleting:
    """Add the tools to the daemon; `delete` asks first."""
    deleting = Deleting()
    toolbox = Toolbox(daemon.services.registry, approval=Approval("destructive", 30))
    toolbox.add(
        Tool("delete", "Delete", "Delete a path.", SCHEMA, deleting, read_only=False, destructive=True), ""
    )
    toolbox.add(Tool("colour", "Colour", "Ask for a colour.", {"type": "object"}, colour))
    return deleting


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


async def question(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    """Return the first pending question, as the stream of changes reports it."""
    async with asyncio.timeout(60), client.stream("GET", "/api/questions/events") as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data: "):
                candidate: dict[str, Any] = json.loads(line.removeprefix("data: "))
                if candidate["status"] == "pending" and all(
                    candidate[name] == value for name, value in query.items()
                ):
                    return candidate
    raise AssertionError("nobody asked")


async def answer(client: httpx.AsyncClient, question_id: str, **reply: Any) -> httpx.Response:
    return await client.post(f"/api/questions/{question_id}/answer", json=reply)


async def test_a_call_waits_for_approval_and_then_answers(daemon: ApiServer) -> None:
    deleting = furnish(daemon)
    call = asyncio.create_task(
        daemon.client.post("/api/tools/delete/call", json={"arguments": {"path": "/tmp/x"}})
    )
    pending_question = await question(daemon.client)
    assert (pending_question["kind"], pending_question["name"], pending_question["arguments"]) == (
        "approval",
        "delete",
        {"path": "/tmp/x"},
    )
    assert deleting.done == []
    run = (await daemon.client.get(f"/api/runs/{pending_question['run']}")).json()
    assert run["status"] == "waiting"
    response = await answer(daemon.client, pending_question["id"], accepted=True, note="once")
    assert (response.status_code, response.json()["status"], response.json()["note"]) == (
        200,
        "answered",
        "once",
    )
    result = (await call).json()
    assert (result["text"], result["is_error"]) == ("deleted /tmp/x", False)
    assert (await daemon.client.get(f"/api/runs/{pending_question['run']}")).json()["status"] == "completed"


async def test_a_refused_call_does_nothing_and_says_why(daemon: ApiServer) -> None:
    deleting = furnish(daemon)
    call = asyncio.create_task(
        daemon.client.post("/api/tools/delete/call", json={"arguments": {"path": "/"}})
    )
    pending_question = await question(daemon.client)
    await answer(daemon.client, pending_question["id"], accepted=False, note="never the root")
    result = (await call).json()
    assert result["is_error"] and "refused" in result["text"] and "never the root" in result["text"]
    assert deleting.done == []


async def test_wrong_arguments_are_refused_before_anybody_is_asked(daemon: ApiServer) -> None:
    furnish(daemon)
    wrong = await daemon.client.post("/api/tools/delete/call", json={"arguments": {"path": 7}})
    assert wrong.status_code == 400
    assert (await daemon.client.get("/api/questions")).json()["data"] == []


async def test_a_call_without_waiting_runs_in_the_background(daemon: ApiServer) -> None:
    furnish(daemon)
    response = await daemon.client.post(
        "/api/tools/delete/call", params={"wait": "false"}, json={"arguments": {"path": "/tmp/x"}}
    )
    assert response.status_code == 202
    run = response.json()["run"]
    pending_question = await question(daemon.client, run=run)
    await answer(daemon.client, pending_question["id"], accepted=True)
    events = (await daemon.client.get(f"/api/runs/{run}/events")).text
    kinds = [line.removeprefix("event: ") for line in events.splitlines() if line.startswith("event: ")]
    assert kinds == ["asked", "answered", "finished"]
    assert "deleted /tmp/x" in events
    missing = await daemon.client.post("/api/tools/none/call", params={"wait": "false"}, json={})
    assert missing.status_code == 404


async def test_a_question_is_cancelled_when_its_caller_disconnects(daemon: ApiServer) -> None:
    furnish(daemon)
    call = asyncio.create_task(
        daemon.client.post("/api/tools/delete/call", json={"arguments": {"path": "/tmp/x"}})
    )
    pending_question = await question(daemon.client)
    call.cancel()
    await asyncio.wait([call])
    await (
        await daemon.client.get(f"/api/runs/{pending_question['run']}/events")
    ).aread()  # until the run has ended
    late = await answer(daemon.client, pending_question["id"], accepted=True)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "question_cancelled")


async def test_an_answer_must_match_the_schema_of_its_question(daemon: ApiServer) -> None:
    furnish(daemon)
    call = asyncio.create_task(daemon.client.post("/api/tools/colour/call", json={}))
    pending_question = await question(daemon.client, kind="input")
    wrong = await answer(daemon.client, pending_question["id"], accepted=True, value={"colour": "blue"})
    assert wrong.status_code == 400
    error = wrong.json()["error"]
    assert error["param"] == "value.colour" and "properties/colour/enum" in error["message"]
    assert (
        await answer(daemon.client, pending_question["id"], accepted=True, value={"colour": "red"})
    ).status_code == 200
    again = await answer(daemon.client, pending_question["id"], accepted=True, value={"colour": "red"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "already_answered")
    assert (await call).json()["text"] == '{"colour": "red"}'


async def test_only_the_caller_and_admins_see_a_question_and_only_admins_answer(tmp_path: Path) -> None:
    async with api_server(tmp_path, require_key=True, approvals="admin") as daemon:
        furnish(daemon)
        heads = {}
        for name, scopes in (("boss", ["admin"]), ("anna", ["tools:*:call"]), ("bert", ["tools:*:call"])):
            _row, key = await daemon.auth.create(name, scopes)
            heads[name] = {"authorization": f"Bearer {key}"}
        call = asyncio.create_task(
            daemon.client.post(
                "/api/tools/delete/call", json={"arguments": {"path": "/tmp/x"}}, headers=heads["anna"]
            )
        )
        async with httpx.AsyncClient(base_url=daemon.url, headers=heads["anna"], timeout=60) as anna:
            pending_question = await question(anna)
        path = f"/api/questions/{pending_question['id']}"
        assert (await daemon.client.get(path, headers=heads["bert"])).status_code == 404
        assert (await daemon.client.get("/api/questions", headers=heads["bert"])).json()["data"] == []
        statuses = [
            (
                await daemon.client.post(f"{path}/answer", json={"accepted": True}, headers=heads[name])
            ).status_code
            for name in ("bert", "anna", "boss")
        ]
        assert statuses == [404, 403, 200]
        assert (await call).json()["text"] == "deleted /tmp/x"


async def test_questions_are_listed_by_run_and_status(daemon: ApiServer) -> None:
    furnish(daemon)
    runs = [
        (
            await daemon.client.post(
                "/api/tools/delete/call", params={"wait": "false"}, json={"arguments": {"path": path}}
            )
        ).json()["run"]
        for path in ("/a", "/b")
    ]
    questions = [await question(daemon.client, run=run) for run in runs]
    await answer(daemon.client, questions[0]["id"], accepted=False)

    async def listed(**query: str) -> list[str]:
        rows = (await daemon.client.get("/api/questions", params=query)).json()["data"]
        return [item["arguments"]["path"] for item in rows]

    assert await listed() == ["/b", "/a"]
    assert await listed(status="pending") == ["/b"]
    assert await listed(status="answered", run=runs[0]) == ["/a"]
    assert await listed(run=runs[1]) == ["/b"]
    assert (await daemon.client.get("/api/questions", params={"status": "odd"})).status_code == 400


async def test_unknown_questions_and_invalid_replies_are_refused(daemon: ApiServer) -> None:
    assert (await daemon.client.get("/api/questions/ask_none")).json()["error"][
        "code"
    ] == "question_not_found"
    assert (await answer(daemon.client, "ask_none", accepted=True)).status_code == 404
    assert (await answer(daemon.client, "ask_none", accept=True)).status_code == 400
    assert (await daemon.client.post("/api/questions/claim", json={"worker": ""})).status_code == 400


async def test_a_function_of_one_run_is_claimed_by_its_name(daemon: ApiServer) -> None:
    async def ask(_arguments: Mapping[str, Any], context: Context) -> ToolResult:
        answer = await context.ask(NewQuestion("function", "weather", arguments={"city": "Ulm"}, limit=30))
        return ToolResult(str(answer.value) if answer.accepted else answer.note, is_error=not answer.accepted)

    Toolbox(daemon.services.registry).add(
        Tool("forecast", "Forecast", "Ask a client.", {"type": "object"}, ask)
    )
    async with AsyncClient(daemon.url) as client:
        for is_accepted, value, note, text in (
            (True, "rain", "", "rain"),
            (False, None, "no idea", "no idea"),
        ):
            claim_task = asyncio.create_task(client.questions.claim(["weather"], "w", wait=20))
            run = await client.tools.start("forecast")
            (claimed_question,) = (await claim_task).taken
            assert (claimed_question.run, claimed_question.arguments, claimed_question.worker) == (
                run,
                {"city": "Ulm"},
                "local:w",
            )
            empty_claim = await client.questions.claim(["weather"], "other", run=run)
            assert (empty_claim.taken, empty_claim.lost) == ((), ())
            done = await client.questions.answer(
                claimed_question.id, is_accepted, value=value, note=note, worker="w"
            )
            assert done.answered_by == "local:w"
            (last,) = [item.event async for item in client.runs.events(run) if item.event.type == "finished"]
            assert isinstance(last, Finished)
            assert (last.result["text"], last.result["is_error"]) == (text, not is_accepted)
