"""Dependencies that a FastAPI endpoint can declare as parameters."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Header, Request

from portico_server.api.auth.service import Auth
from portico_server.api.operations import ERROR_SCHEMA
from portico_server.api.parsed_route import ParsedRoute, TaggedRoute
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.words import whole_number

T = TypeVar("T")


async def _services(request: Request) -> ApiServices:
    services: ApiServices = request.scope["portico.services"]
    return services


async def _caller(request: Request) -> Principal:
    caller: Principal = request.scope["portico.caller"]
    return caller


async def _record(
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
"""The services that protocol adapters use."""


def feature_service(name: str, kind: type[T]) -> Any:
    """Return the dependency of an endpoint on the service of a feature."""

    async def service(services: TheServices) -> T:
        service = await services.features.load(name)
        assert isinstance(service, kind)
        return service

    return Depends(service)


TheAuth = Annotated[Auth, Depends(_auth)]
"""The API keys."""

Caller = Annotated[Principal, Depends(_caller)]
"""The caller, as identified by the gateway."""

Seen = Annotated[int, Depends(_record)]
"""The number of the last event that a client saw, from its ``Last-Event-ID``; 0 before the first event."""


_REFUSED: dict[int | str, dict[str, Any]] = {
    "4XX": {
        "description": "An error in OpenAI's format",
        "content": {"application/json": {"schema": ERROR_SCHEMA}},
    }
}


def new_router(
    *, responses: dict[int | str, dict[str, Any]] = _REFUSED, tagged: bool = False, **options: Any
) -> APIRouter:
    """Return a router with Portico's route class. ``responses`` describes the errors; ``tagged``: answers to GET have
    an ``ETag``. ``options`` are the options of `fastapi.APIRouter`.
    """
    return APIRouter(
        route_class=TaggedRoute if tagged else ParsedRoute,
        responses=responses,
        generate_unique_id_function=lambda route: route.name,
        **options,
    )


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
