"""Routes of FastAPI whose JSON body is parsed once, by the door."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from portico_server.api.exchange import Exchange


class ParsedRoute(APIRoute):
    """A route that takes the value which `Exchange.check_json` has parsed, and bounded, instead of parsing it again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            exchange: Exchange = request.scope["portico.exchange"]
            if exchange.parsed is not None:
                # What `Request.json` keeps when it has parsed a body.
                request._json = exchange.parsed
            return await handle(request)

        return handler


def router(**options: Any) -> APIRouter:
    """A router of such routes; ``options`` as `fastapi.APIRouter` has them."""
    return APIRouter(route_class=ParsedRoute, **options)
