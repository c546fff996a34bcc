"""``python -m portico_server.share``: one app as a web page that other pages can embed.

Visitors need no key. This process has a key, and relays only conversations with the app; the messages are stored only
in the visitors' browsers. The process ends when standard input closes or when `portico web`, which started it, ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response, StreamingResponse

from portico_server.api.page import app_page, icon, page_asset
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Forbidden, InvalidRequest, PorticoError, TooLarge, Unavailable
from portico_server.http.server import listen
from portico_server.settings import load

MAX_BODY_BYTES: Final = 512 * 1024
MAX_MESSAGES: Final = 200
MAX_CONVERSATIONS: Final = 64
"""Maximum number of concurrent connections."""

CONNECT_TIMEOUT_S: Final = 10.0
SILENCE_TIMEOUT_S: Final = 600.0
"""Maximum seconds of silence from the daemon."""

_ORIGIN = re.compile(r"https?://(?:\*\.)?[A-Za-z0-9.-]{1,253}(?::(?:\d{1,5}|\*))?")


@dataclass(frozen=True, slots=True)
class SharedApp:
    """An app as a web page.

    ``daemon`` is the address of the daemon; ``origins`` are the origins of the pages that can embed this page.
    """

    daemon: str
    key: str
    app: str
    title: str
    origins: Sequence[str] = ()


def application(shared_app: SharedApp) -> FastAPI:
    """Return the application with the page at ``/`` and its conversation at ``/chat``."""

    @asynccontextmanager
    async def lifespan(new_fast_api: FastAPI) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
        )
        async with aiohttp.ClientSession(timeout=timeout) as new_fast_api.state.session:
            yield

    fast_api = FastAPI(lifespan=lifespan, openapi_url=None)

    @fast_api.exception_handler(PorticoError)
    async def refuse(_request: Request, error: PorticoError) -> Response:
        return Response(
            orjson.dumps(error.body().to_json()), status_code=error.status, media_type="application/json"
        )

    @fast_api.get("/")
    async def page() -> HTMLResponse:
        return app_page(shared_app.title, shared_app.origins)

    @fast_api.post("/chat")
    async def chat(request: Request) -> Response:
        require_same_origin(request)
        messages = check_messages(await body_of(request))
        return await answer(shared_app, fast_api.state.session, messages)

    fast_api.get("/web/{name}")(page_asset)
    fast_api.get("/favicon.ico")(icon)
    return fast_api


def require_same_origin(request: Request) -> None:
    """Allow only requests from the page itself: another site's script must not spend the operator's money."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise InvalidRequest("Send JSON, with the header Content-Type: application/json.")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise Forbidden(f"Pages of {origin[:200]} can embed this page in a frame, but cannot call it.")


async def body_of(request: Request) -> Any:
    """Return the JSON of a request. Raise `TooLarge`, `InvalidRequest`."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > MAX_BODY_BYTES:
            raise TooLarge(
                f"The conversation has more than {MAX_BODY_BYTES // 1024} KB. Start a new conversation."
            )
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error


def check_messages(body: Any) -> list[Mapping[str, str]]:
    """Return the messages of a conversation, which must be texts that alternate between the user and the assistant."""
    messages = body.get("messages") if isinstance(body, dict) and set(body) == {"messages"} else None
    if not isinstance(messages, list) or not 1 <= len(messages) <= MAX_MESSAGES:
        raise InvalidRequest(
            f'The body must be exactly {{"messages": […]}} with 1 to {MAX_MESSAGES} messages.',
            param="messages",
        )
    for at, message in enumerate(messages):
        if (
            not isinstance(message, dict)
            or set(message) != {"role", "content"}
            or message["role"] not in ("user", "assistant")
            or not isinstance(message["content"], str)
        ):
            raise InvalidRequest(
                "A message must have 'role', user or assistant, and 'content', a text.",
                param=f"messages[{at}]",
            )
    return messages


async def answer(
    shared_app: SharedApp, session: aiohttp.ClientSession, messages: Sequence[Mapping[str, str]]
) -> Response:
    """Stream the daemon's answer. Raise `Unavailable` if the daemon does not respond."""
    body = {"model": shared_app.app, "messages": messages, "stream": True}
    headers = {"Authorization": f"Bearer {shared_app.key}"}
    try:
        client_response = await session.post(
            f"{shared_app.daemon}/v1/chat/completions", json=body, headers=headers
        )
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Unavailable("The daemon does not respond. Try again in a moment.") from error
    kind = client_response.headers.get("content-type", "application/json")
    return StreamingResponse(
        _relayed(client_response), status_code=client_response.status, headers={"Content-Type": kind}
    )


async def _relayed(client_response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the bytes of an answer. Closing this generator stops the daemon's work on the answer."""
    try:
        async for piece in client_response.content.iter_any():
            yield piece
    except (aiohttp.ClientError, TimeoutError):
        error = Unavailable("The connection to the daemon was lost. Try again.").body().to_json()
        yield b"data: " + orjson.dumps(error) + b"\n\n"
    finally:
        client_response.close()


def checked_origin(origin: str) -> str:
    """Return an origin that can embed the page, such as ``https://example.org``. Raise `InvalidRequest`."""
    if not _ORIGIN.fullmatch(origin):
        raise InvalidRequest(
            f"'{origin}' is not an origin: expected a scheme and host, such as https://example.org.",
            param="origin",
        )
    return origin


async def serve(shared_app: SharedApp, host: str, port: int) -> None:
    """Serve until standard input closes or a signal arrives; prints the address as a line of JSON on standard
    output.
    """
    with listen(load({"host": host, "port": str(port)}).settings) as listener:
        config = uvicorn.Config(
            application(shared_app),
            log_level="error",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONVERSATIONS,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        listener.listen()  # a program that reads the address can connect immediately
        bound, port = listener.getsockname()[:2]
        print(json.dumps({"url": f"http://{f'[{bound}]' if ':' in bound else bound}:{port}/"}), flush=True)
        asyncio.get_running_loop().add_reader(
            sys.stdin.fileno(), lambda: setattr(server, "should_exit", not os.read(sys.stdin.fileno(), 4096))
        )
        await server.serve([listener])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Errors are one JSON line on standard output and exit code 1."""
    parser = argparse.ArgumentParser(prog="portico_server.share", description=__doc__)
    for name in ("daemon", "app", "title", "host"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--origin", action="append", default=[])
    given_arguments = parser.parse_args(arguments)
    try:
        origins = [checked_origin(origin) for origin in given_arguments.origin]
        key = os.environ.pop("PORTICO_API_KEY", "")
        shared_app = SharedApp(
            given_arguments.daemon.rstrip("/"), key, given_arguments.app, given_arguments.title, origins
        )
        asyncio.run(serve(shared_app, given_arguments.host, given_arguments.port))
    except PorticoError as error:
        print(json.dumps(error.body().to_json(), ensure_ascii=False), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
