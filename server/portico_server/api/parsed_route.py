"""Routes of FastAPI whose JSON body is parsed once, by the gateway."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from portico_server.api.exchange import Exchange


class ParsedRoute(APIRoute):
    """A route that takes the value which `Exchange.check_json` has parsed, and bounded, instead of parsing it again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handler(request: Request) -> Response:
            exchange: Exchange = request.scope["portico.exchange"]
            if takes_json:
                exchange.require_json_type()  # of a form too, which is not parsed ahead
            if exchange.parsed is not None:
                # What `Request.json` keeps when it has parsed a body.
                request._json = exchange.parsed
            return await handle(request)

        return handler
