"""The ASGI application at ``/mcp``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import mcp_types as types
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from portico_server import __version__
from portico_server.api.mcp import log
from portico_server.api.mcp.accept import AcceptEither
from portico_server.api.mcp.caller import bind
from portico_server.api.mcp.changes import Changes
from portico_server.api.mcp.completion import Completions
from portico_server.api.mcp.held import HeldRuns
from portico_server.api.mcp.kept import KeptTasks
from portico_server.api.mcp.library import Library, StoreLibrary
from portico_server.api.mcp.narrow import key_of, narrow
from portico_server.api.mcp.prompts import Prompts
from portico_server.api.mcp.resources import Resources
from portico_server.api.mcp.sessions import Sessions
from portico_server.api.mcp.tasks import EXTENSION, TaskParams, Tasks, UpdateParams
from portico_server.api.mcp.tools import PATIENCE, Tools
from portico_server.apps.prompts.library import Library as PromptLibrary
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.runs.questions import Questions
from portico_server.runs.runner import Runner
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.api.parts import Parts

SESSIONS = 1_000
"""Sessions that may be open at once. Those that have been idle for half an hour are closed, and earlier where others
need the room.
"""

INSTRUCTIONS = (
    "Portico holds documents, apps and tools of this house. Ask an app for an answer with citations, or use "
    "a search_… tool for the passages themselves. The files behind them are resources: "
    "portico://stores/…/files/…"
)


class _Server(Server[dict[str, Any]]):
    """Says in the handshake that lists may change; the package leaves that to whoever calls this."""

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        told = notification_options or NotificationOptions(
            tools_changed=True, resources_changed=True, prompts_changed=True
        )
        return super().create_initialization_options(told, experimental_capabilities, extensions)


class McpFace:
    """Serves requests while `lifespan` is open. Wants the caller as ``portico.caller`` in each request's
    scope. ``patience``: seconds after which a call may become a task; ``alone``: no other daemon shares the database;
    ``sessions``: how many may be open at once.
    """

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        library: Library,
        prompts: PromptLibrary,
        questions: Questions,
        database: Database,
        *,
        max_body: int,
        alone: bool = True,
        watch_stores: Callable[[Callable[[str], None]], None] | None = None,
        patience: float = PATIENCE,
        sessions: int = SESSIONS,
    ) -> None:
        self._registry = registry
        self._held = HeldRuns()
        resources = Resources(library)
        self._kept = KeptTasks(database, self._held, alone=alone)
        tasks = Tasks(self._held, self._kept, registry, runner, library, questions)
        self._changes = Changes(resources, tasks)
        registry.watch(self._changes.names)
        prompts.watch(self._changes.prompts)
        self._held.watch(self._changes.task)
        if watch_stores is not None:
            watch_stores(self._changes.store)
        tools = Tools(registry, runner, library, questions, self._held, tasks, patience)
        server = _server(tools, resources, Prompts(prompts), registry, library, self._changes)
        server.add_request_handler("tasks/get", TaskParams, tasks.get)
        server.add_request_handler("tasks/update", UpdateParams, tasks.update)
        server.add_request_handler("tasks/cancel", TaskParams, tasks.cancel)
        self._sessions = StreamableHTTPSessionManager(
            server,
            # The door has checked Host and Origin; a second list here could only contradict it.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=max_body,
            max_sessions=sessions,
        )
        self._app = AcceptEither(Sessions(self._sessions.handle_request, sessions))

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Keep sessions and notices going; to be entered and left in one task."""
        await self._kept.start()
        async with self._sessions.run():
            working = [
                asyncio.create_task(self._changes.run(), name="mcp list changes"),
                asyncio.create_task(self._kept.run(), name="mcp tasks"),
            ]
            try:
                yield
            finally:
                self._changes.close()
                await self._held.close()
                for task in working:
                    task.cancel()
                await asyncio.wait(working)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" and _header(scope, b"mcp-session-id") is None:
            # Outside a session there is nothing to stream; the protocol wants a 405 then.
            await _no_stream(scope, receive, send)
            return
        version = _header(scope, b"mcp-protocol-version")
        if version is not None and version not in KNOWN_PROTOCOL_VERSIONS:
            await _refuse_version(version, scope, receive, send)
            return
        scope = dict(scope)
        try:
            only = key_of(scope["path"])
            if only is not None:
                await self._registry.resolve(only, scope["portico.caller"])
        except PorticoError as error:
            await _error(error.status, types.INVALID_REQUEST, error.message)(scope, receive, send)
            return
        narrow(scope, only)
        bind(scope)
        await self._app(scope, receive, send)


def build(parts: Parts) -> McpFace:
    """The face over the daemon's parts."""
    library = StoreLibrary(parts.registry, parts.stores, parts.files, parts.artifacts)
    return McpFace(
        parts.registry,
        parts.runner,
        library,
        parts.prompts,
        parts.questions,
        parts.database,
        max_body=parts.settings.max_body_mb * MB_BYTES,
        alone=not parts.settings.database,
        watch_stores=parts.stores.watch,
    )


def _server(
    tools: Tools,
    resources: Resources,
    prompts: Prompts,
    registry: Registry,
    library: Library,
    changes: Changes,
) -> _Server:
    """The package's server with our handlers."""
    server = _Server(
        "portico",
        version=__version__,
        title="Portico",
        description="One doorway to models, knowledge, tools and agents.",
        instructions=INSTRUCTIONS,
        get_tool_input_schema=tools.schema,
        on_list_tools=tools.list,
        on_list_prompts=prompts.list,
        on_get_prompt=prompts.get,
        on_list_resources=resources.list,
        on_list_resource_templates=resources.templates,
        on_read_resource=resources.read,
        on_subscribe_resource=changes.subscribe,
        on_unsubscribe_resource=changes.unsubscribe,
        on_completion=Completions(registry, library, prompts).complete,
        on_subscriptions_listen=changes.listen,
    )
    # By the general way: a result may be a task, and to the package the level of logs is a thing of the past.
    server.add_request_handler("tools/call", types.CallToolRequestParams, tools.call)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, log.set_level)
    server.add_notification_handler("notifications/initialized", types.NotificationParams, changes.greet)
    server.extensions = {EXTENSION: {}}
    server.middleware.clear()  # spans of the package's own: a call is a run, and runs are traced as such
    return server


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def _no_stream(scope: Scope, receive: Receive, send: Send) -> None:
    message = "This address takes MCP messages by POST; a stream by GET belongs to a session."
    response = _error(405, types.INVALID_REQUEST, message)
    response.headers["allow"] = "POST, GET, DELETE"
    await response(scope, receive, send)


async def _refuse_version(version: str, scope: Scope, receive: Receive, send: Send) -> None:
    served = list(KNOWN_PROTOCOL_VERSIONS)
    message = f"'{version[:40]}' is not a version of MCP that is served here. Served are {', '.join(served)}."
    data = {"supported": served, "requested": version[:40]}
    response = _error(400, types.UNSUPPORTED_PROTOCOL_VERSION, message, data)
    await response(scope, receive, send)


def _error(status: int, code: int, message: str, data: Mapping[str, Any] | None = None) -> JSONResponse:
    """A JSON-RPC error for a request whose body was not read."""
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status_code=status)
