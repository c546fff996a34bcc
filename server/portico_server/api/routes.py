"""The route table: for each path, the handler or adapter that answers, whether a key is required, and the error
format.

``python -m portico_server.api.routes`` prints the table as Markdown. The last row stands for FastAPI's own routes,
which `portico_server.api.fastapi_app` defines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pkgutil import resolve_name
from typing import Any, Final

from portico_server.api.adapter import FASTAPI, MCP, Handler, SocketHandler
from portico_server.api.auth.protected_resource import WELL_KNOWN
from portico_server.api.auth.sign_ins import CALLBACK, START
from portico_server.api.error_shape import JSON_RPC, OPENAI, Shape
from portico_server.api.errors import UpgradeRequired
from portico_server.api.exchange import Exchange, Scope
from portico_server.api.openai import chat, completions, embeddings
from portico_server.api.services import ApiServices
from portico_server.api.socket import WebSocket
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.feature import Feature, FeatureRoute, Reference
from portico_server.feature_table import absent, declarations, not_there

GATEWAY: Final = "gateway"


@dataclass(frozen=True, slots=True)
class Route:
    """One route. ``path`` is an exact path, or a prefix that ends in ``*``; the longest matching prefix applies.

    The gateway itself calls a plain function: one of ``methods`` (on the hot paths; ``None`` for a method that FastAPI
    answers), ``handler`` (for any method) or ``socket`` (for a WebSocket). For all other requests, ``adapter``
    answers.
    """

    path: str
    protocol: str
    methods: Mapping[str, Handler | None] | None = None
    handler: Handler | None = None
    socket: SocketHandler | None = None
    adapter: str = FASTAPI
    shape: Shape | Reference = OPENAI
    shape_of: Callable[[Scope], Shape] | Reference = ""
    """Returns the error format, if it depends on more than the path; otherwise `shape` is the error format."""
    needs_key: bool = True
    takes_client_secret: bool = False
    """True if a client may use a client secret instead of a key."""

    def shape_for(self, scope: Scope) -> Shape:
        """Return the error format for a request."""
        if self.shape_of:
            shape: Shape = _resolved(self.shape_of)(scope)
            return shape
        return self.error_shape

    @property
    def error_shape(self) -> Shape:
        """The error format, unless it depends on the request."""
        shape: Shape = _resolved(self.shape)
        return shape


_resolve_once = cache(resolve_name)


def _resolved(reference: Any) -> Any:
    """Return the object that a feature's declaration refers to. Its module is imported on first use."""
    return _resolve_once(reference) if isinstance(reference, str) else reference


class FeatureFunction:
    """A function of a feature that answers requests or serves WebSockets. Its module is imported by the first call."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._function: Callable[[Any, ApiServices], Awaitable[None]] = self._load

    async def __call__(self, exchange: Exchange | WebSocket, services: ApiServices) -> None:
        await self._function(exchange, services)

    async def _load(self, exchange: Exchange | WebSocket, services: ApiServices) -> None:
        self._function = await pools.LOADING.run(resolve_name, self.reference)
        await self._function(exchange, services)


def _of_feature(feature: Feature) -> Iterator[Route]:
    for path in feature.paths if feature.routers else ():
        if path not in {route.path for route in feature.routes}:
            yield Route(path, "OpenAI" if path.startswith("/v1/") else "Portico", adapter=feature.name)
    for route in feature.routes:
        is_own = bool(feature.routers) and _is_below(route.path, feature.paths)
        yield _route_of(route, feature.name if is_own else FASTAPI)


def _is_below(path: str, prefixes: Sequence[str]) -> bool:
    return any(path.startswith(prefix.removesuffix("*")) for prefix in prefixes)


def _route_of(route: FeatureRoute, adapter: str) -> Route:
    return Route(
        route.path,
        route.protocol,
        {method: FeatureFunction(function) for method, function in route.methods.items()} or None,
        FeatureFunction(route.handler) if route.handler else None,
        FeatureFunction(route.socket) if route.socket else None,
        adapter=adapter,
        shape=route.shape or OPENAI,
        shape_of=route.shape_of,
        needs_key=route.needs_key,
        takes_client_secret=route.takes_client_secret,
    )


def _absent(feature: Feature) -> Iterator[Route]:
    """Yield routes that answer 404 at the paths of a feature that is off."""

    async def refuse(_exchange: Exchange, _services: ApiServices) -> None:
        raise not_there(feature.name)

    handled_paths = {route.path for route in feature.routes if route.methods or route.handler}
    paths = {*feature.paths, *handled_paths}
    yield from (Route(path, "OpenAI", handler=refuse) for path in sorted(paths))


ANY_PATH: Final = Route("*", "OpenAI, Portico")
"""The route for paths that no other route serves, which are FastAPI's own routes and unknown paths."""

