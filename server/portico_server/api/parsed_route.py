"""FastAPI routes whose JSON body is parsed once, by the gateway."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from portico_server.api.exchange import Exchange


class ParsedRoute(APIRoute):
    """A route that uses the value parsed and bounded by `Exchange.check_json` instead of parsing it again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None

        async def handler(request: Request) -> Response:
            exchange: Exchange = request.scope["portico.exchange"]
            if takes_json:
                exchange.require_json_type()  # also for a form, which is not parsed ahead of time
            if exchange.parsed is not None:
                # The attribute in which `Request.json` caches a parsed body.
                request._json = exchange.parsed
            return await handle(request)

        return handler
