"""FastAPI routes that use the JSON body that the gateway has parsed, and report absent clients as the gateway does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from hashlib import blake2b
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from portico_server.api.exchange import ClientLeft, Exchange


class ParsedRoute(APIRoute):
    """A route that uses the value that `Exchange.check_json` parsed and checked instead of parsing the body again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handler(request: Request) -> Response:
            exchange: Exchange = request.scope["portico.exchange"]
            if takes_json:
                exchange.require_json_type()  # checked for forms too, which the gateway does not parse
            if exchange.parsed is not None:
                # `Request.json` caches a parsed body in this attribute.
                request._json = exchange.parsed
            try:
                return await handle(request)
            except ClientDisconnect:  # of a route that reads a form as it arrives
                raise ClientLeft from None

        return handler


class TaggedRoute(ParsedRoute):
    """A route whose JSON answers to GET have an ``ETag``. If the client already has the answer, it gets 304."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        return handle if self.methods != {"GET"} else partial(_tagged, handle)


async def _tagged(handle: Callable[[Request], Coroutine[Any, Any, Response]], request: Request) -> Response:
    response = await handle(request)
    is_json = response.headers.get("content-type") == "application/json"
    if response.status_code != HTTPStatus.OK or not is_json or isinstance(response, StreamingResponse):
        return response
    tag = f'"{blake2b(response.body, digest_size=16).hexdigest()}"'
    # A browser asks again each time, with the tag; caches that several people share keep nothing.
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    tags = {item.strip().removeprefix("W/") for item in request.headers.get("if-none-match", "").split(",")}
    if tags & {tag, "*"}:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    response.headers.update(headers)
    return response
