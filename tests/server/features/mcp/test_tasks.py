"""Long calls as tasks: https://github.com/modelcontextprotocol/ext-tasks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import update
from tests.mcp_service import Service, serving
from tests.registry_fixture import ScriptedServable

from portico.wire import Progressed
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable
from portico_server.core.question import NewQuestion
from portico_server.core.request import Chat, ChatReply, Request, ToolResult
from portico_server.core.servable import Card
from portico_server.db.schema import mcp_tasks
from portico_server.features.mcp import held
from portico_server.models.client_model import ClientModels

MODERN = "2026-07-28"
EXTENSION = "io.modelcontextprotocol/tasks"


class Work:
    """A tool that continues on demand."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.ended = asyncio.Event()
        self.fails = False
        self.asks = False
        self.chats = False

    async def __call__(self, _request: Request, context: Context) -> ToolResult:
        try:
            await context.emit(Progressed("baking", message="In the oven"))
            if self.chats:
                await self.go.wait()
                reply = await context.call("client", Chat(({"role": "user", "content": "Brown enough?"},)))
                assert isinstance(reply, ChatReply)
                return ToolResult(reply.content)
            if self.asks:
                await self.go.wait()  # the call itself asks questions until it becomes a task
                answer = await context.ask(NewQuestion("approval", "bake", "Take it out?"))
                return ToolResult("Out" if answer.accepted else "In")
            await self.go.wait()
            if self.fails:
                raise Unavailable("The oven is cold.")
            return ToolResult("Baked.", {"loaves": 3})
        finally:
            self.ended.set()


@pytest.fixture
def work(service: Service) -> Work:
    work = Work()
    service.daemon.add(ScriptedServable(Card("bake", "tool"), work))
    return work


