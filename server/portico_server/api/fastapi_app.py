"""The endpoints served by FastAPI. A thread imports this module after the daemon starts to serve."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from functools import cache
from http import HTTPStatus
from pkgutil import resolve_name
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from portico_server import __version__
from portico_server.api import errors, page, protected_resource_endpoint, schema
from portico_server.api.adapter import ProtocolAdapter
from portico_server.api.exchange import Exchange
from portico_server.api.native import (
    adapters,
    aliases,
    artifacts,
    cluster,
    configuration,
    daemon,
    deployments,
    engines,
    keys,
    metrics,
    questions,
    recordings,
    runs,
    sign_in,
    usage,
)
from portico_server.api.openai import models, rerank, tokens
from portico_server.api.routes import HOT
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.feature import Feature
from portico_server.feature_table import declarations, declarations_by_name

ROUTERS: Sequence[APIRouter] = (
    *(resolve_name(router) for feature in declarations() for router in feature.shared_routers),
    models.router,
    rerank.router,
    tokens.router,
    daemon.router,
    deployments.router,
    cluster.router,
    engines.router,
    aliases.router,
    adapters.router,
    recordings.router,
    runs.router,
    questions.router,
    keys.router,
    sign_in.router,
    configuration.router,
    artifacts.router,
    protected_resource_endpoint.router,
    usage.router,
    metrics.router,
    page.router,
    schema.router,
)
"""The routers of the core, one per resource, after those of features that take some of its requests."""


_importing = threading.Lock()
"""Held while the routers of a feature are imported. While FastAPI declares endpoints, it changes the warning filters of
the whole process, so two threads must not do so at the same time.
"""


def build(_services: ApiServices) -> ProtocolAdapter:
    """Build the adapter for the endpoints of the core that are neither hot nor MCP."""
    app = _application(ROUTERS)
    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to change it
    return ProtocolAdapter(app)


def build_feature(name: str) -> ProtocolAdapter:
    """Import the routers of a feature, and build the adapter for its endpoints."""
    feature = declarations_by_name()[name]
    direct = resolve_name(feature.direct) if feature.direct else None
    return ProtocolAdapter(_application(_routers(feature)), direct=direct)


@cache
def document() -> dict[str, Any]:
    """Return the OpenAPI document of all endpoints, those of the features first. This imports all features."""
    routers = [router for feature in declarations() for router in _routers(feature)]
    return schema.extended(_application([*routers, *ROUTERS]).openapi())


def _routers(feature: Feature) -> list[APIRouter]:
    with _importing:
        return [resolve_name(router) for router in feature.routers]


def _application(routers: Sequence[APIRouter]) -> FastAPI:
    return FastAPI(
        title="Portico",
        version=__version__,
        summary="One entry point to your models, knowledge, tools and agents.",
        description=(
            "A daemon without keys answers 401, with the code `missing_api_key`, to a request that did not come "
            "straight from its machine. "
            "Every path answers 403 to a request that could come from another site. The code of the error is "
            "`host_not_allowed` if the header `Host` does not name the daemon, and `origin_not_allowed` if the "
            "header `Origin` is neither the daemon's own nor in the setting `allowed_origins`."
        ),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        swagger_ui_oauth2_redirect_url=None,
        # The routes are passed unchanged: `include_router` would rebuild each route, which would delay the
        # first request by some tenths of a second.
        routes=[route for router in routers for route in router.routes],
        exception_handlers={
            PorticoError: _on_ours,
            RequestValidationError: _on_invalid,
            HTTPException: _on_http,
            Exception: _on_anything,
        },
    )


def _respond(request: Request, error: PorticoError) -> Response:
    exchange: Exchange = request.scope["portico.exchange"]
    headers = {name.decode(): value.decode() for name, value in errors.headers(error)}
    return Response(exchange.shape.body(error, exchange.id), exchange.shape.status(error), headers)


async def _on_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, PorticoError)
    return _respond(request, error)


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    field = getattr(request.scope.get("route"), "body_field", None)
    schema = TypeAdapter(field.field_info.annotation).json_schema() if field is not None else None
    return _respond(request, errors.from_validation(error.errors(), schema))


async def _on_http(request: Request, error: Exception) -> Response:
    """Return an error for requests that Starlette or FastAPI refuse: an unknown path, a wrong method, a malformed
    form.
    """
    assert isinstance(error, HTTPException)
    cause = error.__cause__
    if isinstance(cause, PorticoError):
        return _respond(request, cause)
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        paths = [*HOT, "/mcp", "/health", *_paths(request)]
        return _respond(request, errors.unknown_url(request.method, path, paths))
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allow = ", ".join(_methods(request))
        if request.method == "OPTIONS":
            return Response(status_code=HTTPStatus.NO_CONTENT, headers={"Allow": allow})
        return _respond(request, errors.NotAllowedHere(request.method, path, allow))
    return _respond(request, InvalidRequest(f"{error.detail}."))


async def _on_anything(request: Request, error: Exception) -> Response:
    """Report an unexpected error to the client without details. Starlette raises it again, and the gateway logs it."""
    exchange: Exchange = request.scope["portico.exchange"]
    return _respond(request, errors.to_portico_error(error, exchange.id, log=False))


def _paths(request: Request) -> Iterator[str]:
    """Yield the paths of the application, and the prefixes of the features' paths, which may be no paths themselves."""
    yield from (route.path for route in request.app.routes)
    prefixes = {path.rstrip("/*") for feature in declarations() for path in feature.paths}
    yield from prefixes - {request.url.path}


def _methods(request: Request) -> list[str]:
    """Return every method that the path supports, across all its routes."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _scope = route.matches(request.scope)
        if match is not Match.NONE:
            methods |= route.methods or set()
    return sorted(methods)
