"""``/openapi.json``: what every protocol adapter takes, and an operation for each app that the caller may call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import Request

from portico_server.api import protected
from portico_server.api.auth import Auth, presented
from portico_server.api.endpoint import TheServices
from portico_server.api.endpoint import new_router as new_router
from portico_server.core import pools
from portico_server.core.errors import Unauthenticated
from portico_server.core.servable import Card

router = new_router()
protected_router = new_router(tags=["MCP"])

PATH = "/openapi.json"


@router.get(PATH, include_in_schema=False)
async def openapi(request: Request, services: TheServices) -> dict[str, Any]:
    """The document of all protocol adapters. Who presents no key sees no apps where one is needed."""
    # Made at the first request, which takes some tenths of a second, and then kept.
    document: dict[str, Any] = await pools.LOADING.run(request.app.openapi)
    auth: Auth = request.scope["portico.auth"]
    try:
        caller = auth.identify(presented(request.scope["headers"]))
    except Unauthenticated:
        return document
    cards = await services.registry.cards(caller, "app")
    return {**document, "paths": {**document["paths"], **operations(cards)}}


def operations(cards: Sequence[Card]) -> dict[str, Any]:
    """A path for each app, with the schemas of its input and output."""
    return {f"/api/apps/{card.name}/run": {"post": _operation(card)} for card in cards}


def _operation(card: Card) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {
            "input": _schema(card.input_schema, "What the app is given"),
            "session": {"type": "string", "description": "A conversation that the app keeps"},
        },
        "required": ["input"],
    }
    answer = {
        "type": "object",
        "properties": {"run": {"type": "string"}, "output": _schema(card.output_schema, "What it answers")},
        "required": ["run", "output"],
    }
    stream = {
        "name": "stream",
        "in": "query",
        "schema": {"type": "boolean", "default": True},
        "description": "false for one JSON answer; otherwise the events of the run",
    }
    return {
        "tags": ["Apps"],
        "summary": card.title or card.name,
        "description": card.description,
        "operationId": f"run_app_{card.name}",
        "parameters": [stream],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {
                "description": "The output, or the events of the run in order",
                "content": {"application/json": {"schema": answer}, "text/event-stream": {}},
            },
            "4XX": {"description": "An error in OpenAI's shape"},
        },
    }


def _schema(schema: Mapping[str, Any] | None, description: str) -> dict[str, Any]:
    return {"description": description, **(schema or {})}


# ``/.well-known/oauth-protected-resource``: how clients of MCP get in. Needs no key.


@protected_router.get(protected.WELL_KNOWN)
async def get_protected_resource(services: TheServices, request: Request) -> dict[str, Any]:
    """The metadata of the daemon as a whole (RFC 9728)."""
    return _resource(services, request, "")


@protected_router.get(protected.WELL_KNOWN + "/{path:path}")
async def get_protected_endpoint(path: str, services: TheServices, request: Request) -> dict[str, Any]:
    """The metadata of one MCP endpoint (RFC 9728)."""
    return _resource(services, request, f"/{path}")


def _resource(services: TheServices, request: Request, path: str) -> dict[str, Any]:
    base = protected.address(services.settings, request.url.scheme, request.headers.get("host"))
    return dict(protected.metadata(services.settings, base, path))
