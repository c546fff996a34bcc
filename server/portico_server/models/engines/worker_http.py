"""A worker's HTTP server: an aiohttp application on a port protected by the child's key.

For child processes only.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.models.engines import worker_link

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

MAX_BODY_BYTES = 256 * 1024 * 1024

CLIENT_CLOSED_STATUS = 499
"""Status of a response whose caller has left."""


def application(key: str) -> web.Application:
    """Return an empty application whose responses, including errors, are in OpenAI's format.

    An empty ``key`` allows every caller.
    """
    expected_header = f"Bearer {key}"

    @web.middleware
    async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
        if key and not hmac.compare_digest(request.headers.get("Authorization", ""), expected_header):
            return failure(401, "Only the daemon can use this engine.", "authentication_error")
        try:
            return await handler(request)
        except web.HTTPException as error:
            return failure(error.status, error.reason, "invalid_request_error")
        except PorticoError as error:
            body = error.body().to_json()
            return web.Response(status=error.status, body=orjson.dumps(body), content_type="application/json")
        except ConnectionResetError:  # the caller has left, which is not an error worth logging
            return web.Response(status=CLIENT_CLOSED_STATUS)

    return web.Application(middlewares=[handle], client_max_size=MAX_BODY_BYTES)


def failure(
    status: int, message: str, kind: str, code: str | None = None, retry_after: float | None = None
) -> web.Response:
    """Return an error in OpenAI's format."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    headers = {"Retry-After": f"{retry_after:g}"} if retry_after is not None else None
    return web.Response(
        status=status, body=orjson.dumps(body), content_type="application/json", headers=headers
    )


def answer(document: object) -> web.Response:
    """Return a document as JSON."""
    return web.Response(body=orjson.dumps(document), content_type="application/json")


async def body_of(request: web.Request) -> dict[str, object]:
    """Return the JSON object of a request."""
    try:
        body = orjson.loads(await request.read())
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from error
    if not isinstance(body, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return body


def serve(app: web.Application, *, host: str = "127.0.0.1", port: int = 0, is_announced: bool = True) -> None:
    """Serve until the process ends.

    If ``is_announced``, report the port to the daemon; otherwise print the base URL for people.
    """
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")

    async def run() -> None:
        # If a client disconnects, its request must be cancelled.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, host, port)
        await site.start()
        place = runner.addresses[0][1]
        if is_announced:
            worker_link.announce(place)
        else:
            print(f"http://127.0.0.1:{place}/v1", flush=True)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()

    try:
        import uvloop
    except ImportError:
        asyncio.run(run())
    else:
        uvloop.run(run())
