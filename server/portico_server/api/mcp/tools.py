"""Tools over MCP: what is offered to a caller, and how a call becomes a run and its result."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError

from portico.wire import Cited, Delta, Event, Status, StepStarted, ToolCalled
from portico_server.api.mcp import narrow
from portico_server.api.mcp.caller import caller_of
from portico_server.api.mcp.library import Library
from portico_server.api.mcp.names import tool_names
from portico_server.api.mcp.resources import artifact_uri
from portico_server.core.citation import cited
from portico_server.core.errors import PorticoError, nearest
from portico_server.core.passage import PASSAGE_SCHEMA, origin, to_json, to_text
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import (
    Artifact,
    Chat,
    Found,
    Reply,
    Request,
    Result,
    Search,
    ToolCall,
    ToolResult,
)
from portico_server.core.servable import Card
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.tools.arguments import Checker

OPERATION: Final = "mcp"
"""What usage rows call a run that began here."""

PICTURES: Final = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""What assistants show."""

PICTURE: Final = 2 * 1024 * 1024
"""Bytes of a picture that is sent along with a result; a larger one is a link."""

TELL_EVERY = 0.25
"""Seconds between two progress notices about text; all other progress is told at once."""

_ASK: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "minLength": 1, "description": "What to ask, as one full question."},
        "history": {
            "type": "array",
            "description": "Earlier turns of the conversation, oldest first, if the question builds on them.",
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": ["user", "assistant"]},
                    "content": {"type": "string"},
                },
                "required": ["role", "content"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["question"],
    "additionalProperties": False,
}
_ANSWER: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string"},
        "citations": {"type": "array", "items": PASSAGE_SCHEMA},
        "cited": {
            "type": "array",
            "items": {"type": "integer"},
            "description": "Ranks of the citations that the answer points at.",
        },
    },
    "required": ["answer", "citations", "cited"],
}
_SEARCH: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "description": "What to look for."},
        "max_num_results": {"type": "integer", "minimum": 1, "maximum": 50, "default": 10},
    },
    "required": ["query"],
    "additionalProperties": False,
}
_PASSAGES: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {"passages": {"type": "array", "items": PASSAGE_SCHEMA}},
    "required": ["passages"],
}


@dataclass(frozen=True, slots=True)
class Offer:
    """One MCP tool and the Servable behind it."""

    tool: types.Tool
    card: Card

    def request(self, arguments: Mapping[str, Any]) -> Request:
        """The request that these arguments mean. Raises `InvalidRequest` if they do not match the schema."""
        if self.card.kind == "tool":
            return ToolCall(arguments)  # the tool checks them itself
        Checker(self.tool.name, self.tool.input_schema).check(arguments)
        if self.card.kind == "store":
            return Search(arguments["query"], max_num_results=int(arguments.get("max_num_results", 10)))
        return Chat((*arguments.get("history", ()), {"role": "user", "content": arguments["question"]}))


def offer(name: str, card: Card) -> Offer:
    """The MCP tool called ``name`` for an app, a tool or a store."""
    title, description = card.title or card.name, card.description
    given: tuple[Mapping[str, Any], Mapping[str, Any] | None]
    match card.kind:
        case "store":
            title = f"Search {title}"
            description = (
                f"Find passages in the documents of '{card.name}', with file and place. {description}"
            )
            given = _SEARCH, _PASSAGES
        case "app":
            given = _ASK, _ANSWER
        case _:
            given = card.input_schema or {"type": "object"}, card.output_schema
    read_only = card.kind != "tool" or card.labels.get("read_only") is True
    tool = types.Tool(
        name=name,
        title=title,
        description=description.strip() or title,
        input_schema=dict(given[0]),
        output_schema=None if given[1] is None else dict(given[1]),
        annotations=types.ToolAnnotations(
            title=title,
            read_only_hint=read_only,
            destructive_hint=None if read_only else card.labels.get("destructive") is True,
            open_world_hint=card.labels.get("open_world") is True,
        ),
    )
    return Offer(tool, card)


