"""The native API: status, settings, deployments, aliases, keys, usage, tools and apps."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from tests.api_server import api_server
from tests.daemon import Daemon
from tests.registry_fixture import ScriptedServable

from portico.wire import Cited, Delta, Finished, Progressed, event_from_json
from portico_server.core.context import Context
from portico_server.core.errors import Unavailable
from portico_server.core.request import ChatReply, Request
from portico_server.core.servable import Card

pytestmark = pytest.mark.asyncio(loop_scope="module")

ASK = {"messages": [{"role": "user", "content": "Which port does the Lighthouse daemon listen on?"}]}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"{daemon.url}/api", timeout=60) as client:
        # The documents are indexed once the startup run has ended.
        for run in (await client.get("/status")).json()["startup"]:
            await client.get(f"/runs/{run}/events")
        yield client


def events(text: str) -> list[tuple[int, dict[str, Any]]]:
    """Return the numbered events of a stream without comments."""
    numbered_events = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            event = json.loads(fields["data"])
            assert fields["event"] == event["type"]
            numbered_events.append((int(fields["id"]), event))
    return numbered_events


async def test_status_lists_models_stores_and_apps(api: httpx.AsyncClient, daemon: Daemon) -> None:
    status = (await api.get("/status")).json()
    assert (status["url"], status["home"]) == (daemon.url, str(daemon.home))
    models = {model["name"]: model for model in status["models"]}
    assert models["echo"]["aliases"] == ["default"]
    [store] = status["stores"]
    assert (store["name"], store["file_counts"]["completed"], store["app"]) == ("handbook", 3, True)
    assert status["apps"] == ["handbook"]


async def test_status_reports_the_memory_budget_once_it_is_measured(api: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while not (budget := (await api.get("/status")).json()["memory_budget_bytes"]):
            pass
    assert 0 < budget <= psutil.virtual_memory().total


async def test_settings_say_where_each_value_came_from(api: httpx.AsyncClient) -> None:
    rows = {row["name"]: row for row in (await api.get("/settings")).json()["data"]}
    assert rows["home"]["origin"] == "flag"
    assert rows["models"]["origin"] == "environment"
    assert rows["require_key"] == {**rows["require_key"], "value": False, "origin": "default"}
    assert all(row["doc"] for row in rows.values())


async def test_a_deployment_is_made_loaded_unloaded_and_removed(api: httpx.AsyncClient) -> None:
    response = await api.post(
        "/deployments", json={"name": "org/second", "source": "fake://", "aliases": ["two"]}
    )
    assert response.json()["state"] == "cold"
    deployment = (await api.post("/deployments/org/second/load")).json()
    assert (deployment["state"], deployment["pid"] is not None) == ("ready", True)
    assert (await api.get("/deployments/two")).json()["name"] == "org/second"
    assert (await api.get("/deployments/org%2Fsecond/logs", params={"lines": 5})).status_code == 200
    assert (await api.post("/deployments/org/second/unload")).json()["state"] == "cold"
    again = await api.post("/deployments", json={"name": "org/second", "source": "fake://"})
    assert (again.status_code, again.json()["error"]["code"]) == (409, "conflict")
    assert (await api.delete("/deployments/org/second")).json()["deleted"] is True
    assert (await api.get("/deployments/org/second")).json()["error"]["code"] == "model_not_found"
    names = [row["name"] for row in (await api.get("/deployments")).json()["data"]]
    assert "org/second" not in names


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"name": "a b", "source": "fake://"}, "name"),
        ({"name": "x", "source": ""}, "source"),
        ({"name": "x", "source": "fake://", "task": "dance"}, "task"),
    ],
)
async def test_an_invalid_deployment_is_refused_naming_the_field(
    api: httpx.AsyncClient, body: dict[str, Any], param: str
) -> None:
    response = await api.post("/deployments", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


async def test_a_model_for_vision_is_a_chat_model(api: httpx.AsyncClient) -> None:
    response = await api.post("/deployments", json={"name": "eyes", "source": "fake://", "task": "vision"})
    assert (response.status_code, response.json()["task"]) == (200, "chat")
    await api.delete("/deployments/eyes")


async def test_an_alias_is_set_and_an_unknown_target_is_refused(api: httpx.AsyncClient) -> None:
    assert (await api.put("/aliases/best", json={"target": "echo"})).json() == {
        "name": "best",
        "target": "echo",
    }
    rows = {row["name"]: row["target"] for row in (await api.get("/aliases")).json()["data"]}
    assert rows["best"] == "echo"
    assert (await api.put("/aliases/best", json={"target": "nothing"})).status_code == 404
    assert (await api.put("/aliases/best", json={"target": "store/handbook"})).status_code == 404
    assert (await api.put("/aliases/echo", json={"target": "fake-embedding"})).status_code == 409


async def test_an_alias_may_mean_the_chat_of_a_store(api: httpx.AsyncClient) -> None:
    await api.put("/aliases/claude-of-the-house", json={"target": "handbook"})
    body = {"model": "claude-of-the-house", "messages": [{"role": "user", "content": "Lighthouse port"}]}
    answer = (await api.post(str(api.base_url).replace("/api", "/v1") + "chat/completions", json=body)).json()
    assert answer["choices"][0]["message"]["annotations"][0]["file_citation"]["store"] == "handbook"
    models = (await api.get(str(api.base_url).replace("/api", "/v1") + "models")).json()["data"]
    assert "claude-of-the-house" in {model["id"] for model in models}


async def test_tools_are_listed_and_called(api: httpx.AsyncClient) -> None:
    tools = {tool["name"]: tool for tool in (await api.get("/tools")).json()["data"]}
    assert tools["search"]["input_schema"]["type"] == "object"
    response = await api.post(
        "/tools/search/call", json={"arguments": {"store": "handbook", "query": "Lighthouse port"}}
    )
    assert "7419" in response.json()["text"]
    assert response.json()["is_error"] is False
    missing = await api.post("/tools/nope/call", json={"arguments": {}})
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "tool_not_found")
    wrong = await api.post("/tools/search/call", json={"arguments": []})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments")


async def test_an_app_run_streams_all_its_events(api: httpx.AsyncClient) -> None:
    assert (await api.get("/apps")).json()["data"][0]["name"] == "handbook"
    response = await api.post("/apps/handbook/run", json=ASK)
    numbered = events(response.text)
    assert [number for number, _event in numbered] == list(range(1, len(numbered) + 1))
    run_events = [event_from_json(event) for _number, event in numbered]
    # The first call of a model also says that the model is being loaded.
    first = next(event for event in run_events if not isinstance(event, Progressed))
    last = run_events[-1]
    assert isinstance(first, Cited)
    assert first.passages[0].filename == "port.md"
    assert isinstance(last, Finished)
    words = "".join(event.text for event in run_events if isinstance(event, Delta))
    assert words == last.result["content"]
    run = (await api.get(f"/runs/{response.headers['x-portico-run']}")).json()
    assert (run["status"], run["kind"], run["last_event"]) == ("completed", "apps/run", len(numbered))


@pytest.mark.parametrize(
    ("name", "body", "status", "code"),
    [
        ("nope", ASK, 404, "model_not_found"),
        ("echo", ASK, 404, "app_not_found"),
        ("handbook", {"messages": []}, 400, "invalid_value"),
        ("handbook", {"messages": [{"role": "user"}]}, 400, "missing_required_parameter"),
    ],
)
async def test_an_app_run_that_cannot_start_answers_with_an_error_status(
    api: httpx.AsyncClient, name: str, body: dict[str, Any], status: int, code: str
) -> None:
    response = await api.post(f"/apps/{name}/run", json=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


async def test_an_immediate_app_failure_sets_the_status_and_a_later_one_emits_an_event(
    tmp_path: Path,
) -> None:
    async def fail(request: Request, context: Context) -> ChatReply:
        if len(request.messages) > 1:  # type: ignore[union-attr]  # it is a Chat
            await context.emit(Delta("Well"))
        raise Unavailable("Not now.")

    async with api_server(tmp_path) as server:
        server.add(ScriptedServable(Card("down", "app", capabilities=frozenset({"chat"})), fail))
        at_once = await server.client.post("/api/apps/down/run", json=ASK)
        assert (at_once.status_code, at_once.json()["error"]["code"]) == (503, "unavailable")
        later = await server.client.post("/api/apps/down/run", json={"messages": ASK["messages"] * 2})
        assert later.status_code == 200
        assert [event["type"] for _number, event in events(later.text)] == ["delta", "failed"]


async def test_usage_counts_calls_and_tokens(api: httpx.AsyncClient) -> None:
    rows = (await api.get("/usage", params={"since": 0})).json()["data"]
    tokens = {"prompt_tokens", "completion_tokens", "cached_tokens"}
    assert {"name", "model", "operation", "calls", "milliseconds", "cost", *tokens} == set(rows[0])
    assert rows[0]["cost"] is None, "what runs here has no price"
    assert (await api.get("/usage", params={"since": "yesterday"})).json()["error"]["param"] == "since"


async def test_shutdown_ends_the_daemon(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        assert (await server.client.get("/api/shutdown")).status_code == 405
        assert not server.stopped.is_set()
        assert (await server.client.post("/api/shutdown")).json() == {"stopping": True}
        assert server.stopped.is_set()
