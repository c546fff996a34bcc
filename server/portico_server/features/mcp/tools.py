"""Tools over MCP: which tools a caller can use, whether they are listed or found with a pair of search tools, and how
a call becomes a run and its result.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sized
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.context import HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.core import app_functions, trace
from portico_server.core.addresses import SEEN_ADDRESSES
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import PorticoError, nearest
from portico_server.core.origins import ORIGINS
from portico_server.core.passage import PASSAGE_SCHEMA
from portico_server.core.registry import Registry
from portico_server.core.request import Request, ToolCall, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card
from portico_server.core.tool_search import FIND_TOOLS, QUERY_ARGUMENTS, SearchedTool, ToolSearch
from portico_server.features.mcp import documents, follow, incoming, inquiry, views
from portico_server.features.mcp.documents import DocumentTools
from portico_server.features.mcp.follow import ClientGone, RunFollower
from portico_server.features.mcp.held import HeldRun, HeldRuns
from portico_server.features.mcp.incoming import caller_of, page
from portico_server.features.mcp.library import Library
from portico_server.features.mcp.result import failure, result_of
from portico_server.features.mcp.sampling import client_model_features
from portico_server.features.mcp.session_origins import (
    SessionOrigins,
    is_receipt_of,
    origins_of_call,
    text_of,
)
from portico_server.features.mcp.tasks import TaskCalls
from portico_server.features.mcp.tool_names import is_plain, tool_names
from portico_server.features.mcp.views import ViewTools
from portico_server.features.tools.arguments import Checker
from portico_server.features.tools.code_mode.functions import RUN_CODE, CodeFunction, functions_of
from portico_server.runs.questions import QuestionService
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

CALL_TOOL: Final = "call_tool"

_CALL: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "The tool, as it was found."},
        "arguments": {"type": "object", "description": "What its schema asks for."},
    },
    "required": ["name"],
    "additionalProperties": False,
}

PAIR: Final = (
    types.Tool(
        name=FIND_TOOLS,
        title="Find tools",
        description="Find the tools that fit best, with their descriptions, and schemas or signatures. Say in general "
        "words what the tool does, such as 'send an email'. Look here before you say that something cannot be done.",
        input_schema=dict(QUERY_ARGUMENTS),
        output_schema={
            "type": "object",
            "properties": {"tools": {"type": "array", "items": {"type": "object"}}},
            "required": ["tools"],
        },
        annotations=types.ToolAnnotations(title="Find tools", read_only_hint=True, open_world_hint=False),
    ),
    types.Tool(
        name=CALL_TOOL,
        title="Call a tool",
        description=f"Call a tool that {FIND_TOOLS} has found.",
        input_schema=dict(_CALL),
        annotations=types.ToolAnnotations(title="Call a tool", read_only_hint=False),
    ),
)
"""The pair of tools that is listed instead of all others: one finds tools, one calls them."""


@dataclass(frozen=True, slots=True)
class FoundTools:
    """When the pair of search tools replaces the list: if there are more than ``above`` tools; never if ``above``
    is 0.
    """

    tool_search: ToolSearch | None = None
    above: int = 0

    def instead_of(self, named_tools: Sized) -> bool:
        """Return whether the pair replaces these tools."""
        return 0 < self.above < len(named_tools)

    def is_one(self, name: str) -> bool:
        """Return whether a called name may be the name of a tool in the pair."""
        return self.above > 0 and name in (FIND_TOOLS, CALL_TOOL)

    def search(
        self, cards: Mapping[str, Card], arguments: Mapping[str, Any], functions: Mapping[str, CodeFunction]
    ) -> Callable[[Context], Awaitable[ToolResult]]:
        """Return a search in ``cards``, which the caller may call. A result shows the signature of a tool that is among
        the ``functions`` of code, and the schema of any other tool. Raises `InvalidRequest`.
        """
        Checker(FIND_TOOLS, QUERY_ARGUMENTS).check(arguments)
        tools = {name: offer(name, card).tool for name, card in cards.items() if name != RUN_CODE}
        functions_by_key = {function.card.key: function for function in functions.values()}

        def document(name: str) -> dict[str, Any]:
            function = functions_by_key.get(cards[name].key)
            if function is not None:
                return {"name": name, "signature": function.stub}
            return tools[name].model_dump(mode="json", by_alias=True, exclude_none=True)

        searched_tools = [
            SearchedTool(tool.name, tool.description or "", tool.input_schema, tool.title or "")
            for tool in tools.values()
        ]

        async def work(context: Context) -> ToolResult:
            assert self.tool_search is not None
            places = await self.tool_search.best(arguments["query"], searched_tools, context)
            documents = [document(searched_tools[place].name) for place in places]
            return ToolResult(json.dumps(documents, ensure_ascii=False), structured={"tools": documents})

        return work

    @staticmethod
    def call(arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """Return the name and arguments of the requested tool. Raises `InvalidRequest`."""
        Checker(CALL_TOOL, _CALL).check(arguments)
        return arguments["name"], arguments.get("arguments") or {}


LISTED: Final = FoundTools()
"""All tools are listed, whatever their number."""


OPERATION: Final = "mcp"
"""Operation name in usage rows for runs started over MCP."""

PAGE_SIZE: Final = 250
"""Number of tools per page of a list: more than assistants usually have, so that clients without paging see all
tools.
"""

TASK_AFTER_SECONDS: Final = 1.0
"""Seconds after which a call becomes a task, for clients that support tasks."""

_PASSAGES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"passages": {"type": "array", "items": PASSAGE_SCHEMA}},
    "required": ["passages"],
}


@dataclass(frozen=True, slots=True)
class ToolOffer:
    """One MCP tool and the Servable behind it."""

    tool: types.Tool
    card: Card


def request_of(name: str, card: Card, arguments: Mapping[str, Any]) -> Request:
    """Return the request for a call of the tool ``name``. Raise `InvalidRequest` if the arguments do not match its
    schema.
    """
    if card.kind == "tool":
        return ToolCall(arguments)  # the tool checks the arguments itself
    schema = offer(name, card).tool.input_schema
    arguments = app_functions.rename_input(schema, arguments)
    Checker(name, schema).check(arguments)
    return app_functions.request(card, arguments)


def offer(name: str, card: Card) -> ToolOffer:
    """Return the MCP tool called ``name`` for an app, a tool, a store or a model."""
    title, description = card.title or card.name, card.description
    schemas: tuple[Mapping[str, Any], Mapping[str, Any] | None]
    match card.kind:
        case "store":
            title = f"Search {title}"
            description = (
                f"Find passages in the documents of '{card.name}', with file and place. {description}"
            )
            schemas = app_functions.SEARCH, _PASSAGES
        case "model":
            title = f"Ask {title}"
            description = f"Ask the language model '{card.name}'. {description}"
            schemas = app_functions.schemas(card)
        case "app":
            schemas = app_functions.schemas(card)
        case _:
            schemas = card.input_schema or {"type": "object"}, card.output_schema
    read_only = card.labels.get("read_only") is True if card.kind == "tool" else _only_reads(card)
    tool = types.Tool(
        name=name,
        title=title,
        description=description.strip() or title,
        input_schema=dict(schemas[0]),
        output_schema=None if schemas[1] is None else dict(schemas[1]),
        annotations=types.ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=None if read_only else card.labels.get("destructive") is True,
            open_world_hint=card.labels.get("open_world") is True,
        ),
    )
    return ToolOffer(tool, card)


def _only_reads(card: Card) -> bool:
    return card.kind == "store" or app_functions.changes_nothing(card)


class ToolCalls:
    """Handlers of ``tools/list`` and ``tools/call``."""

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        library: Library,
        questions: QuestionService,
        runs: HeldRuns,
        tasks: TaskCalls,
        session_origins: SessionOrigins,
        task_after_s: float = TASK_AFTER_SECONDS,
        models: frozenset[str] = frozenset(),
        find: FoundTools = LISTED,
        view_calls: ViewTools | None = None,
    ) -> None:
        self._documents = DocumentTools(library)
        self._models = models
        self._view_calls = view_calls
        self._find_tools = find
        self._registry = registry
        self._runner = runner
        self._library = library
        self._questions = questions
        self._held_runs = runs
        self._tasks = tasks
        self._session_origins = session_origins
        self._task_after_s = task_after_s

    async def list(
        self, context: ServerRequestContext[Any], params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """List all tools that the caller may call, or the tools that search for them."""
        cards = await self._tool_cards(context)
        has_documents = any(card.kind == "store" for card in cards.values())
        document_tools = {tool.name: tool for tool in documents.TOOLS if has_documents}
        if self._find_tools.instead_of(cards):
            code_tools = [offer(RUN_CODE, cards[RUN_CODE]).tool] if RUN_CODE in cards else []
            return types.ListToolsResult(tools=[*PAIR, *code_tools, *document_tools.values()])
        page_names, cursor = page(
            [(name, name) for name in sorted({*cards, *document_tools})],
            params.cursor if params else None,
            PAGE_SIZE,
        )
        tools = [document_tools.get(name) or offer(name, cards[name]).tool for name in page_names]
        if self._view_calls is not None and views.shows_views(context):
            tools = [views.linked(tool, cards[tool.name]) if tool.name in cards else tool for tool in tools]
            if cursor is None:
                tools += self._view_calls.list(context)
        return types.ListToolsResult(tools=tools, next_cursor=cursor)

    async def call(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> HandlerResult:
        """Run a tool. An unknown name is a protocol error; an error during the call is part of the result.

        A call that needs the client's answer first, or takes long, continues in another request.
        """
        caller = caller_of(context)
        # this handler runs in the session's asyncio task, whose trace context may belong to another
        # request
        if context.request is not None:
            trace.CURRENT.set(trace.of_headers(context.request.scope["headers"]))
        if params.request_state is not None:
            return await self._resume(context, params)
        name = params.name
        arguments: Mapping[str, Any] = params.arguments or {}
        if self._view_calls is not None and name in views.NAMES and views.shows_views(context):
            if "store" in arguments:
                self._session_origins.add(context, [f"store {arguments['store']}"])
            return await self._view_calls.call(context, name, arguments, self._find)
        if name in documents.NAMES:
            stores = documents.stores_in(context, await self._registry.cards(caller, "store"))
            if stores:
                try:
                    work = self._documents.work(context, name, arguments, stores)
                except PorticoError as error:
                    return failure(error.message)
                run = await self._runner.begin(OPERATION, name, caller, work)
                return await self._follow(context, run, 0, [f"store {store.name}" for store in stores])
        cards = await self._tool_cards(context) if self._find_tools.is_one(name) else {}
        if self._find_tools.instead_of(cards):
            try:
                if name == FIND_TOOLS:
                    functions = await functions_of(caller, self._registry) if RUN_CODE in cards else {}
                    work = self._find_tools.search(cards, arguments, functions)
                    run = await self._runner.begin(OPERATION, FIND_TOOLS, caller, work)
                    return await self._follow(context, run, 0)
                name, arguments = self._find_tools.call(arguments)
            except PorticoError as error:
                return failure(error.message)
            if name not in cards:
                return failure(
                    f"The tool '{name[:100]}' does not exist.{nearest(name, cards)} Find a tool first."
                )
        try:
            card = cards[name] if name in cards else await self._find(context, name)
            request = request_of(name, card, arguments)
        except PorticoError as error:
            return failure(error.message)
        read_data = self._session_origins.of(context)
        read_data.addresses.wrote(json.dumps(arguments))
        with ScopedValue(ORIGINS, read_data.origins), ScopedValue(SEEN_ADDRESSES, read_data.addresses):
            run = await self._runner.start(OPERATION, card.key, request, caller)
        # The run has not started yet: it starts in the next iteration of the event loop.
        run.client_model_features = client_model_features(context)
        return await self._follow(context, run, 0, origins_of_call(card, arguments), card)

    async def _resume(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> HandlerResult:
        """Pass the client's answers to a waiting call, then wait for the call."""
        held_run = self._held_runs.get(params.request_state or "", caller_of(context))
        if held_run is None:
            raise MCPError(types.INVALID_PARAMS, "No call waits for this answer; call the tool again.")
        try:
            await follow.answer_all(self._questions, context, held_run, params.input_responses or {})
        except PorticoError as error:
            self._held_runs.release(held_run)
            await held_run.run.cancel()
            return failure(error.message)
        if open_requests := inquiry.requests(context, held_run.questions.values()):
            return _asks(held_run, open_requests)
        self._held_runs.release(held_run)
        return await self._follow(context, held_run.run, held_run.seen)

    async def _follow(
        self,
        context: ServerRequestContext[Any],
        run: Run,
        event_number: int,
        origins: Iterable[str] = (),
        card: Card | None = None,
    ) -> HandlerResult:
        """Return the run's result, or a response with which the client continues the call. If this request ends,
        cancel the run unless the run outlives it. ``origins``: those of the foreign data in the result, unless
        the result of ``card`` is a receipt.
        """
        caller = caller_of(context)
        read_text = ""
        is_kept = False
        may_become_task = self._tasks.is_supported_by(context) and not self._held_runs.full(caller)
        try:
            outcome = await RunFollower(context, run, self._questions, event_number).wait(
                self._task_after_s if may_become_task else math.inf
            )
            if isinstance(outcome, ClientGone):
                if outcome.questions:
                    self._held_runs.require_room(caller)
                    held_run = self._held_runs.hold(run, outcome.seen, outcome.message, outcome.questions)
                    answer: HandlerResult = _asks(held_run, inquiry.requests(context, outcome.questions))
                else:
                    answer = await self._tasks.begin(context, run, outcome)
                is_kept = True
                return answer
            if card is None or not card.is_composed:
                read_text = text_of(outcome)
            if card is not None and is_receipt_of(card, outcome):
                origins = ()
            return await result_of(outcome, run.id, caller, self._library)
        except PorticoError as error:
            return failure(error.message)
        finally:
            self._session_origins.add(context, origins, read_text)
            if not is_kept and not run.ended:
                with anyio.CancelScope(shield=True):
                    await run.leave()

    async def _find(self, context: ServerRequestContext[Any], name: str) -> Card:
        """Return the card of the tool called ``name``. Raise `MCPError` if the caller can see no such card."""
        # Most calls use a tool's own name, which is found without computing the names of all cards.
        caller = caller_of(context)
        await self._registry.load(f"tool/{name}")
        plain = self._registry.get(f"tool/{name}", caller) if is_plain(name) else None
        card = None if plain is None else plain.card
        if (
            card is not None
            and card.name == name
            and incoming.shows(context, card)
            and caller.allows_any(card.scopes)
        ):
            return card
        cards = await self._tool_cards(context)
        if name not in cards:
            for key in (f"tool/{name}", name):
                await self._registry.late_sources.wait_for_start(key)
            cards = await self._tool_cards(context)
        if name not in cards:
            raise MCPError(
                types.INVALID_PARAMS,
                f"The tool '{name[:100]}' does not exist, or you have no access to it.{nearest(name, cards)}",
            )
        return cards[name]

    async def _tool_cards(self, context: ServerRequestContext[Any]) -> dict[str, Card]:
        caller = caller_of(context)
        cards = [
            card
            for card in await self._registry.cards(caller, "app", "tool", "store")
            if not documents.replaces(card)
        ]
        if self._models:
            cards += [
                card
                for card in await self._registry.cards(caller, "model")
                if "chat" in card.capabilities and self._models & {card.name, "*"}
            ]
        named_cards = tool_names(
            cards
        )  # names are computed for all cards, so that each card has the same name at every endpoint
        return {name: card for name, card in named_cards.items() if incoming.shows(context, card)}

    def schema(self, name: str) -> Mapping[str, Any] | None:
        """Return the schema of a tool's arguments, or ``None`` if the tool cannot be called. Performs no I/O; the
        schema is used to check the headers that repeat arguments.
        """
        servable = self._registry.get(f"tool/{name}")
        return None if servable is None else servable.card.input_schema


def _asks(held_run: HeldRun, requests: types.InputRequests) -> types.InputRequiredResult:
    """Return the questions that the client must answer before it calls again."""
    return types.InputRequiredResult(input_requests=requests, request_state=held_run.id)
