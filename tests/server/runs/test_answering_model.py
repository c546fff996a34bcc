"""Usage of a call that another model answered: it names both the requested model and the model that answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests import daemon as daemons

BUSY = {"error": {"status": 503, "message": "Too many callers.", "code": "overloaded"}}
NOWHERE = "http://127.0.0.1:1/v1#large"
"""A provider that is down: no server listens at this address."""

CONFIGURATION = {
    "models": [
        {
            "name": "first",
            "source": NOWHERE,
            "aliases": ["default"],
            "parameters": {"fallback": ["broken", "second"], "retries": 0},
        },
        {"name": "second", "source": "fake://", "aliases": ["spare"]},
        {"name": "lost", "source": NOWHERE, "parameters": {"fallback": ["broken"], "retries": 0}},
        {"name": "broken", "source": "fake://", "parameters": {"script": [BUSY]}},
    ],
}
MESSAGES = [{"role": "user", "content": "hello"}]

Row = tuple[str, str, str]
"""The requested name, the operation, and the model that answered."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    place = tmp_path_factory.mktemp("answering")
    (place / "portico.json").write_text(json.dumps(CONFIGURATION))
    with (
        daemons.running(place / "home", "--file", str(place / "portico.json")) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as http_client,
    ):
        yield http_client


def used(client: httpx.Client) -> dict[Row, dict[str, Any]]:
    rows = client.get("/api/usage").raise_for_status().json()["data"]
    usage_by_name = {(row["name"], row["operation"], row["model"]): row for row in rows}
    assert len(usage_by_name) == len(rows)
    return usage_by_name


def calls_of(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[dict[Row, int], httpx.Response]:
    """Call the path; return the usage that it adds, and the response."""
    usage_before = used(client)
    answer = client.post(path, json=body)
    usage_after = used(client)
    call_counts = {
        row: of["calls"] - (usage_before[row]["calls"] if row in usage_before else 0)
        for row, of in usage_after.items()
    }
    return {row: count for row, count in call_counts.items() if count}, answer


def documents(answer: httpx.Response) -> list[dict[str, Any]]:
    """Return the documents of a stream of server-sent events."""
    lines = [line[5:].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


@pytest.mark.parametrize("asked", ["first", "default"])
def test_usage_of_a_chat_names_the_requested_and_the_answering_model(
    client: httpx.Client, asked: str
) -> None:
    call_counts, answer = calls_of(client, "/v1/chat/completions", {"model": asked, "messages": MESSAGES})
    assert call_counts == {(asked, "chat/completions", "second"): 1}
    assert answer.json()["model"] == "second" and answer.json()["choices"][0]["message"]["content"] == "hello"


def test_usage_of_a_streamed_chat_names_the_requested_and_the_answering_model(client: httpx.Client) -> None:
    body = {"model": "first", "messages": MESSAGES, "stream": True}
    call_counts, answer = calls_of(client, "/v1/chat/completions", body)
    assert call_counts == {("first", "chat/completions", "second"): 1}
    assert {document["model"] for document in documents(answer)} == {"second"}


def test_a_chat_with_an_alias_returns_the_name_of_the_real_model(client: httpx.Client) -> None:
    call_counts, answer = calls_of(client, "/v1/chat/completions", {"model": "spare", "messages": MESSAGES})
    assert call_counts == {("spare", "chat/completions", "second"): 1}
    assert answer.json()["model"] == "second"


@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"truncation": "auto"}, {"truncation": "auto", "stream": True}]
)
def test_a_response_names_the_model_that_answered(client: httpx.Client, more: dict[str, Any]) -> None:
    call_counts, answer = calls_of(client, "/v1/responses", {"model": "first", "input": "hello", **more})
    assert list(call_counts) == [("first", next(iter(call_counts))[1], "second")] and list(
        call_counts.values()
    ) == [1]
    response = documents(answer)[-1]["response"] if "stream" in more else answer.json()
    assert (response["status"], response["model"]) == ("completed", "second")
    assert client.get(f"/v1/responses/{response['id']}").json()["model"] == "second"


def test_a_background_response_names_the_model_that_answered(client: httpx.Client) -> None:
    usage_before = used(client)
    body = {"model": "first", "input": "hello", "background": True, "stream": True}
    event_documents = documents(client.post("/v1/responses", json=body))
    assert event_documents[-1]["response"]["model"] == "second"
    [run] = [run for run in client.get("/api/runs").json()["data"] if run["name"] == "first"][:1]
    with client.stream("GET", f"/api/runs/{run['id']}/events") as events:
        assert any('"finished"' in line for line in events.iter_lines())
    row = ("first", run["kind"], "second")
    assert used(client)[row]["calls"] == (usage_before[row]["calls"] if row in usage_before else 0) + 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_messages_call_names_the_model_that_answered(client: httpx.Client, stream: bool) -> None:
    body = {"model": "first", "messages": MESSAGES, "max_tokens": 20, "stream": stream}
    call_counts, answer = calls_of(client, "/v1/messages", body)
    assert call_counts == {("first", "chat/completions", "second"): 1}
    message = documents(answer)[0]["message"] if stream else answer.json()
    assert message["model"] == "second"


def test_an_ollama_chat_names_the_model_that_answered(client: httpx.Client) -> None:
    body = {"model": "first", "messages": MESSAGES, "stream": False}
    call_counts, answer = calls_of(client, "/api/chat", body)
    assert call_counts == {("first", "chat/completions", "second"): 1}
    assert answer.json()["model"] == "second"


def test_usage_of_a_failed_call_names_the_requested_model(client: httpx.Client) -> None:
    call_counts, answer = calls_of(client, "/v1/chat/completions", {"model": "lost", "messages": MESSAGES})
    assert answer.status_code >= 500
    assert call_counts == {("lost", "chat/completions", "lost"): 1}


def test_usage_of_an_app_call_names_no_model(client: httpx.Client) -> None:
    flow = {"portico_flow": 1, "name": "f", "step": {"op": "llm", "name": "say", "model": "first"}}
    call_counts, answer = calls_of(client, "/api/flows/run", {"flow": flow, "input": "hello"})
    assert documents(answer)[-1]["result"] == "hello"
    assert list(call_counts.values()) == [1] and [model for _name, _operation, model in call_counts] == [""]
