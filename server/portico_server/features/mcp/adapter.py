"""The ASGI application at ``/mcp``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import mcp_types as types
from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.lowlevel.server import NotificationOptions, Server
from mcp.server.models import InitializationOptions
from mcp.server.transport_security import TransportSecuritySettings
from mcp.shared.exceptions import MCPError
from mcp.shared.jsonrpc_dispatcher import progress_token_from_params
from mcp_types.version import KNOWN_PROTOCOL_VERSIONS, MODERN_PROTOCOL_VERSIONS
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from portico_server import __version__
from portico_server.api.adapter import ProtocolAdapter
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.db.feed import Feed
from portico_server.features.mcp import follow
from portico_server.features.mcp.accept import AcceptEither
from portico_server.features.mcp.changes import Changes
from portico_server.features.mcp.completions import Completions
from portico_server.features.mcp.held import HeldRuns
from portico_server.features.mcp.incoming import bind, key_of, narrow
from portico_server.features.mcp.library import Library, StoreLibrary
from portico_server.features.mcp.prompts import PromptOffers
from portico_server.features.mcp.resources import ResourceOffers
from portico_server.features.mcp.session_origins import SessionOrigins
from portico_server.features.mcp.sessions import KeptSessions, McpSessions, SessionManager
from portico_server.features.mcp.skills import EXTENSION as SKILLS
from portico_server.features.mcp.skills import SkillOffers, SkillParams
from portico_server.features.mcp.tasks import EXTENSION, KeptTasks, TaskCalls, TaskParams, UpdateParams
from portico_server.features.mcp.tools import LISTED, TASK_AFTER_SECONDS, FoundTools, ToolCalls
from portico_server.features.mcp.views import EXTENSION as VIEWS
from portico_server.features.mcp.views import Drawings, ViewTools
from portico_server.features.prompts.library import PromptLibrary
from portico_server.features.skills.library import SkillLibrary
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.settings import MB_BYTES, comma_separated

if TYPE_CHECKING:
    from portico_server.api.services import ApiServices


MAX_ID_CHARS: Final = 256
"""Maximum length, in characters, of a client's request id and progress token."""

MAX_SESSIONS = 1_000
"""Maximum number of open sessions. A session is closed after half an hour without use, or earlier if new sessions need
its place.
"""

INSTRUCTIONS = (
    "Portico holds documents, apps and tools. To answer from the documents: call search with a question, then fetch "
    "with the id of each result that you need, and cite the url. search_NAME returns the passages of one store with "
    "their places, and an app answers a question with citations. Say that the documents do not contain an answer "
    "rather than guess. Files are also resources: portico://stores/STORE/files/FILE."
)
"""What assistants read first; some read only the first 512 characters."""

CACHE_HINTS: Final[Mapping[CacheableMethod, CacheHint]] = {
    "server/discover": CacheHint(300_000, "public"),
    "resources/templates/list": CacheHint(300_000, "public"),
    "tools/list": CacheHint(30_000),
    "prompts/list": CacheHint(30_000),
    "resources/list": CacheHint(30_000),
    "resources/read": CacheHint(5_000),
}
"""How long a client may reuse a result, in milliseconds. Only what every caller sees is public; clients that listen to
changes fetch a changed list earlier.
"""


class _Server(Server[dict[str, Any]]):
    """A server that declares in the handshake that its lists may change. The ``mcp`` package leaves this declaration
    to its user.
    """

    def create_initialization_options(
        self,
        notification_options: NotificationOptions | None = None,
        experimental_capabilities: dict[str, dict[str, Any]] | None = None,
        extensions: dict[str, dict[str, Any]] | None = None,
    ) -> InitializationOptions:
        send_noting = notification_options or NotificationOptions(
            tools_changed=True, resources_changed=True, prompts_changed=True
        )
        return super().create_initialization_options(send_noting, experimental_capabilities, extensions)


