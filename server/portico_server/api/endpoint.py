"""What a FastAPI endpoint may ask for as a parameter."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.routing import APIRoute

from portico_server.api.auth.service import Auth
from portico_server.api.exchange import Exchange
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.words import whole_number


async def _services(request: Request) -> ApiServices:
    services: ApiServices = request.scope["portico.services"]
    return services


async def _caller(request: Request) -> Principal:
    caller: Principal = request.scope["portico.caller"]
    return caller


async def _seen(
    last_event_id: Annotated[str | None, Header(description="The number of the last event seen")] = None,
) -> int:
    if last_event_id is None:
        return 0
    number = whole_number(last_event_id)
    if number is None:
        raise InvalidRequest("Last-Event-ID must be the number of an event.", param="Last-Event-ID")
    return number


async def _auth(request: Request) -> Auth:
    auth: Auth = request.scope["portico.auth"]
    return auth


TheServices = Annotated[ApiServices, Depends(_services)]
"""What the daemon offers to protocol adapters."""

TheAuth = Annotated[Auth, Depends(_auth)]
"""The keys."""

Caller = Annotated[Principal, Depends(_caller)]
"""Who is calling, as the gateway found out."""

Seen = Annotated[int, Depends(_seen)]
"""The number of the last event that a client has seen, by its ``Last-Event-ID``; 0 before the first."""


# Routes of FastAPI whose JSON body is parsed once, by the gateway.


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


ERROR_SCHEMA: Mapping[str, str] = {"$ref": "#/components/schemas/ErrorDocument"}
"""Where the document of the API describes errors."""

_REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "An error in OpenAI's shape",
        "content": {"application/json": {"schema": ERROR_SCHEMA}},
    }
}


def new_router(**options: Any) -> APIRouter:
    """A router of such routes; ``options`` as `fastapi.APIRouter` has them."""
    return APIRouter(
        route_class=ParsedRoute,
        responses=_REFUSED,
        generate_unique_id_function=lambda route: route.name,
        **options,
    )


# Which scope an endpoint asks for, as the type of its ``caller`` parameter.


async def _admin(caller: Caller) -> Principal:
    caller.require("admin")
    return caller


async def _models(caller: Caller) -> Principal:
    caller.require("models:read")
    return caller


Admin = Annotated[Principal, Depends(_admin)]
"""A caller with the scope ``admin``."""

ModelsReader = Annotated[Principal, Depends(_models)]
"""A caller with the scope ``models:read``."""
