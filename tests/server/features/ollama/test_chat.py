"""Ollama's API, used by Ollama's own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from ollama import AsyncClient, Client, ResponseError
from tests import daemon as daemons
from tests.api_server import RelayModel, api_server
from tests.daemon import Daemon
from tests.server.api.openai.conftest import KEYS, bearer

from portico_server.features.ollama.bodies import BODIES
from portico_server.features.ollama.feature import FEATURE

METHODS = {route.path: [*route.methods] for route in FEATURE.routes if route.methods}

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

REPLIES = [
    {
        "match": r"^weather in (\w+)",
        "content": "",
        "tool_calls": [{"name": "get_weather", "arguments": {"city": r"\1"}}],
    },
    {"match": r"^break off", "content": "one two three four", "crash": 2},
]

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
        },
    },
}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """A daemon that requires keys, with scripted models and an app over ``handbook``."""
    home = tmp_path_factory.mktemp("ollama")
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {
            "name": "clever",
            "source": "fake://",
            "parameters": {"script": {"replies": REPLIES}, "vision": True},
        },
        {"name": "vectors", "source": "fake://", "task": "embedding", "parameters": {"dimensions": 8}},
    ]
    (home / "ollama.yaml").write_text(json.dumps({"models": models, "keys": KEYS}), encoding="utf-8")
    arguments = ("--file", str(home / "ollama.yaml"), "--docs", str(docs))
    with daemons.running(home / "data", *arguments, env={"PORTICO_REQUIRE_KEY": "true"}) as running:
        with httpx.Client(base_url=running.url, headers=bearer("boss"), timeout=60) as plain:
            for run in plain.get("/api/status").json()["startup"]:
                plain.get(f"/api/runs/{run}/events")
        yield running


@pytest.fixture(scope="module")
def as_key(daemon: Daemon) -> Iterator[Callable[[str], Client]]:
    """Return a function that creates Ollama's client for a key by name."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(Client(daemon.url, headers=bearer(name)))


@pytest.fixture(scope="module")
def client(as_key: Callable[[str], Client]) -> Client:
    return as_key("boss")


@pytest.mark.conformance("Ollama", "Chat", "ollama")
def test_a_chat_is_answered_whole_and_in_lines(client: Client) -> None:
    messages = [{"role": "user", "content": "one two three"}]
    reply = client.chat("echo", messages=messages)
    assert (reply.message.role, reply.message.content) == ("assistant", "one two three")
    assert (reply.done, reply.done_reason, reply.model) == (True, "stop", "echo")
    assert reply.prompt_eval_count
    assert reply.eval_count
    assert reply.total_duration
    pieces = list(client.chat("echo", messages=messages, stream=True))
    assert "".join(piece.message.content or "" for piece in pieces) == "one two three"
    assert len(pieces) > 2
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == reply.eval_count


@pytest.mark.parametrize(
    ("arguments", "expected_calls"),
    [('{"city": "Zu', []), ('{"city": "Zug"}', [{"city": "Zug"}]), ("", [{}])],
)
@pytest.mark.parametrize("is_streamed", [True, False])
async def test_an_incomplete_call_is_omitted(
    tmp_path: Path, arguments: str, expected_calls: list[Any], is_streamed: bool
) -> None:
    call = {"index": 0, "id": "c", "type": "function", "function": {"name": "look", "arguments": arguments}}
    choice = {"index": 0, "delta": {"tool_calls": [call]}, "finish_reason": "length"}
    frame = b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"
    async with api_server(tmp_path) as daemon_server:
        daemon_server.add(RelayModel("m", frame, b"data: [DONE]\n\n"))
        body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": is_streamed}
        response = await daemon_server.client.post("/api/chat", json=body)
    documents = [json.loads(line) for line in response.text.splitlines()]
    calls = [call for document in documents for call in document["message"].get("tool_calls", ())]
    assert [call["function"]["arguments"] for call in calls] == expected_calls
    assert documents[-1]["done_reason"] == "length"


def test_a_name_may_have_the_tag_of_ollama(client: Client) -> None:
    reply = client.chat("default:latest", messages=[{"role": "user", "content": "hi"}])
    assert (reply.model, reply.message.content) == ("default:latest", "hi")