class McpAdapter:
    """Serves requests while `lifespan` is open. Each request's scope must contain the caller as ``portico.caller``.

    ``patience``: seconds after which a call may become a task; ``feed``: connects the daemons that share the database,
    ``None`` for a single daemon; ``sessions``: maximum number of open sessions; ``models``: models offered as tools,
    ``*`` for all; ``find``: whether clients search for tools instead of listing all; ``view_calls``: the tools for
    hosts that show views.
    """

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        library: Library,
        prompts: PromptLibrary,
        skills: SkillLibrary,
        questions: QuestionService,
        database: Database,
        *,
        max_body: int,
        feed: Feed | None = None,
        watch_stores: Callable[[Callable[[str], None]], None] | None = None,
        task_after_s: float = TASK_AFTER_SECONDS,
        sessions: int = MAX_SESSIONS,
        models: frozenset[str] = frozenset(),
        find: FoundTools = LISTED,
        view_calls: ViewTools | None = None,
    ) -> None:
        self._registry = registry
        self._held_runs = HeldRuns()
        skill_offers = SkillOffers(skills)
        session_origins = SessionOrigins()
        resources = ResourceOffers(library, skill_offers, session_origins)
        self._task_store = KeptTasks(database, self._held_runs, is_alone=feed is None)
        tasks = TaskCalls(self._held_runs, self._task_store, registry, runner, library, questions)
        self._changes = Changes(resources, tasks)
        registry.watch(self._changes.names)
        prompts.watch(self._changes.prompts)
        self._held_runs.watch(self._changes.task)
        if watch_stores is not None:
            watch_stores(self._changes.store)
        tools = ToolCalls(
            registry,
            runner,
            library,
            questions,
            self._held_runs,
            tasks,
            session_origins,
            task_after_s,
            models,
            find,
            view_calls,
        )
        server = _server(tools, resources, PromptOffers(prompts), registry, library, self._changes)
        server.add_request_handler("skills/list", types.PaginatedRequestParams, skill_offers.list)
        server.add_request_handler("skills/get", SkillParams, skill_offers.get)
        server.add_request_handler("tasks/get", TaskParams, tasks.get)
        server.add_request_handler("tasks/update", UpdateParams, tasks.update)
        server.add_request_handler("tasks/cancel", TaskParams, tasks.cancel)
        self._manager = SessionManager(
            server,
            # The gateway has checked Host and Origin; a second list of allowed hosts could only contradict
            # the gateway's list.
            security_settings=TransportSecuritySettings(enable_dns_rebinding_protection=False),
            max_request_body_size=max_body,
            max_sessions=sessions,
        )
        self._session_store = None if feed is None else KeptSessions(database, questions, feed, sessions)
        self._sessions = McpSessions(self._manager, sessions, self._session_store)
        self._app = AcceptEither(self._sessions)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run sessions and notifications. The same task must enter and leave this context."""
        await self._task_store.start()
        async with self._manager.run():
            working = [
                asyncio.create_task(self._changes.run(), name="mcp list changes"),
                asyncio.create_task(self._task_store.run(), name="mcp tasks"),
            ]
            if self._session_store is not None:
                working.append(
                    asyncio.create_task(self._session_store.run(self._sessions), name="mcp sessions")
                )
            try:
                yield
            finally:
                self._changes.close()
                await self._held_runs.close()
                for task in working:
                    task.cancel()
                await asyncio.wait(working)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = dict(scope)
        # HTTP allows white space around a header value; httptools keeps trailing white space.
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        if scope["method"] == "GET" and _header(scope, b"mcp-session-id") is None:
            # Nothing can be streamed outside a session; the protocol requires a 405 here.
            await _no_stream(scope, receive, send)
            return
        version = _header(scope, b"mcp-protocol-version")
        if version is not None and version not in KNOWN_PROTOCOL_VERSIONS:
            await _refuse_version(version, scope, receive, send)
            return
        try:
            only = key_of(scope["path"])
            if only is not None:
                await self._registry.resolve(only, scope["portico.caller"])
        except PorticoError as error:
            await _error(error.status, types.INVALID_REQUEST, error.message)(scope, receive, send)
            return
        narrow(scope, only)
        bind(scope)
        try:
            await self._app(scope, receive, send)
        except PorticoError as error:  # before an answer started
            await _error(error.status, types.INTERNAL_ERROR, error.message)(scope, receive, send)


def build(services: ApiServices) -> ProtocolAdapter:
    """Build the protocol adapter for the daemon's services."""
    library = StoreLibrary(services.registry, services.stores, services.files, services.artifacts)
    adapter = McpAdapter(
        services.registry,
        services.runner,
        library,
        services.prompts,
        services.skills,
        services.questions,
        services.database,
        max_body=services.settings.max_body_mb * MB_BYTES,
        feed=services.feed if services.settings.database else None,
        watch_stores=services.stores.watch,
        models=frozenset(comma_separated(services.settings.mcp_models)),
        find=FoundTools(services.tool_search, services.settings.mcp_tool_search),
        view_calls=ViewTools(Drawings(services), services.questions, services.runner),
    )
    return ProtocolAdapter(adapter, adapter.lifespan)