class Wire:
    """A client of the later era that works at byte level."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self.capabilities: dict[str, Any] = {"extensions": {EXTENSION: {}}, "elicitation": {"form": {}}}

    def message(self, method: str, **params: Any) -> tuple[dict[str, Any], dict[str, str]]:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": self.capabilities,
        }
        headers = {"mcp-protocol-version": MODERN, "mcp-method": method}
        name = params.get("name") or params.get("taskId")
        if name:
            headers["mcp-name"] = name
        return {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}, headers

    async def post(self, method: str, key: str = "", **params: Any) -> dict[str, Any]:
        message, headers = self.message(method, **params)
        if key:
            headers["authorization"] = f"Bearer {key}"
        response = await self._http.post(self._url, json=message, headers=headers)
        text = response.text
        if response.headers["content-type"].startswith("text/event-stream"):
            text = [line[5:] for line in text.splitlines() if line.startswith("data:")][-1]
        reply: dict[str, Any] = json.loads(text)
        return reply

    async def result(self, method: str, **params: Any) -> dict[str, Any]:
        answer = await self.post(method, **params)
        assert "result" in answer, answer
        body: dict[str, Any] = answer["result"]
        return body

    async def until(self, task: str, status: str) -> dict[str, Any]:
        task_state = await self.result("tasks/get", taskId=task)
        while task_state["status"] != status:
            task_state = await self.result("tasks/get", taskId=task)
        return task_state


@pytest.fixture
async def wire(service: Service) -> AsyncIterator[Wire]:
    accept = {"accept": "application/json, text/event-stream"}
    async with asyncio.timeout(60), httpx.AsyncClient(headers=accept, timeout=60) as http:
        yield Wire(http, service.url)


async def test_the_server_says_that_it_has_tasks(wire: Wire) -> None:
    discovery = await wire.result("server/discover")
    assert discovery["capabilities"]["extensions"][EXTENSION] == {}


async def test_a_long_call_becomes_a_task_whose_result_is_fetched(wire: Wire, work: Work) -> None:
    task = await wire.result("tools/call", name="bake", arguments={})
    assert (task["resultType"], task["status"], task["statusMessage"]) == ("task", "working", "In the oven")
    assert task["ttlMs"] is None and task["pollIntervalMs"] > 0 and task["createdAt"].endswith("Z")
    assert (await wire.result("tasks/get", taskId=task["taskId"]))["status"] == "working"
    work.go.set()
    done = await wire.until(task["taskId"], "completed")
    assert done["resultType"] == "complete" and done["ttlMs"] >= held.RESULT_LIFETIME_S * 1000
    assert done["result"]["structuredContent"] == {"loaves": 3} and done["result"]["isError"] is False
    assert done["result"]["content"][0]["text"] == "Baked."


async def test_a_short_call_stays_a_call(wire: Wire, work: Work) -> None:
    work.go.set()
    result = await wire.result("tools/call", name="bake", arguments={})
    assert result["resultType"] == "complete" and result["structuredContent"] == {"loaves": 3}


async def test_a_client_that_knows_no_tasks_gets_none(wire: Wire, work: Work) -> None:
    wire.capabilities = {}
    call = asyncio.create_task(wire.result("tools/call", name="bake", arguments={}))
    done, _pending = await asyncio.wait([call], timeout=0.5)
    assert not done
    work.go.set()
    assert (await call)["resultType"] == "complete"
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        error = (await wire.post(method, taskId="x", inputResponses={}))["error"]
        assert error["code"] == -32021
        assert error["data"]["requiredCapabilities"] == {"extensions": {EXTENSION: {}}}
    listen = await wire.post("subscriptions/listen", notifications={"taskIds": ["x"]})
    assert listen["error"]["code"] == -32021


async def test_a_failed_task_completes_with_an_error_result(wire: Wire, work: Work) -> None:
    work.fails = True
    task = await wire.result("tools/call", name="bake", arguments={})
    work.go.set()
    done = await wire.until(task["taskId"], "completed")
    assert done["result"]["isError"] is True
    assert done["result"]["content"][0]["text"] == "The oven is cold."


async def test_a_task_is_cancelled_and_its_run_with_it(wire: Wire, work: Work) -> None:
    task = await wire.result("tools/call", name="bake", arguments={})
    assert await wire.result("tasks/cancel", taskId=task["taskId"])
    await work.ended.wait()
    assert (await wire.until(task["taskId"], "cancelled"))["status"] == "cancelled"
    await wire.result("tasks/cancel", taskId=task["taskId"])  # again: the task is unchanged


async def test_a_task_is_its_caller_s_alone(wire: Wire, work: Work) -> None:
    task = await wire.result("tools/call", name="bake", arguments={})
    for method in ("tasks/get", "tasks/cancel", "tasks/update"):
        error = (await wire.post(method, key="other", taskId=task["taskId"], inputResponses={}))["error"]
        assert error["code"] == -32602 and f"The task '{task['taskId']}' does not exist" in error["message"]
    assert (await wire.result("tasks/get", taskId=task["taskId"]))["status"] == "working"


async def test_one_key_holds_half_of_all_calls(
    service: Service, wire: Wire, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "MAX_HELD_RUNS", 4)

    async def order(_request: Request, context: Context) -> ToolResult:
        return ToolResult((await context.ask(NewQuestion("approval", "order", "Order it?"))).note)

    service.daemon.add(ScriptedServable(Card("order", "tool"), order))
    for _ in range(2):
        assert (await wire.result("tools/call", name="bake", arguments={}))["resultType"] == "task"
    third = asyncio.create_task(wire.result("tools/call", name="bake", arguments={}))
    # The question was asked earlier; now the call would be a task.
    other_reply = await wire.post("tools/call", key="other", name="bake", arguments={})
    assert other_reply["result"]["resultType"] == "task"
    result = await wire.result("tools/call", name="order", arguments={})
    assert result["isError"] is True and "may have 2 calls that wait" in result["content"][0]["text"]
    question_reply = await wire.post("tools/call", key="other", name="order", arguments={})
    assert question_reply["result"]["resultType"] == "input_required"
    work.go.set()
    assert (await third)["resultType"] == "complete"


async def test_a_task_asks_and_is_answered(wire: Wire, work: Work) -> None:
    work.asks = True
    task = await wire.result("tools/call", name="bake", arguments={})
    work.go.set()
    asking = await wire.until(task["taskId"], "input_required")
    ((question, request),) = asking["inputRequests"].items()
    assert request["method"] == "elicitation/create" and "Take it out?" in request["params"]["message"]
    responses = {"unknown": {"action": "decline"}, question: {"action": "accept", "content": {}}}
    await wire.result("tasks/update", taskId=task["taskId"], inputResponses=responses)
    done = await wire.until(task["taskId"], "completed")
    assert done["result"]["content"][0]["text"] == "Out"


async def test_a_task_asks_the_model_of_its_client(service: Service, wire: Wire, work: Work) -> None:
    work.chats = True
    service.daemon.registry.add_source(ClientModels())
    wire.capabilities["sampling"] = {}
    task = await wire.result("tools/call", name="bake", arguments={})
    work.go.set()
    asking = await wire.until(task["taskId"], "input_required")
    ((question, request),) = asking["inputRequests"].items()
    assert request["method"] == "sampling/createMessage"
    assert request["params"]["messages"][0]["content"]["text"] == "Brown enough?"
    message = {"role": "assistant", "model": "theirs", "content": {"type": "text", "text": "Nearly."}}
    await wire.result("tasks/update", taskId=task["taskId"], inputResponses={question: message})
    done = await wire.until(task["taskId"], "completed")
    assert done["result"]["content"][0]["text"] == "Nearly."


async def test_task_notifications_are_sent_on_a_subscription_stream(wire: Wire, work: Work) -> None:
    task = await wire.result("tools/call", name="bake", arguments={})
    message, headers = wire.message(
        "subscriptions/listen", notifications={"taskIds": [task["taskId"], "somebody-else-s"]}
    )
    messages: list[dict[str, Any]] = []
    async with wire._http.stream("POST", wire._url, json=message, headers=headers) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:"):
                messages.append(json.loads(line[5:]))
                if len(messages) == 1:
                    work.go.set()
                if messages[-1].get("params", {}).get("status") == "completed":
                    break
    assert messages[0]["params"]["notifications"]["taskIds"] == [task["taskId"]]
    last = messages[-1]
    assert last["method"] == "notifications/tasks" and last["params"]["taskId"] == task["taskId"]
    assert last["params"]["result"]["structuredContent"] == {"loaves": 3}
    assert last["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] == 7


async def test_a_session_has_no_tasks(service: Service, wire: Wire) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    client = {"name": "test", "version": "1"}
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
    async with httpx.AsyncClient(headers=accept, timeout=60) as http:
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        response = await http.post(service.url, json=message)
        http.headers["mcp-session-id"] = response.headers["mcp-session-id"]
        await http.post(service.url, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        message = {"jsonrpc": "2.0", "id": 2, "method": "tasks/get", "params": {"taskId": "x"}}
        assert "-32601" in (await http.post(service.url, json=message)).text


async def test_task_results_survive_a_restart_and_expire_later(tmp_path: Path) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    done, cut = Work(), Work()
    async with asyncio.timeout(60), httpx.AsyncClient(headers=accept, timeout=60) as http:
        async with serving(tmp_path, {}) as service:
            service.daemon.add(
                ScriptedServable(Card("done", "tool"), done), ScriptedServable(Card("cut", "tool"), cut)
            )
            wire = Wire(http, service.url)
            done_task_id = (await wire.result("tools/call", name="done", arguments={}))["taskId"]
            cut_task_id = (await wire.result("tools/call", name="cut", arguments={}))["taskId"]
            done.go.set()
            task_before = await wire.until(done_task_id, "completed")
        async with serving(tmp_path, {}) as service:
            wire = Wire(http, service.url)
            assert await wire.result("tasks/get", taskId=done_task_id) == {
                **task_before,
                "lastUpdatedAt": (task_after := await wire.result("tasks/get", taskId=done_task_id))[
                    "lastUpdatedAt"
                ],
                "ttlMs": task_after["ttlMs"],
            }
            failed_task = await wire.result("tasks/get", taskId=cut_task_id)
            assert failed_task["status"] == "failed" and "Call again" in failed_task["error"]["message"]
            for method in ("tasks/cancel", "tasks/update"):  # the task is unchanged
                assert await wire.result(method, taskId=done_task_id, inputResponses={})
            assert (
                f"The task '{done_task_id}' does not exist"
                in (await wire.post("tasks/get", key="other", taskId=done_task_id))["error"]["message"]
            )

            long_ago = time.time() - held.RESULT_LIFETIME_S - 1
            await service.daemon.database.write(
                lambda connection: connection.execute(update(mcp_tasks).values(finished_at=long_ago))
            )
            assert (
                f"The task '{done_task_id}' does not exist"
                in (await wire.post("tasks/get", taskId=done_task_id))["error"]["message"]
            )
