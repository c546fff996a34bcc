"""Every shape of `upstream_shapes`, through each API and to agents, streamed and not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import pytest_asyncio
from aiohttp import web
from tests.api_server import ApiServer, api_server
from tests.server.models.engines.remote.upstream_shapes import SHAPES, Shape

from portico_server.core.errors import PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply
from portico_server.models.spec import ModelSpec

ASYNC = pytest.mark.asyncio(loop_scope="module")

HELLO = [{"role": "user", "content": "hello"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "get", "parameters": PARAMETERS}}


class ShapedServer:
    """A server that answers each request with its current ``shape``."""

    def __init__(self) -> None:
        self.shape = SHAPES[0]

    async def handle(self, request: web.Request) -> web.Response:
        is_stream = (await request.json()).get("stream") is True
        document, events = self.shape.document, self.shape.events
        body = document if events is None or (document is not None and not is_stream) else events
        media_type = "application/json" if body is document else "text/event-stream"
        return web.Response(body=body, headers={"Content-Type": self.shape.media_type or media_type})


@dataclass(slots=True)
class Outcome:
    """What a client of one API reads: text, calls with parsed arguments, thoughts, or an error with its status.

    ``status`` is 200 for an error in the middle of a stream.
    """

    status: int = 200
    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    thoughts: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Shaped:
    """The API server and the server behind its only model ``m``."""

    api: ApiServer
    upstream: ShapedServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shaped(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shaped]:
    upstream = ShapedServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", upstream.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{runner.addresses[0][1]}/v1#far"
        async with api_server(tmp_path_factory.mktemp("shapes")) as api:
            await api.services.models.add(ModelSpec("m", address, parameters={"retries": 0}))
            yield Shaped(api, upstream)
    finally:
        await runner.cleanup()


def events_of(response: httpx.Response) -> list[Any]:
    lines = [line[5:].strip() for line in response.text.split("\n") if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def parse_calls(calls: Iterable[tuple[str, str]]) -> list[tuple[str, Any]]:
    return [(name, json.loads(arguments)) for name, arguments in calls]


async def post(api: ApiServer, path: str, **body: Any) -> httpx.Response:
    return await api.client.post(path, json={"model": "m", **body})


async def by_chat(api: ApiServer, *, stream: bool) -> Outcome:
    response = await post(api, "/v1/chat/completions", messages=HELLO, tools=[TOOL], stream=stream)
    if response.status_code != 200:
        return Outcome(response.status_code, error=response.json()["error"]["message"])
    if not stream:
        choice = response.json()["choices"][0]
        message = choice["message"]
        calls = message.get("tool_calls") or []
        assert (choice["finish_reason"] == "tool_calls") == bool(calls) and message["role"] == "assistant"
        assert all(call["id"] and call["type"] == "function" for call in calls)
        assert len({call["id"] for call in calls}) == len(calls)
        return Outcome(
            text=(message["content"] or "") + (message.get("refusal") or ""),
            calls=parse_calls((call["function"]["name"], call["function"]["arguments"]) for call in calls),
            thoughts=message.get("reasoning_content") or "",
        )
    outcome, parts, finishes = Outcome(), dict[int, dict[str, str]](), []
    documents = events_of(response)
    for document in documents:
        if document.get("error"):
            outcome.error = document["error"]["message"]
            return outcome
        assert len({(item["id"], item["created"], item["object"]) for item in documents if "id" in item}) == 1
        assert isinstance(document["created"], int) and document["model"] and document["choices"]
        for choice in document["choices"]:
            assert choice["index"] == 0
            delta = choice["delta"]
            outcome.text += (delta.get("content") or "") + (delta.get("refusal") or "")
            outcome.thoughts += delta.get("reasoning_content") or ""
            finishes += [choice["finish_reason"]] if choice.get("finish_reason") else []
            for part in delta.get("tool_calls") or ():  # as official clients do: texts are joined
                call = parts.setdefault(part["index"], {"id": "", "name": "", "arguments": ""})
                function = part.get("function") or {}
                call["id"] += part.get("id") or ""
                call["name"] += function.get("name") or ""
                call["arguments"] += function.get("arguments") or ""
    assert response.text.rstrip().endswith("data: [DONE]")
    assert len(finishes) == 1 and (finishes[0] == "tool_calls") == bool(parts)
    assert all(call["id"] for call in parts.values()) and sorted(parts) == list(range(len(parts)))
    outcome.calls = parse_calls((call["name"], call["arguments"]) for call in parts.values())
    return outcome


async def by_responses(api: ApiServer, *, stream: bool) -> Outcome:
    tool = {"type": "function", "name": "get", "parameters": PARAMETERS, "strict": False}
    response = await post(api, "/v1/responses", input="hello", tools=[tool], stream=stream)
    if response.status_code != 200:
        return Outcome(response.status_code, error=response.json()["error"]["message"])
    document = response.json() if not stream else events_of(response)[-1]
    if stream and document["type"] == "error":
        return Outcome(error=document["message"])
    document = document["response"] if stream else document
    if document["status"] == "failed":
        return Outcome(error=document["error"]["message"])
    assert document["status"] == "completed"
    outcome = Outcome()
    for item in document["output"]:
        if item["type"] == "message":
            outcome.text += "".join(part.get("text") or part.get("refusal") or "" for part in item["content"])
        elif item["type"] == "reasoning":
            outcome.thoughts += "".join(part["text"] for part in item["content"])
        else:
            outcome.calls += parse_calls([(item["name"], item["arguments"])])
    return outcome


async def by_messages(api: ApiServer, *, stream: bool) -> Outcome:
    tool = {"name": "get", "input_schema": PARAMETERS}
    response = await post(api, "/v1/messages", messages=HELLO, tools=[tool], max_tokens=99, stream=stream)
    if response.status_code != 200:
        return Outcome(response.status_code, error=response.json()["error"]["message"])
    outcome = Outcome()
    if not stream:
        for block in response.json()["content"]:
            outcome.text += block.get("text", "")
            outcome.thoughts += block.get("thinking", "")
            outcome.calls += [(block["name"], block["input"])] if block["type"] == "tool_use" else []
        return outcome
    calls: list[list[str]] = []
    for event in events_of(response):
        if event["type"] == "error":
            outcome.error = event["error"]["message"]
        elif event["type"] == "content_block_start" and event["content_block"]["type"] == "tool_use":
            calls.append([event["content_block"]["name"], ""])
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            outcome.text += delta.get("text", "")
            outcome.thoughts += delta.get("thinking", "")
            if "partial_json" in delta:
                calls[-1][1] += delta["partial_json"]
    outcome.calls = parse_calls((name, arguments or "{}") for name, arguments in calls)
    return outcome


async def by_ollama(api: ApiServer, *, stream: bool) -> Outcome:
    response = await post(api, "/api/chat", messages=HELLO, tools=[TOOL], stream=stream)
    if response.status_code != 200:
        return Outcome(response.status_code, error=response.json()["error"])
    outcome = Outcome()
    for line in response.text.splitlines():
        document = json.loads(line)
        if "error" in document:
            outcome.error = document["error"]
            break
        outcome.text += document["message"].get("content", "")
        outcome.thoughts += document["message"].get("thinking", "")
        for call in document["message"].get("tool_calls") or ():
            outcome.calls.append((call["function"]["name"], call["function"]["arguments"]))
    return outcome


async def by_agent(api: ApiServer, *, stream: bool) -> Outcome:
    """Ask as agents and flows do. They always read a stream and get the whole reply, without the thoughts."""
    chat = Chat(tuple(HELLO), {"tools": [TOOL]})
    try:
        reply = await api.services.runner.call("chat/completions", "m", chat, LOCAL)
    except PorticoError as error:
        return Outcome(error.status, error=error.message)
    assert isinstance(reply, ChatReply)
    return Outcome(
        text=reply.content, calls=parse_calls((call.name, call.arguments) for call in reply.tool_calls)
    )


Face = Callable[..., Awaitable[Outcome]]
FACES: tuple[tuple[Face, bool], ...] = (
    *((face, stream) for face in (by_chat, by_responses, by_messages, by_ollama) for stream in (False, True)),
    (by_agent, True),
)


@pytest.mark.parametrize(
    ("face", "stream"),
    FACES,
    ids=[f"{face.__name__}-{'stream' if stream else 'whole'}" for face, stream in FACES],
)
@pytest.mark.parametrize("shape", SHAPES, ids=[shape.name for shape in SHAPES])
@ASYNC
async def test_each_api_reads_the_shape(shaped: Shaped, shape: Shape, face: Face, stream: bool) -> None:
    shaped.upstream.shape = shape
    outcome = await face(shaped.api, stream=stream)
    if shape.error:
        assert shape.error in outcome.error and outcome.status in (200, shape.status)
        assert stream or outcome.status != 200 or face is by_responses
        return
    assert (outcome.error, outcome.status) == ("", 200)
    if face is by_agent and not shape.text:
        outcome.text = ""
    assert outcome.text == ("" if face is by_agent and "refusal" in shape.name else shape.text)
    assert outcome.calls == list(shape.calls)
    assert outcome.thoughts == ("" if face is by_agent else shape.thoughts)


def test_every_shape_has_a_name_of_its_own() -> None:
    assert len({shape.name for shape in SHAPES}) == len(SHAPES) >= 60
