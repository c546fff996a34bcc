"""FastAPI routes that use the JSON body that the gateway has parsed, and report absent clients as the gateway does."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

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
