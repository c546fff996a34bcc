"""A live view of a run: its text as it arrives, its steps and tool calls, its questions, and its value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Label, Static

from portico.client import AsyncClient
from portico.errors import Conflict, PorticoError, from_body
from portico.wire import (
    Asked,
    Cited,
    Delta,
    Event,
    Failed,
    Finished,
    GuardHit,
    HandedOff,
    Progressed,
    StepFinished,
    StepStarted,
    ToolCalled,
    ToolReturned,
)
from portico_tui.text import heading, measure, one_line, safe, shorten
from portico_tui.widgets.cancels_workers import CancelsWorkers
from portico_tui.widgets.question import ask_person

MAX_LINES = 400
"""Maximum number of log lines to keep."""

MAX_LINE_CHARS = 300
"""Maximum length of a log line, in characters."""

PAINT_INTERVAL_S = 0.1
"""Seconds between repaints."""


class RunView(CancelsWorkers, ModalScreen[None]):
    """Shows the events of a run until it ends. Closing the view calls ``close``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Close"),
        Binding("y", "copy", "Copy"),
    ]

    def __init__(
        self,
        client: AsyncClient,
        title: str,
        events: AsyncIterator[Event],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self._client = client
        self._title = title
        self._events = events
        self._release = close
        self._lines: list[Content] = []
        self._text = ""
        self._end: list[Content] = []
        self._stale = True

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog wide"):
            yield Label(Content(one_line(self._title)), classes="title")
            with VerticalScroll(id="course"):
                yield Static(id="happened", markup=False)
                yield Static(id="text", markup=False)
                yield Static(id="end", markup=False)
            yield Static("Esc: close · y: copy", classes="keys")

    def on_mount(self) -> None:
        self.query_one("#course").focus()
        self.query_one("#course", VerticalScroll).anchor()
        self.set_interval(PAINT_INTERVAL_S, self._paint)
        self._listen()

    @work(group="listen")
    async def _listen(self) -> None:
        try:
            async for event in self._events:
                self._take(event)
        except PorticoError as error:
            self._end = [Content.styled(one_line(error.message), "$text-error")]
        finally:
            if self._release is not None:
                await self._release()
        self._stale = True
        self._paint()

    def _take(self, event: Event) -> None:
        self._stale = True
        match event:
            case Delta(text=text):
                self._text += text
            case StepStarted(path=path):
                self._say(f"▸ {path}", "dim")
            case StepFinished(path=path, milliseconds=took, error=error):
                line = f"{'✗' if error else '✓'} {path}  {took:.0f} ms  {error or ''}"
                self._say(line, "$text-error" if error else "")
            case ToolCalled(name=name, arguments=arguments):
                self._say(f"→ {name} {arguments}", "$text-accent")
            case ToolReturned(name=name, text=text, is_error=has_failed):
                self._say(f"← {name}: {text}", "$text-error" if has_failed else "$text-accent")
            case GuardHit() as hit:
                self._say(
                    f"! {hit.guard}: {hit.action} {hit.kind} × {hit.count} in {hit.place}", "$text-warning"
                )
            case HandedOff(to=to):
                self._say(f"⇢ {to}", "$text-accent")
            case Cited(passages=passages):
                for passage in passages:
                    self._say(f"[{passage.rank}] {heading(passage)}", "dim")
            case Progressed() as progress:
                self._say(f"{progress.stage} {measure(progress)}", "dim")
            case Asked(kind="approval" | "input") as question:
                self._say(f"? {question.message or question.name}", "$text-warning")
                self._answer(question)
            case Failed(error=body):
                raise from_body(body)
            case Finished(result=result):
                self._finish(result)

    def _finish(self, result: Any) -> None:
        """Show the value of the run, unless the text already contains it."""
        if isinstance(result, dict) and set(result) == {"value", "usage", "citations"}:
            result = result["value"]
        words = result.get("content") if isinstance(result, dict) else result
        if result is not None and words != self._text:
            result_text = (
                result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, indent=2)
            )
            self._end = [Content(safe(result_text))]
        self._end.append(Content.styled("● finished", "$text-success"))

    def _say(self, line: str, style: str = "") -> None:
        self._lines.append(Content.styled(shorten(one_line(line), MAX_LINE_CHARS), style))
        del self._lines[:-MAX_LINES]

    @work(group="answer")
    async def _answer(self, question: Asked) -> None:
        try:
            await ask_person(self.app, self._client, question)
        except Conflict as error:
            self._say(error.message, "dim")
        except PorticoError as error:
            self.notify(error.message, title="Answer", severity="error", markup=False)

    def _paint(self) -> None:
        if not self._stale or not self.query("#happened"):
            return
        self._stale = False
        for name, content in (
            ("#happened", Content("\n").join(self._lines)),
            ("#text", Content(safe(self._text))),
            ("#end", Content("\n").join(self._end)),
        ):
            part = self.query_one(name, Static)
            part.display = bool(content)
            part.update(content)

    def action_leave(self) -> None:
        self.workers.cancel_group(self, "listen")
        self.dismiss(None)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(self._text or "\n".join(line.plain for line in self._end))
        self.notify("Copied.")
