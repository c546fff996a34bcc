"""Small pages that a host shows next to a call: citations with the document's page, a call's questions, and charts.
Also the tools that these views call, and the tools whose results they draw.

Only hosts that declare the extension learn of views. A page contains no data and no key: the host gives it the call
and its result, and passes on the page's tool calls, including calls of `ViewTools`. The pages are built from
``page/src/views``.

Source: SEP-1865, the extension ``io.modelcontextprotocol/ui``, 2026-01-26.
"""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, Literal

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from portico_server.core import app_functions
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.features.mcp import incoming
from portico_server.features.mcp.incoming import caller_of
from portico_server.features.mcp.result import failure
from portico_server.features.stores.contents import MAX_MARKED_CHARS, MAX_PAGE
from portico_server.features.tools.arguments import Checker
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner

if TYPE_CHECKING:
    from portico_server.api.services import ApiServices
    from portico_server.db.questions import QuestionRow
    from portico_server.features.evals.api.evals_service import EvaluationService
    from portico_server.features.training.jobs import FineTuningJobs

EXTENSION: Final = "io.modelcontextprotocol/ui"
MEDIA_TYPE: Final = "text/html;profile=mcp-app"

View = Literal["citations", "approvals", "chart"]

_BASE: Final = "ui://portico/"
_TITLES: Final[Mapping[View, str]] = {
    "citations": "Citations",
    "approvals": "Questions",
    "chart": "Chart",
}
_CLOSED: Final = {
    "csp": {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []},
    "prefersBorder": True,
}
"""Content security policy of a view: the view may not connect to anything."""


def uri_of(view: View) -> str:
    """Return the URI of a view."""
    return f"{_BASE}{view}"


def view_at(uri: str) -> View | None:
    """Return the view at a URI, or ``None`` if it is not the URI of a view."""
    if not uri.startswith(_BASE):
        return None
    return next((view for view in _TITLES if uri_of(view) == uri), None)


def shows_views(context: ServerRequestContext[Any]) -> bool:
    """Return whether the host of this request can show views."""
    capabilities = context.session.client_capabilities
    extension = (capabilities.extensions or {}).get(EXTENSION) if capabilities is not None else None
    media_types = extension.get("mimeTypes") if isinstance(extension, Mapping) else None
    return isinstance(media_types, list) and MEDIA_TYPE in media_types


def read(view: View) -> types.ReadResourceResult:
    """Return the page of a view."""
    return types.ReadResourceResult(
        contents=[
            types.TextResourceContents(
                uri=uri_of(view), mime_type=MEDIA_TYPE, text=_html(view), _meta={"ui": _CLOSED}
            )
        ]
    )


@cache
def _html(view: View) -> str:
    return files("portico_server.api").joinpath("web", f"view-{view}.html").read_text(encoding="utf-8")


def linked(tool: types.Tool, card: Card) -> types.Tool:
    """Return the MCP tool of a card, linked to the view that shows its calls, if any."""
    view = _view_of(card)
    return tool if view is None else tool.model_copy(update={"meta": link(view)})


def _view_of(card: Card) -> View | None:
    if card.kind in ("store", "app"):
        return "citations" if card.kind == "store" or not app_functions.has_schema(card) else "approvals"
    return "approvals" if card.labels.get("needs_approval") is True else None


def link(view: View, *visible: str) -> dict[str, Any]:
    """Return the link from a tool to its view. ``visible`` lists who sees the tool: by default the model and the
    view.
    """
    return {"ui": {"resourceUri": uri_of(view), **({"visibility": list(visible)} if visible else {})}}


PAGE: Final = "portico_page"
QUESTIONS: Final = "portico_questions"
ANSWER: Final = "portico_answer"
EVAL: Final = "portico_eval"
FINETUNE: Final = "portico_finetune"
NAMES: Final = frozenset({PAGE, QUESTIONS, ANSWER, EVAL, FINETUNE})
"""Names of the tools that views call, reserved for them."""

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
"""Each chart tool, with the scope that its data requires."""


MAX_RUNS: Final = 100
"""Maximum number of evaluation runs in one chart."""

MAX_STEPS: Final = 1_000
"""Maximum number of training steps in the chart of a fine-tuning job; the chart shows the last steps."""

_MEASURED: Final = ("train_loss", "valid_loss", "reward")


@dataclass(frozen=True, slots=True)
class Drawing:
    """Named lines of points ``(x, y)``, and a table with the same and additional data."""

    title: str
    x: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]

    def to_json(self) -> dict[str, Any]:
        """Return the drawing as JSON for the view."""
        lines = [
            {"name": name, "points": [{"x": x, "y": y} for x, y in points]}
            for name, points in self.lines.items()
        ]
        rows = [list(row) for row in self.rows]
        return {
            "title": self.title,
            "x": self.x,
            "lines": lines,
            "columns": list(self.columns),
            "rows": rows,
        }

    def to_text(self) -> str:
        """Return the drawing as text, for a reader without the view."""
        rows = [self.columns, *self.rows] if self.rows else [("No data yet.",)]
        table = "\n".join(" | ".join("" if cell is None else str(cell) for cell in row) for row in rows)
        return f"{self.title}\n\n{table}"