class Tools:
    """Handlers of ``tools/list`` and ``tools/call``."""

    def __init__(self, registry: Registry, runner: Runner, library: Library) -> None:
        self._registry = registry
        self._runner = runner
        self._library = library

    async def list(
        self, context: ServerRequestContext[Any], _params: types.PaginatedRequestParams | None
    ) -> types.ListToolsResult:
        """All that the caller may call, in one page: clients that know no pages see everything."""
        named = await self._named(context)
        return types.ListToolsResult(tools=[offer(name, card).tool for name, card in sorted(named.items())])

    async def call(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        """Run it. An unknown name is an error of the protocol; what goes wrong in the call is a result."""
        caller = caller_of(context)
        named = await self._named(context)
        card = named.get(params.name)
        if card is None:
            raise MCPError(
                types.INVALID_PARAMS,
                f"There is no tool '{params.name[:100]}' here, or you have no access to it."
                f"{nearest(params.name, named)}",
            )
        try:
            request = offer(params.name, card).request(params.arguments or {})
            run = self._runner.start(OPERATION, card.key, request, caller)
            result = await _follow(run, context.session)
            answer = _result(result)
            if isinstance(result, ToolResult) and result.artifacts:
                answer.content += [await self._shown(item, caller) for item in result.artifacts]
            return answer
        except PorticoError as error:
            return _failure(error.message)

    async def _named(self, context: ServerRequestContext[Any]) -> dict[str, Card]:
        cards = await self._registry.cards(caller_of(context), "app", "tool", "store")
        named = tool_names(cards)  # of all, so that a thing has one name at every endpoint
        return {name: card for name, card in named.items() if narrow.shows(context, card)}

    async def _shown(self, artifact: Artifact, caller: Principal) -> types.ContentBlock:
        """A small picture as itself, anything else as a link to a resource."""
        if artifact.media_type in PICTURES and artifact.bytes <= PICTURE:
            _artifact, data = await self._library.made(caller, artifact.id)
            return types.ImageContent(
                type="image", data=base64.b64encode(data).decode(), mime_type=artifact.media_type
            )
        return types.ResourceLink(
            type="resource_link",
            name=artifact.name,
            uri=artifact_uri(artifact.id),
            mime_type=artifact.media_type,
            size=artifact.bytes,
        )


async def _follow(run: Run, session: ServerSession) -> Result:
    """The run's result, its events told as progress. Whatever ends the call ends the run."""
    assert run.task is not None
    progress = _Progress(session)
    try:
        async for _number, event in run.log.follow():
            await progress.tell(event)
        await asyncio.wait([run.task])
        if run.task.cancelled():  # by somebody else: our own caller is still waiting for an answer
            raise PorticoError("The run was cancelled before it had an answer.", code="cancelled")
        result: Result = run.task.result()
        return result
    finally:
        with anyio.CancelScope(shield=True):
            await run.cancel()


class _Progress:
    """Events as progress notices, whose number only ever rises."""

    def __init__(self, session: ServerSession) -> None:
        self._session = session
        self._count = 0
        self._text = ""
        self._told = float("-inf")

    async def tell(self, event: Event) -> None:
        match event:
            case Delta(text=text):
                self._text += text
                now = asyncio.get_running_loop().time()
                if now - self._told >= TELL_EVERY:
                    self._told, said, self._text = now, self._text, ""
                    await self._send(said)
            case Cited(passages=passages):
                files = dict.fromkeys(passage.filename for passage in passages)
                await self._send(f"Found {len(passages)} passages in {', '.join(files) or 'no file'}")
            case Status(stage=stage, message=message, done=done, total=total, unit=unit):
                share = f" ({done:g} of {total:g} {unit})" if done is not None and total else ""
                await self._send(f"{message or stage}{share}")
            case StepStarted(path=path):
                await self._send(path)
            case ToolCalled(name=name):
                await self._send(f"Calls {name}")

    async def _send(self, message: str) -> None:
        self._count += 1
        await self._session.report_progress(self._count, message=message)


def _result(result: Result) -> types.CallToolResult:
    match result:
        case Reply(content=answer, citations=passages):
            sources = "".join(f"\n[{passage.rank}] {origin(passage)}" for passage in passages)
            text = f"{answer}\n\nSources:{sources}" if passages else answer
            structured = {
                "answer": answer,
                "citations": to_json(passages),
                "cited": list(cited(answer, len(passages))),
            }
            return _success(text, structured)
        case Found(passages=passages):
            return _success(to_text(passages) or "Nothing was found.", {"passages": to_json(passages)})
        case ToolResult(text=text, structured=found, is_error=failed):
            return _failure(text) if failed else _success(text, found)
        case _:
            return _failure(f"The answer is of a kind that MCP cannot carry: {type(result).__name__}.")


def _success(text: str, structured: Mapping[str, Any] | None) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)],
        structured_content=None if structured is None else dict(structured),
    )


def _failure(sentence: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=sentence)], is_error=True)
