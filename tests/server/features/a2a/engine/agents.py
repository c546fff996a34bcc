"""External agents: the unchanged server of the official SDK, and agents that send exactly what a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvicorn
from a2a.helpers.proto_helpers import (
    new_data_part,
    new_raw_part,
    new_task_from_user_message,
    new_text_message,
    new_text_part,
    new_url_part,
)
from a2a.server.agent_execution import AgentExecutor, RequestContext
from a2a.server.events import EventQueue
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import create_agent_card_routes, create_jsonrpc_routes, create_rest_routes
from a2a.server.tasks import InMemoryTaskStore, TaskUpdater
from a2a.types import a2a_pb2 as types
from aiohttp import web
from google.protobuf.json_format import MessageToDict, ParseDict
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send
from tests.api_server import listening

KEY = "a-secret-of-the-agent"


class Desk(AgentExecutor):
    """Does what the first word of a message says, and otherwise repeats the message word by word."""

    def __init__(self) -> None:
        self.heard: list[dict[str, Any]] = []
        self.working = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def execute(self, context: RequestContext, event_queue: EventQueue) -> None:
        message = context.message
        assert message is not None
        self.heard.append(MessageToDict(message))
        text = context.get_user_input()
        if text.startswith("plain"):
            await event_queue.enqueue_event(
                new_text_message("Just a message.", context_id=context.context_id)
            )
            return
        task = context.current_task
        if task is None:
            task = new_task_from_user_message(message)
            await event_queue.enqueue_event(task)
        work = TaskUpdater(event_queue, task.id, task.context_id)
        await work.start_work(work.new_agent_message([new_text_part("Thinking.")]))
        match text.split()[0] if text else "":
            case "fail":
                await work.failed(work.new_agent_message([new_text_part(f"Out of paper, {KEY}.")]))
            case "reject":
                await work.reject(work.new_agent_message([new_text_part("Not my work.")]))
            case "signin":
                await work.requires_auth(work.new_agent_message([new_text_part("Sign in first.")]))
            case "book":
                await work.requires_input(work.new_agent_message([new_text_part("Which day?")]))
            case "hang":
                self.working.set()
                await asyncio.Event().wait()
            case "silent":
                await work.complete(work.new_agent_message([new_text_part("Said at the end.")]))
            case "files":
                parts = [
                    new_text_part("Here:"),
                    new_data_part({"rows": [1, 2]}),
                    new_raw_part(b"\x89PNG", media_type="image/png", filename="a.png"),
                    new_raw_part("naïve".encode(), media_type="text/plain", filename="a.txt"),
                    new_url_part(
                        "https://example.com/a b.pdf", media_type="application/pdf", filename="a.pdf"
                    ),
                    new_url_part("javascript:alert(1)", media_type="text/html", filename="bad"),
                ]
                await work.add_artifact(parts)
                await work.complete()
            case _:
                words = [part.text for part in message.parts if part.text][-1].split(" ")
                for number, word in enumerate(words):
                    piece = [new_text_part(word if not number else f" {word}")]
                    await work.add_artifact(
                        piece, "answer", append=number > 0, last_chunk=number == len(words) - 1
                    )
                usage = {"usage": {"input_tokens": 3, "output_tokens": len(words)}}
                await work.update_status(types.TaskState.TASK_STATE_COMPLETED, metadata=usage)

    async def cancel(self, context: RequestContext, event_queue: EventQueue) -> None:
        assert context.task_id is not None and context.context_id is not None
        await TaskUpdater(event_queue, context.task_id, context.context_id).cancel()
        self.cancelled.set()


@dataclass
class Agent:
    """A serving agent. ``requests`` holds the path and the headers of each request it received."""

    url: str
    desk: Desk
    card: dict[str, Any]
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    watched: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client requests something while the agent works."""

    @property
    def source(self) -> str:
        return f"a2a+{self.url}"


def card_of(address: str, **more: Any) -> dict[str, Any]:
    return {
        "name": "The desk",
        "description": "Books rooms.",
        "version": "2.1",
        "supportedInterfaces": [{"url": address, "protocolBinding": "JSONRPC", "protocolVersion": "1.0"}],
        "capabilities": {"streaming": True},
        "defaultInputModes": ["text/plain", "image/*", "application/pdf"],
        "defaultOutputModes": ["text/plain"],
        "skills": [{"id": "book", "name": "Book a room", "description": "By day.", "tags": ["rooms"]}],
        **more,
    }


@asynccontextmanager
async def sdk_agent(*, binding: str = "JSONRPC", header: str = "", **card: Any) -> AsyncIterator[Agent]:
    """Serve the SDK's server at ``/desk``; if ``header`` is given, it must contain `KEY`."""
    listener = listening()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/desk"
    interface = {"url": url, "protocolBinding": binding, "protocolVersion": "1.0"}
    agent = Agent(url, Desk(), card_of(url, supportedInterfaces=[interface], **card))
    document = ParseDict(agent.card, types.AgentCard())
    handler = DefaultRequestHandler(agent.desk, InMemoryTaskStore(), document)
    routes = [
        *create_agent_card_routes(document, card_url="/desk/.well-known/agent-card.json"),
        *create_jsonrpc_routes(handler, "/desk"),
        *create_rest_routes(handler, path_prefix="/desk"),
    ]
    app = Starlette(routes=routes)

    async def door(scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        agent.requests.append((scope["path"], headers))
        if agent.desk.working.is_set():
            agent.watched.set()
        credential = f"Bearer {KEY}" if header == "authorization" else KEY
        if header and headers.get(header) != credential and not scope["path"].endswith(".json"):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": f"no such key: {headers.get(header)}".encode()})
            return
        await app(scope, receive, send)

    config = uvicorn.Config(door, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield agent
    finally:
        server.should_exit = True
        await task


Handle = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def raw_agent(handle: Handle, card: Any = None, **changes: Any) -> AsyncIterator[str]:
    """Serve an agent whose messages ``handle`` answers freely, and yield its source."""
    url = ""

    async def show(request: web.Request) -> web.StreamResponse:
        if callable(card):
            return await card(request)  # type: ignore[no-any-return]
        return web.Response(body=orjson.dumps(card if card is not None else card_of(url, **changes)))

    async def post(request: web.Request) -> web.StreamResponse:
        return await handle(request, orjson.loads(await request.read()))

    app = web.Application()
    app.router.add_get("/.well-known/agent-card.json", show)
    app.router.add_post("/{tail:.*}", post)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield f"a2a+{url}"
    finally:
        await runner.cleanup()