def test_options_and_formats_reach_the_model(client: Client) -> None:
    reply = client.chat(
        "echo",
        messages=[{"role": "user", "content": "one two three four"}],
        options={"num_predict": 2, "temperature": 0, "num_ctx": 512, "stop": ["five"]},
    )
    assert reply.done_reason == "length"
    assert reply.eval_count == 2
    with pytest.raises(ResponseError) as error:
        client.chat("echo", messages=[{"role": "user", "content": "x"}], options={"temperature": 9})
    assert (error.value.status_code, "options.temperature" in error.value.error) == (400, True)
    schema = {"type": "object", "properties": {"a": {"type": "no such type"}}}
    with pytest.raises(ResponseError) as error:
        client.chat("echo", messages=[{"role": "user", "content": "x"}], format=schema)
    assert error.value.status_code == 400


@pytest.mark.conformance("Ollama", "Chat: logprobs", "ollama")
@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_with_the_tokens(client: Client, stream: bool) -> None:
    ask: Any = {"model": "echo", "stream": stream, "logprobs": True, "top_logprobs": 1}
    for answer in (
        client.chat(**ask, messages=[{"role": "user", "content": "one two"}]),
        client.generate(**ask, prompt="one two"),
    ):
        lines: Any = list(answer) if stream else [answer]
        tokens = [token for line in lines for token in line.logprobs or ()]
        assert "".join(token.token for token in tokens) == "one two"
        assert all(token.logprob <= 0 and token.top_logprobs[0].token == token.token for token in tokens)


def test_log_probabilities_are_refused_where_they_are_unsupported(client: Client) -> None:
    for call in (
        lambda: client.chat("handbook", messages=[{"role": "user", "content": "port"}], logprobs=True),
        lambda: client.generate("echo", "one", raw=True, logprobs=True),
    ):
        with pytest.raises(ResponseError, match="logprobs") as error:
            call()
        assert error.value.status_code == 400


@pytest.mark.conformance("Ollama", "Chat: tools", "ollama")
@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_is_called_and_its_result_answers_the_call(client: Client, stream: bool) -> None:
    messages: list[Any] = [{"role": "user", "content": "weather in Rome"}]
    ask: Any = {"model": "clever", "messages": messages, "tools": [WEATHER], "stream": stream}
    reply: Any = client.chat(**ask)
    answers = list(reply) if stream else [reply]
    message = next(answer.message for answer in answers if answer.message.tool_calls)
    [call] = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", {"city": "Rome"})
    messages += [message, {"role": "tool", "tool_name": "get_weather", "content": "sunny"}]
    assert client.chat("echo", messages=messages, tools=[WEATHER]).message.content
    with pytest.raises(ResponseError) as error:
        client.chat("echo", messages=[messages[0], messages[2]])
    assert "messages[1]" in error.value.error


def test_an_app_chats_like_a_model(client: Client) -> None:
    ask: Any = {
        "model": "handbook",
        "messages": [{"role": "user", "content": "Which port does it listen on?"}],
    }
    assert "7419" in (client.chat(**ask).message.content or "")
    pieces = [piece.message.content or "" for piece in client.chat(**ask, stream=True)]
    assert "7419" in "".join(pieces)


def test_a_prompt_is_completed_and_unsupported_fields_are_refused(client: Client) -> None:
    completion = client.generate("echo", "one two", system="Be brief.")
    assert (completion.response, completion.done) == ("one two", True)
    pieces = list(client.generate("echo", "one two", stream=True))
    assert "".join(piece.response for piece in pieces) == "one two"
    assert client.generate("echo", "one two", raw=True).response
    for field in ({"template": "x"}, {"context": [1]}):
        with pytest.raises(ResponseError, match=next(iter(field))):
            client.generate("echo", "one", **field)  # type: ignore[call-overload]


