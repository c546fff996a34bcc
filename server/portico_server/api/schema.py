"""``/openapi.json``: the operations of every protocol adapter, and an operation for each app that the caller may call.

Requests on the hot paths do not reach FastAPI, so this module documents their operations.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from pkgutil import resolve_name
from typing import Any

from fastapi import Request
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel

from portico.wire import ErrorBody
from portico_server.api.auth.credentials import presented
from portico_server.api.auth.service import Auth
from portico_server.api.declarations import TEXT
from portico_server.api.endpoint import TheServices, new_router
from portico_server.api.operations import ERROR_SCHEMA, SCHEMA_REFERENCE
from portico_server.core import pools
from portico_server.core.errors import Forbidden, Unauthenticated
from portico_server.core.servable import Card
from portico_server.feature_table import declarations

router = new_router()

PATH = "/openapi.json"


class ErrorDocument(BaseModel):
    """The body of an error response in OpenAI's format."""

    error: ErrorBody


def _probe(name: str, summary: str, properties: Mapping[str, Any], **errors: str) -> dict[str, Any]:
    """Return an operation that needs no key and answers with an object. ``errors`` describes errors by status code."""
    schema = {"type": "object", "required": [*properties], "properties": properties}
    answer = {"description": "It does", "content": {"application/json": {"schema": schema}}}
    error: dict[str, Any] = {"content": {"application/json": {"schema": ERROR_SCHEMA}}}
    responses = {status: {"description": description, **error} for status, description in errors.items()}
    return {
        "get": {
            "tags": ["Daemon"],
            "summary": summary,
            "operationId": name,
            "security": [],
            "responses": {"200": answer, **responses},
        }
    }


@cache
def _hot_paths() -> Mapping[str, Any]:
    """Return the path items of requests that do not reach FastAPI. This imports features."""
    return {
        **{
            path: item
            for documentation in (
                "portico_server.api.openai.documentation:path_items",
                *(feature.documentation for feature in declarations() if feature.documentation),
            )
            for path, item in resolve_name(documentation)().items()
        },
        "/health": _probe(
            "health", "Check whether the daemon runs", {"status": {"const": "ok"}, "version": TEXT}
        ),
        "/ready": _probe(
            "ready",
            "Check whether the daemon can accept requests now",
            {"status": {"const": "ready"}},
            **{"503": "It is starting, or its database does not answer"},
        ),
    }


def extended(document: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's document with the hot paths and the authentication scheme."""
    paths, hot_paths = document["paths"], copy.deepcopy(_hot_paths())
    answer_schemas = _take_schemas(hot_paths)
    error_schema = ErrorDocument.model_json_schema(ref_template=SCHEMA_REFERENCE)
    error = jsonable_encoder(error_schema, exclude_none=True)  # in the format of FastAPI's own endpoints
    components = document["components"]
    schemas = {**components["schemas"], **answer_schemas, **error.pop("$defs"), "ErrorDocument": error}
    key = {"type": "http", "scheme": "bearer", "description": "A key of this daemon: pk-…"}
    schemes = {**components.get("securitySchemes", {}), "key": key}
    return {
        **document,
        "paths": {**hot_paths, **{path: {**hot_paths.get(path, {}), **paths[path]} for path in paths}},
        "components": {**components, "schemas": schemas, "securitySchemes": schemes},
        "security": [{}, {"key": []}],
    }


def _take_schemas(hot_paths: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the schemas in ``$defs`` of the answers' schemas, and return them by name."""
    schemas: dict[str, Any] = {}
    for path_item in hot_paths.values():
        for operation in path_item.values():
            for content in operation["responses"]["200"]["content"].values():
                schemas |= content["schema"].pop("$defs", {})
    return jsonable_encoder(schemas, exclude_none=True)  # type: ignore[no-any-return]  # a dict, as its argument


@router.get(PATH, include_in_schema=False)
async def openapi(request: Request, services: TheServices) -> dict[str, Any]:
    """Return the API document of all protocol adapters. If a key is required and the caller sends none, the document
    contains no apps.
    """
    # The document is built at the first request, in some tenths of a second, and then cached.
    document: dict[str, Any] = await pools.LOADING.run(request.app.openapi)
    auth: Auth = request.scope["portico.auth"]
    try:
        key = presented(request.scope["headers"])
        caller = (
            (await auth.identities.sign_in(key)).caller
            if auth.identities.is_token(key)
            else auth.identify(key, proxy_sign=request.scope["portico.exchange"].proxy_sign)
        )
    except (Unauthenticated, Forbidden):
        return document
    cards = await services.registry.cards(caller, "app")
    return {**document, "paths": {**document["paths"], **operations(cards)}}


def operations(cards: Sequence[Card]) -> dict[str, Any]:
    """Return an operation for each app, keyed by path, with the schemas of its input and output."""
    return {f"/api/apps/{card.name}/run": {"post": _appoperation(card)} for card in cards}


def _appoperation(card: Card) -> dict[str, Any]:
    body = {
        "type": "object",
        "properties": {
            "input": _schema(card.input_schema, "The input of the app"),
            "session": {"type": "string", "description": "The conversation to continue"},
        },
        "required": ["input"],
    }
    answer = {
        "type": "object",
        "properties": {
            "run": {"type": "string"},
            "output": _schema(card.output_schema, "The output of the app"),
        },
        "required": ["run", "output"],
    }
    stream = {
        "name": "stream",
        "in": "query",
        "schema": {"type": "boolean", "default": True},
        "description": "false for one JSON response; otherwise the events of the run",
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
                "content": {"application/json": {"schema": answer}, "text/event-stream": {"schema": TEXT}},
            },
            "4XX": {"description": "An error in OpenAI's format"},
        },
    }


def _schema(schema: Mapping[str, Any] | None, description: str) -> dict[str, Any]:
    return {"description": description, **(schema or {})}