class Drawings:
    """Data for the views. Each method checks the caller's rights as the corresponding API does."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    async def page(self, caller: Principal, store: str, file: str, number: int, passage: str) -> bytes:
        """Return a page of a PDF as a PNG with the passage marked."""
        stores = self._services.stores
        return await stores.contents.page(await stores.get(store, caller), file, caller, number, passage)

    async def scores(self, caller: Principal, ref: str) -> Drawing:
        """Return the mean scores of an evaluation's runs. ``ref`` is the evaluation's id or name; empty means the
        newest evaluation.
        """
        from portico_server.features.evals import statistics

        evaluations: EvaluationService = await self._services.features.load("evals")
        evals = evaluations.evals
        if ref:
            test = await evals.find(ref, caller)
        else:
            newest = (await evals.list(caller, limit=1, order="desc")).data
            if not newest:
                raise NotFound("No evaluation exists yet.", code="eval_not_found", param="eval")
            [test] = newest
        page = await evaluations.runs.list(
            test.row.id, caller, limit=MAX_RUNS, order="desc", statuses=("completed",)
        )
        lines: dict[str, list[tuple[float, float]]] = {}
        rows: list[tuple[str | float | None, ...]] = []
        for number, row in enumerate(reversed(page.data), 1):
            score = statistics.of(row.tally, "score")
            if score.value is not None:
                lines.setdefault(row.target, []).append((number, score.value))
            pass_rate = f"{row.tally['pass']}/{statistics.count(row.tally)}"
            rows.append(
                (number, row.name, row.target, _rounded(score.value), _rounded(score.error), pass_rate)
            )
        columns = ("Run", "Name", "Model", "Score", "Standard error", "Passed")
        return Drawing(test.row.name or test.row.id, "Run", lines, columns, rows)

    async def curve(self, caller: Principal, job_id: str) -> Drawing:
        """Return the losses or the reward of a fine-tuning job; an empty id means the newest job."""
        tuning: FineTuningJobs = await self._services.features.load("training")
        if job_id:
            job = await tuning.get(job_id, caller)
        else:
            newest = (await tuning.list(caller, limit=1)).data
            if not newest:
                raise NotFound("No fine-tuning job exists yet.", code="fine_tune_not_found", param="job")
            [job] = newest
        page = await tuning.events(job, ("metrics",), limit=MAX_STEPS)
        events = list(reversed(page.data))
        lines = {
            name: [
                (float(event.step or 0), float(event.data[name])) for event in events if name in event.data
            ]
            for name in _MEASURED
        }
        lines = {name: points for name, points in lines.items() if points}
        rows = [(event.step or 0, *(_rounded(event.data.get(name)) for name in lines)) for event in events]
        return Drawing(f"{job.model}: {job.status}", "Step", lines, ("Step", *lines), rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class ViewTools:
    """The tools that views call, and the tools whose results views show. Only hosts that show views get these tools."""

    def __init__(self, drawings: Drawings, questions: QuestionService, runner: Runner) -> None:
        self._drawings = drawings
        self._questions = questions
        self._runner = runner

    def list(self, context: ServerRequestContext[Any]) -> Sequence[types.Tool]:
        """Return the view tools that the caller may call at this endpoint. At an endpoint for a single object, they
        are hidden from the model.
        """
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
        """Call a view tool. ``find`` returns the card for another tool's name."""
        tool = next((tool for tool in self.list(context) if tool.name == name), None)
        if tool is None:
            raise MCPError(
                types.INVALID_PARAMS, f"The tool '{name}' does not exist, or you have no access to it."
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
        self, context: ServerRequestContext[Any], caller: Principal, arguments: Mapping[str, Any]
    ) -> types.CallToolResult:
        store, number = arguments["store"], int(arguments["page"])
        if incoming.store_of(context) not in (None, store):
            raise NotFound(f"The store '{store}' is not visible at this endpoint.")
        data = await self._drawings.page(
            caller, store, arguments["file"], number, arguments.get("passage", "")
        )
        picture = types.ImageContent(
            type="image", data=base64.b64encode(data).decode(), mime_type="image/png"
        )
        return types.CallToolResult(content=[types.TextContent(type="text", text=f"Page {number}."), picture])

    async def _open(
        self, context: ServerRequestContext[Any], caller: Principal, about: Card | None
    ) -> types.CallToolResult:
        """Return the open questions that the caller's calls ask a person. They are limited to one tool, or to the
        single object of this endpoint.
        """
        page = await self._questions.list(caller, status="pending", limit=MAX_QUESTIONS)
        question_rows = [
            row
            for row in reversed(page.data)
            if row.kind in ("approval", "input") and self._is_shown(context, row, about)
        ]
        text = "\n".join(f"{row.id}: {row.name}: {row.message}" for row in question_rows)
        questions = [
            {
                "id": row.id,
                "kind": row.kind,
                "name": row.name,
                "message": row.message,
                "arguments": dict(row.arguments),
                "answer_schema": row.answer_schema,
            }
            for row in question_rows
        ]
        return _success(text or "No questions are waiting for an answer.", {"questions": questions})

    def _is_shown(self, context: ServerRequestContext[Any], row: QuestionRow, about: Card | None) -> bool:
        if about is None and not incoming.is_narrow(context):
            return True
        run = self._runner.get(row.run_id)
        if run is None or run.owner != caller_of(context).id:
            return False
        if about is not None:
            return run.name == about.key
        return run.name == incoming.only_of(context)

    async def _answer(self, caller: Principal, arguments: Mapping[str, Any]) -> types.CallToolResult:
        row = await self._questions.answer(
            arguments["id"],
            caller,
            is_accepted=arguments["accepted"],
            value=arguments.get("value"),
            note=arguments.get("note", ""),
        )
        return _success("Accepted." if row.accepted else "Refused.", {"id": row.id, "accepted": row.accepted})


def _success(text: str, structured_content: Mapping[str, Any]) -> types.CallToolResult:
    return types.CallToolResult(
        content=[types.TextContent(type="text", text=text)], structured_content=dict(structured_content)
    )
