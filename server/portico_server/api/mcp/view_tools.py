"""The tools that views call, and those whose results they draw; offered to hosts that show views."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.api.mcp import incoming
from portico_server.api.mcp.drawings import Drawings
from portico_server.api.mcp.incoming import caller_of
from portico_server.api.mcp.result import failure
from portico_server.api.mcp.views import link
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.knowledge.contents import MAX_MARKED_CHARS, MAX_PAGE
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.tools.arguments import Checker

if TYPE_CHECKING:
    from portico_server.db.questions import QuestionRow

PAGE: Final = "portico_page"
QUESTIONS: Final = "portico_questions"
ANSWER: Final = "portico_answer"
EVAL: Final = "portico_eval"
FINETUNE: Final = "portico_finetune"
NAMES: Final = frozenset({PAGE, QUESTIONS, ANSWER, EVAL, FINETUNE})
"""The tools that views call. Nothing else goes by these names."""

MAX_QUESTIONS: Final = 100
_TEXT: Final = {"type": "string", "minLength": 1, "maxLength": 200}


def _tool(
    name: str, title: str, description: str, schema: Mapping[str, Any], meta: Mapping[str, Any]
) -> types.Tool:
    return types.Tool(
        name=name,
        title=title,
        description=description,
        input_schema={"type": "object", "additionalProperties": False, **schema},
        annotations=types.ToolAnnotations(
            title=title,
            read_only_hint=name != ANSWER,
            destructive_hint=None if name != ANSWER else False,
            open_world_hint=False,
        ),
        _meta=dict(meta),
    )


_PAGE_TOOL: Final = _tool(
    PAGE,
    "Draw a page",
    "A page of a PDF in a store as a picture with a passage marked.",
    {
        "properties": {
            "store": _TEXT,
            "file": {**_TEXT, "description": "The file's id."},
            "page": {"type": "integer", "minimum": 1, "maximum": MAX_PAGE},
            "passage": {"type": "string", "maxLength": MAX_MARKED_CHARS},
        },
        "required": ["store", "file", "page"],
    },
    link("citations", "app"),
)
_QUESTION_SCHEMA: Final = {
    "properties": {"tool": {**_TEXT, "description": "Only what calls of this tool ask."}}
}
_QUESTIONS_TOOL: Final = _tool(
    QUESTIONS,
    "Open questions",
    "What calls wait for: approvals and questions to a person, who answers them in the page that is shown.",
    _QUESTION_SCHEMA,
    link("approvals"),
)
_HIDDEN_QUESTIONS: Final = _QUESTIONS_TOOL.model_copy(update={"meta": link("approvals", "app")})
_ANSWER_TOOL: Final = _tool(
    ANSWER,
    "Answer a question",
    "The answer of a person to what a call asks.",
    {
        "properties": {
            "id": _TEXT,
            "accepted": {"type": "boolean"},
            "value": {"description": "What the question's schema asks for."},
            "note": {"type": "string", "maxLength": 10_000},
        },
        "required": ["id", "accepted"],
    },
    link("approvals", "app"),
)
_EVAL_TOOL: Final = _tool(
    EVAL,
    "Scores of an evaluation",
    "How the runs of an evaluation scored, in the order in which they ran.",
    {"properties": {"eval": {**_TEXT, "description": "Its id or name; the newest if left out."}}},
    link("chart"),
)
_FINETUNE_TOOL: Final = _tool(
    FINETUNE,
    "Curve of a fine-tuning job",
    "Training and validation loss of a fine-tuning job, step by step.",
    {"properties": {"job": {**_TEXT, "description": "Its id; the newest if left out."}}},
    link("chart"),
)
_CHARTS: Final = ((_EVAL_TOOL, "chat"), (_FINETUNE_TOOL, "finetune"))
"""Each with the scope that its figures take."""


class ViewTools:
    """The tools that views call, and those whose results they show; for hosts that show views."""

    def __init__(self, drawings: Drawings, questions: QuestionService, runner: Runner) -> None:
        self._drawings = drawings
        self._questions = questions
        self._runner = runner

    def list(self, context: ServerRequestContext[Any]) -> Sequence[types.Tool]:
        """Those that the caller may call at this endpoint; only the views call them where it shows one thing alone."""
        if incoming.is_narrow(context):
            return [_PAGE_TOOL, _HIDDEN_QUESTIONS, _ANSWER_TOOL]
        caller = caller_of(context)
        charts = [tool for tool, scope in _CHARTS if caller.allows(scope)]
        return [_PAGE_TOOL, _QUESTIONS_TOOL, _ANSWER_TOOL, *charts]

    async def call(
        self,
        context: ServerRequestContext[Any],
        name: str,
        arguments: Mapping[str, Any],
        find: Callable[[ServerRequestContext[Any], str], Awaitable[Card]],
    ) -> types.CallToolResult:
        """Call one of them. ``find`` gives the card behind the name of another tool."""
        tool = next((tool for tool in self.list(context) if tool.name == name), None)
        if tool is None:
            raise MCPError(
                types.INVALID_PARAMS, f"There is no tool '{name}' here, or you have no access to it."
            )
        caller = caller_of(context)
        try:
            Checker(name, tool.input_schema).check(arguments)
            if name == PAGE:
                return await self._page(context, caller, arguments)
            if name == ANSWER:
                return await self._answer(caller, arguments)
            if name == QUESTIONS:
                about = await find(context, arguments["tool"]) if "tool" in arguments else None
                return await self._open(context, caller, about)
            chart = await (
                self._drawings.scores(caller, arguments.get("eval", ""))
                if name == EVAL
                else self._drawings.curve(caller, arguments.get("job", ""))
            )
        except PorticoError as error:
            return failure(error.message)
        return _success(chart.to_text(), chart.to_json())

    async def _page(
        self, context: ServerRequestContext[Any], caller: Principal, given: Mapping[str, Any]
    ) -> types.CallToolResult:
        store, number = given["store"], int(given["page"])
        if incoming.store_of(context) not in (None, store):
            raise NotFound(f"The store '{store}' is not to be seen at this endpoint.")
        data = await self._drawings.page(caller, store, given["file"], number, given.get("passage", ""))
        picture = types.ImageContent(
            type="image", data=base64.b64encode(data).decode(), mime_type="image/png"
        )
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"Page {number}."), picture])

    async def _open(
        self, context: ServerRequestContext[Any], caller: Principal, about: Card | None
    ) -> types.CallToolResult:
        """What the caller's calls ask a person; of one tool, or of what this endpoint shows, if it is one thing."""
        page = await self._questions.list(caller, status="pending", limit=MAX_QUESTIONS)
        found = [
            row
            for row in reversed(page.data)
            if row.kind in ("approval", "input") and self._is_shown(context, row, about)
        ]
        text = "\n".join(f"{row.id}: {row.name}: {row.message}" for row in found)
        shown = [
            {
                "id": row.id,
                "kind": row.kind,
                "name": row.name,
                "message": row.message,
                "arguments": dict(row.arguments),
                "answer_schema": row.answer_schema,
            }
            for row in found
        ]
        return _success(text or "Nothing waits for an answer.", {"questions": shown})

    def _is_shown(self, context: ServerRequestContext[Any], row: QuestionRow, about: Card | None) -> bool:
        if about is None and not incoming.is_narrow(context):
            return True
        run = self._runner.get(row.run_id)
        if run is None or run.owner != caller_of(context).id:
            return False
        if about is not None:
            return run.name == about.key
        return run.name == incoming.only_of(context)

    async def _answer(self, caller: Principal, given: Mapping[str, Any]) -> types.CallToolResult:
        row = await self._questions.answer(
            given["id"],
            caller,
            accepted=given["accepted"],
            value=given.get("value"),
            note=given.get("note", ""),
        )
        return _success("Accepted." if row.accepted else "Refused.", {"id": row.id, "accepted": row.accepted})


def _success(text: str, structured: Mapping[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=dict(structured)
    )