def _server(
    tools: ToolCalls,
    resources: ResourceOffers,
    prompts: PromptOffers,
    registry: Registry,
    library: Library,
    changes: Changes,
) -> _Server:
    """Return the server of the ``mcp`` package with Portico's handlers."""
    server = _Server(
        "portico",
        version=__version__,
        title="Portico",
        description="One entry point to models, knowledge, tools and agents.",
        instructions=INSTRUCTIONS,
        cache_hints=CACHE_HINTS,
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
    # Registered as a generic handler: a result may be a task, and the package treats log levels as obsolete.
    server.add_request_handler("tools/call", types.CallToolRequestParams, tools.call)
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, follow.set_level)
    server.add_notification_handler(
        "notifications/initialized", types.NotificationParams, changes.on_initialized
    )
    server.extensions = {EXTENSION: {}, SKILLS: {}, VIEWS: {}}
    # This removes the package's own spans: a call is a run, and runs are traced.
    server.middleware[:] = [_with_short_ids]
    return server


async def _with_short_ids(ctx: ServerRequestContext[Any, Any], call_next: CallNext) -> HandlerResult:
    """Refuse a request with a long id or progress token, because each progress notification repeats both."""
    token = progress_token_from_params(ctx.params)
    for name, value in (("id", ctx.request_id), ("_meta.progressToken", token)):
        if isinstance(value, str) and len(value) > MAX_ID_CHARS:
            raise MCPError(
                code=types.INVALID_PARAMS,
                message=f"{name} has {len(value):,} characters; at most {MAX_ID_CHARS} are allowed.",
            )
    return await call_next(ctx)


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), None)


async def _no_stream(scope: Scope, receive: Receive, send: Send) -> None:
    message = "Send MCP messages to this address by POST; a GET stream requires a session."
    response = _error(405, types.INVALID_REQUEST, message)
    response.headers["allow"] = "POST, GET, DELETE"
    await response(scope, receive, send)


async def _refuse_version(version: str, scope: Scope, receive: Receive, send: Send) -> None:
    message = (
        f"'{version[:40]}' is not a supported MCP version. Supported versions: "
        f"{', '.join(KNOWN_PROTOCOL_VERSIONS)}. Versions before {MODERN_PROTOCOL_VERSIONS[0]} require a "
        "session."
    )
    # As in `server/discover`: the handshake of a session negotiates the other versions.
    data = {"supported": list(MODERN_PROTOCOL_VERSIONS), "requested": version[:40]}
    response = _error(
        400, types.UNSUPPORTED_PROTOCOL_VERSION, message, data, await _id_of(Request(scope, receive))
    )
    await response(scope, receive, send)


async def _id_of(request: Request) -> str | int | None:
    """Return the id of the JSON-RPC request in a body, or ``None`` if it has no id."""
    try:
        body = await request.json()
    except (ValueError, ClientDisconnect):
        return None
    request_id = body.get("id") if isinstance(body, dict) else None
    return request_id if isinstance(request_id, str | int) and not isinstance(request_id, bool) else None


def _error(
    status: int,
    code: int,
    message: str,
    data: Mapping[str, Any] | None = None,
    request_id: str | int | None = None,
) -> JSONResponse:
    """Return a JSON-RPC error for a request that the ``mcp`` package does not process."""
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return JSONResponse({"jsonrpc": "2.0", "id": request_id, "error": error}, status_code=status)
