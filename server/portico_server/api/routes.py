"""The route table: for each path, the handler or adapter that answers, whether a key is required, and the error
format.

``python -m portico_server.api.routes`` prints the table as Markdown. The last row stands for FastAPI's own routes,
which `portico_server.api.fastapi_app` defines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from portico_server.api.a2a import adapter as a2a
from portico_server.api.a2a.cards import CARD_PATH
from portico_server.api.a2a.errors import HTTP as A2A_SHAPE
from portico_server.api.adapter import FASTAPI, MCP, Handler, SocketHandler
from portico_server.api.ag_ui import adapter as ag_ui
from portico_server.api.anthropic import messages
from portico_server.api.anthropic.errors import ANTHROPIC, is_versioned
from portico_server.api.auth.protected_resource import WELL_KNOWN
from portico_server.api.auth.sign_ins import CALLBACK, START
from portico_server.api.error_shape import JSON_RPC, OPENAI, Shape
from portico_server.api.exchange import Scope
from portico_server.api.oauth import adapter as oauth
from portico_server.api.oauth import metadata as oauth_metadata
from portico_server.api.oauth.shape import OAUTH
from portico_server.api.ollama import chat as ollama_chat
from portico_server.api.ollama import embeddings as ollama_embeddings
from portico_server.api.ollama import library as ollama_library
from portico_server.api.ollama import models as ollama_models
from portico_server.api.ollama.shape import GENERATE_SHAPE, STATUS_SHAPE
from portico_server.api.ollama.shape import SHAPE as OLLAMA_SHAPE
from portico_server.api.openai import audio, chat, completions, embeddings, images, realtime
from portico_server.api.openai.responses import create as responses
from portico_server.api.openai.responses import socket as response_socket
from portico_server.core.dataclass import dataclass

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
    shape: Shape = OPENAI
    shape_of: Callable[[Scope], Shape] | None = None
    """Returns the error format, if it depends on more than the path; otherwise `shape` is the error format."""
    needs_key: bool = True
    takes_client_secret: bool = False
    """True if a client may use a client secret instead of a key."""


def _shape_at_models(scope: Scope) -> Shape:
    """Return the error format for ``/v1/models``, which Anthropic's and OpenAI's clients share."""
    return ANTHROPIC if is_versioned(scope) else OPENAI


ROUTES: Final = (
    Route("/health", "Portico", adapter=GATEWAY, needs_key=False),
    Route("/ready", "Portico", adapter=GATEWAY, needs_key=False),
    Route("/v1/chat/completions", "OpenAI", {"POST": chat.create, "GET": None}),
    Route("/v1/completions", "OpenAI", {"POST": completions.create}),
    Route("/v1/embeddings", "OpenAI", {"POST": embeddings.create}),
    Route("/v1/responses", "OpenAI", {"POST": responses.create}),
    Route("/v1/responses", "OpenAI", socket=response_socket.serve),
    Route("/v1/realtime", "OpenAI", socket=realtime.serve, takes_client_secret=True),
    Route("/v1/audio/speech", "OpenAI", {"POST": audio.speak}),
    Route("/v1/audio/transcriptions", "OpenAI", {"POST": audio.transcribe}),
    Route("/v1/audio/translations", "OpenAI", {"POST": audio.translate}),
    Route("/v1/images/generations", "OpenAI", {"POST": images.generate}),
    Route("/v1/images/edits", "OpenAI", {"POST": images.edit}),
    Route("/v1/images/variations", "OpenAI", {"POST": images.vary}),
    Route("/v1/models*", "OpenAI, Anthropic", shape_of=_shape_at_models),
    Route("/v1/messages", "Anthropic", {"POST": messages.create}, shape=ANTHROPIC),
    Route("/v1/messages/count_tokens", "Anthropic", {"POST": messages.count_tokens}, shape=ANTHROPIC),
    Route("/v1/messages*", "Anthropic", shape=ANTHROPIC),
    Route("/api/chat", "Ollama", {"POST": ollama_chat.chat}, shape=OLLAMA_SHAPE),
    Route("/api/generate", "Ollama", {"POST": ollama_chat.generate}, shape=GENERATE_SHAPE),
    Route("/api/embed", "Ollama", {"POST": ollama_embeddings.embed}, shape=OLLAMA_SHAPE),
    Route("/api/embeddings", "Ollama", {"POST": ollama_embeddings.embed_one}, shape=OLLAMA_SHAPE),
    Route("/api/show", "Ollama", {"POST": ollama_models.show}, shape=OLLAMA_SHAPE),
    Route("/api/tags", "Ollama", {"GET": ollama_models.tags}, shape=OLLAMA_SHAPE),
    Route("/api/ps", "Ollama", {"GET": ollama_models.ps}, shape=OLLAMA_SHAPE),
    Route("/api/version", "Ollama", {"GET": ollama_models.version}, shape=OLLAMA_SHAPE),
    Route("/api/pull", "Ollama", {"POST": ollama_library.pull}, shape=STATUS_SHAPE),
    Route("/api/delete", "Ollama", {"DELETE": ollama_library.delete}, shape=OLLAMA_SHAPE),
    # Ollama's clients show the error to their user.
    Route("/api/push", "Ollama", shape=OLLAMA_SHAPE),
    Route("/api/create", "Ollama", shape=OLLAMA_SHAPE),
    Route("/api/copy", "Ollama", shape=OLLAMA_SHAPE),
    Route(CARD_PATH, "A2A", handler=a2a.serve, shape=A2A_SHAPE),
    Route("/a2a/*", "A2A", handler=a2a.serve, shape=A2A_SHAPE, shape_of=a2a.shape_of),
    Route("/ag-ui/*", "AG-UI", handler=ag_ui.serve),
    Route("/mcp", "MCP", adapter=MCP, shape=JSON_RPC),
    Route("/mcp/*", "MCP", adapter=MCP, shape=JSON_RPC),
    Route(f"{WELL_KNOWN}*", "MCP", needs_key=False),
    Route(oauth_metadata.WELL_KNOWN, "OAuth", handler=oauth.describe, shape=OAUTH, needs_key=False),
    Route(oauth_metadata.REGISTER, "OAuth", handler=oauth.register, shape=OAUTH, needs_key=False),
    Route(oauth_metadata.EXCHANGE, "OAuth", handler=oauth.issue, shape=OAUTH, needs_key=False),
    Route(oauth_metadata.REVOKE, "OAuth", handler=oauth.revoke, shape=OAUTH, needs_key=False),
    Route(oauth_metadata.AUTHORIZE, "OAuth", needs_key=False),
    Route("/api/public-sessions/*", "Portico", needs_key=False),
    Route(START, "Portico", needs_key=False),
    Route(CALLBACK, "Portico", needs_key=False),
    Route("/", "Portico", needs_key=False),
    Route("/web/*", "Portico", needs_key=False),
    Route("/favicon.ico", "Portico", needs_key=False),
    Route("/docs", "Portico", needs_key=False),
    Route("/docs/*", "Portico", needs_key=False),
    Route("/openapi.json", "Portico", needs_key=False),
    Route("*", "OpenAI, Portico"),
)

_EXACT: Final = {route.path: route for route in ROUTES if route.socket is None and route.path[-1] != "*"}
_PREFIXES: Final = tuple(
    (route.path[:-1], route)
    for route in sorted(ROUTES, key=lambda route: len(route.path), reverse=True)
    if route.path[-1] == "*"
)

HOT: Final = {route.path: route.methods for route in ROUTES if route.methods and route.protocol != "Ollama"}
"""The functions that answer the hot paths of OpenAI's and Anthropic's APIs, keyed by path and method."""

OLLAMA: Final = {
    route.path: route.methods for route in ROUTES if route.methods and route.protocol == "Ollama"
}
"""The functions that answer the hot paths of Ollama's API, keyed by path and method.

`portico_server.api.schema` describes the operations in this table and in `HOT` in ``/openapi.json``.
"""

SOCKETS: Final = {route.path: route for route in ROUTES if route.socket is not None}
"""The WebSocket routes, keyed by path."""


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
    module = function.__module__.removeprefix("portico_server.api.")
    return f"`{module}.{function.__name__}`"


def _errors(route: Route) -> str:
    return f"{route.shape.name}, or by the request" if route.shape_of is not None else route.shape.name


if __name__ == "__main__":
    print(as_markdown(), end="")