PAGE_FILES: Final = Route("/web/*", "Portico", needs_key=False)
"""The route for the files of the page."""

_OF_THE_CORE: Final = (
    Route("/health", "Portico", adapter=GATEWAY, needs_key=False),
    Route("/ready", "Portico", adapter=GATEWAY, needs_key=False),
    Route("/v1/chat/completions", "OpenAI", {"POST": chat.create, "GET": None}),
    Route("/v1/completions", "OpenAI", {"POST": completions.create}),
    Route("/v1/embeddings", "OpenAI", {"POST": embeddings.create}),
    Route("/mcp", "MCP", adapter=MCP, shape=JSON_RPC),
    Route("/mcp/*", "MCP", adapter=MCP, shape=JSON_RPC),
    Route(f"{WELL_KNOWN}*", "MCP", needs_key=False),
    Route(START, "Portico", needs_key=False),
    Route(CALLBACK, "Portico", needs_key=False),
    Route("/", "Portico", needs_key=False),
    PAGE_FILES,
    Route("/favicon.ico", "Portico", needs_key=False),
    Route("/docs", "Portico", needs_key=False),
    Route("/docs/*", "Portico", needs_key=False),
    Route("/openapi.json", "Portico", needs_key=False),
)

ROUTES: Final = (
    *_OF_THE_CORE,
    *(route for feature in declarations() for route in _of_feature(feature)),
    *(route for feature in absent() for route in _absent(feature)),
    ANY_PATH,
)

_EXACT: Final = {route.path: route for route in ROUTES if route.socket is None and route.path[-1] != "*"}
_PREFIXES: Final = tuple(
    (route.path[:-1], route)
    for route in sorted(ROUTES, key=lambda route: len(route.path), reverse=True)
    if route.path[-1] == "*"
)

HOT: Final = {route.path: route.methods for route in ROUTES if route.methods and route.protocol != "Ollama"}
"""The functions that answer the hot paths of OpenAI's and Anthropic's APIs, keyed by path and method."""

SOCKETS: Final = {route.path: route for route in ROUTES if route.socket is not None}
"""The WebSocket routes, keyed by path."""


async def _require_upgrade(exchange: Exchange, _services: ApiServices) -> None:
    raise UpgradeRequired(exchange.scope["path"])


# A WebSocket whose upgrade a proxy has removed arrives as GET, with a key in a header or not.
_EXACT.update(
    {
        path: replace(_EXACT[path], methods={**(_EXACT[path].methods or {}), "GET": _require_upgrade})
        if path in _EXACT
        else Route(path, route.protocol, {"GET": _require_upgrade}, needs_key=False)
        for path, route in SOCKETS.items()
    }
)

_VERSIONED: Final = ("/chat/completions", "/completions", "/embeddings", "/models", "/rerank", "/responses")
"""Paths of OpenAI's API that clients of llama.cpp and vLLM also call without ``/v1``."""


def with_version(path: str) -> str | None:
    """Return the path in OpenAI's API that a client calls without ``/v1``, or ``None`` for any other path."""
    for prefix in _VERSIONED:
        if path == prefix or path.startswith(f"{prefix}/"):
            return f"/v1{path}"
    return None


def find_route(path: str) -> Route:
    """Return the route for an HTTP path."""
    route = _EXACT.get(path)
    if route is not None:
        return route
    for prefix, route in _PREFIXES:
        if path.startswith(prefix):
            return route
    raise AssertionError("the last prefix is empty")


def as_markdown() -> str:
    """Return the route table as Markdown, one row per route."""
    lines = ["| path | protocol | answered by | key | errors |", "| --- | --- | --- | --- | --- |"]
    for route in ROUTES:
        key = "yes" if route.needs_key else "no"
        if route.takes_client_secret:
            key += ", or a client secret"
        cells = (f"`{route.path}`", route.protocol, _answered_by(route), key, _errors(route))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _answered_by(route: Route) -> str:
    if route.socket is not None:
        return f"WebSocket: {_name_of(route.socket)}"
    if route.handler is not None:
        return _name_of(route.handler)
    if route.methods is None:
        return f"`{route.adapter}`"
    return ", ".join(
        f"{method}: {_name_of(handler) if handler else f'`{route.adapter}`'}"
        for method, handler in route.methods.items()
    )


def _name_of(function: Handler | SocketHandler) -> str:
    if isinstance(function, FeatureFunction):
        return f"`{function.reference.removeprefix('portico_server.').replace(':', '.')}`"
    module = function.__module__.removeprefix("portico_server.")
    return f"`{module}.{function.__name__}`"


def _errors(route: Route) -> str:
    return f"{route.error_shape.name}{', or by the request' if route.shape_of else ''}"


if __name__ == "__main__":
    print(as_markdown(), end="")