def test_pictures_are_passed_on_and_others_refused(client: Client) -> None:
    assert client.generate("clever", "see", images=[PIXEL]).done
    assert client.chat("clever", messages=[{"role": "user", "content": "see", "images": [PIXEL]}]).done
    with pytest.raises(ResponseError, match=r"images\[0\]"):
        client.generate("clever", "see", images=[b"no picture"])


def test_without_a_prompt_a_model_is_loaded_or_unloaded(
    client: Client, as_key: Callable[[str], Client]
) -> None:
    assert client.generate("echo").done_reason == "load"
    assert "echo" in [model.model for model in client.ps().models]
    with pytest.raises(ResponseError) as error:
        as_key("one").generate("echo", keep_alive=0)
    assert error.value.status_code == 403
    assert client.chat("echo", keep_alive=0).done_reason == "unload"
    assert "echo" not in [model.model for model in client.ps().models]


@pytest.mark.conformance("Ollama", "Embeddings", "ollama")
def test_texts_become_vectors(client: Client) -> None:
    reply = client.embed("vectors", ["one", "two"])
    assert [len(vector) for vector in reply.embeddings] == [8, 8]
    assert client.embed("vectors", "one").embeddings[0] == reply.embeddings[0]
    assert client.embeddings("vectors", "one").embedding == reply.embeddings[0]
    assert reply.prompt_eval_count
    with pytest.raises(ResponseError, match="embeddings"):
        client.embed("echo", "one")


def test_models_are_listed_and_shown_with_their_capabilities(client: Client) -> None:
    models = {model.model: model for model in client.list().models}
    assert {"echo", "clever", "vectors", "default", "handbook"} <= models.keys()
    assert len({model.digest for model in models.values() if model.model in ("echo", "clever")}) == 2
    assert set(client.show("echo:latest").capabilities or ()) == {"completion", "tools"}
    assert client.show("vectors").capabilities == ["embedding"]
    assert (client.show("vectors").modelinfo or {})["model.embedding_length"] == 8
    with pytest.raises(ResponseError) as error:
        client.show("nothing")
    assert error.value.status_code == 404


def test_errors_are_sentences_and_break_a_stream(client: Client, daemon: Daemon) -> None:
    for call in (
        lambda: client.chat("nothing", messages=[{"role": "user", "content": "x"}]),
        lambda: client.chat("vectors", messages=[{"role": "user", "content": "x"}]),
        lambda: client.pull("nothing"),
        lambda: client.push("echo"),
        lambda: client.create("mine", from_="echo"),
        lambda: client.copy("echo", "mine"),
        lambda: client.delete("nothing"),
    ):
        with pytest.raises(ResponseError) as error:
            call()
        assert 400 <= error.value.status_code < 500
        assert error.value.error.endswith((".", "?"))
    with pytest.raises(ResponseError):
        list(client.chat("clever", messages=[{"role": "user", "content": "break off"}], stream=True))
    for path in BODIES:
        for body in (b"", b"[]", b"{", b'{"model": 5}', b"{}"):
            [method] = METHODS[path]
            answer = httpx.request(method, f"{daemon.url}{path}", content=body, headers=bearer("boss"))
            assert answer.status_code == 400, (path, body)
            assert isinstance(answer.json()["error"], str)
    assert httpx.get(f"{daemon.url}/api/tags").status_code == 401
    assert isinstance(httpx.get(f"{daemon.url}/api/tags").json()["error"], str)
    assert httpx.delete(f"{daemon.url}/api/tags", headers=bearer("one")).status_code == 405


async def test_the_asynchronous_client_does_the_same(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url, headers=bearer("one")) as client:
        stream = await client.chat("echo", messages=[{"role": "user", "content": "one two"}], stream=True)
        assert "".join([piece.message.content or "" async for piece in stream]) == "one two"


def test_no_path_is_one_of_the_native_api(daemon: Daemon) -> None:
    document = httpx.get(f"{daemon.url}/openapi.json").json()
    operations = {
        path: [operation["tags"] for operation in document["paths"][path].values()] for path in METHODS
    }
    assert all(tags == [["Ollama"]] for tags in operations.values()), operations
    version = httpx.get(f"{daemon.url}/api/version", headers=bearer("one")).json()
    assert version["version"].split(".")[0].isdigit()
