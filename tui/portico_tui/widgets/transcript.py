"""A conversation: questions, and answers as they arrive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Markdown, Static
from textual.widgets.markdown import MarkdownStream

from portico_tui.daemon import ChatMessage, Progressed
from portico_tui.text import measure, one_line, safe

MAX_SHOWN_MESSAGES: Final = 60
"""Maximum number of messages shown when a conversation is opened."""


def _parser() -> MarkdownIt:
    # Plain names must not become links: a link detector treats "guide.md" as a host in Moldova.
    return MarkdownIt("gfm-like").disable("linkify")


class QuestionView(Static):
    """A person's message."""

    DEFAULT_CSS = """
    QuestionView { margin-top: 1; padding: 0 1; border-left: thick $accent; text-style: bold; }
    """

    def __init__(self, text: str) -> None:
        super().__init__(Content(safe(text)))


class ReplyView(Vertical):
    """An answer: growing Markdown, with a status line below it."""

    DEFAULT_CSS = """
    ReplyView { height: auto; margin-top: 1; }
    ReplyView > Markdown { height: auto; padding: 0 1; margin: 0; }
    ReplyView MarkdownH1 { content-align: left middle; }
    ReplyView > .state { height: auto; padding: 0 1; color: $text-muted; }
    ReplyView > .state.-error { color: $text-error; }
    """

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self.text = text
        """The text received so far; for an earlier answer, all of it."""
        # A model or a document wrote the links in an answer: they are shown, not followed.
        self._markdown = Markdown(safe(text), parser_factory=_parser, open_links=False)
        self._state = Static("" if text else "…", classes="state", markup=False)
        self._state.display = not text
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        yield self._markdown
        yield self._state

    async def write(self, piece: str) -> None:
        """Add a piece of the answer."""
        if self._stream is None:
            self._stream = Markdown.get_stream(self._markdown)
            self.note("")
        self.text += piece
        await self._stream.write(safe(piece))

    def progress(self, progress: Progressed) -> None:
        """Show what the daemon is doing before the first word."""
        self.note(f"{one_line(progress.stage)} {measure(progress)}".strip())

    def note(self, line: str, *, error: bool = False) -> None:
        """Set the line below the answer; an empty line hides it."""
        self._state.update(line)
        self._state.set_class(error, "-error")
        self._state.display = bool(line)

    async def end(self) -> None:
        """Finish the answer and draw all received text."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None


class TranscriptView(VerticalScroll):
    """Questions and answers in order; scrolls to the newest line until a person scrolls up."""

    DEFAULT_CSS = """
    TranscriptView > .turns { height: auto; min-height: 100%; }
    TranscriptView .left-out { padding: 0 1; color: $text-muted; }
    """

    def __init__(self, welcome: str, *, id: str) -> None:
        super().__init__(id=id)
        self._welcome = welcome

    def compose(self) -> ComposeResult:
        # At least as high as the window: otherwise the followed line would sink to its bottom.
        with Vertical(classes="turns"):
            yield Static(Content(self._welcome), classes="empty")

    async def turn(self, question: str) -> ReplyView:
        """Add a question and the empty answer below it."""
        self.query_one(".empty").display = False
        reply = ReplyView()
        await self.query_one(".turns").mount(QuestionView(question), reply)
        self.anchor()
        return reply

    async def fill(self, messages: Sequence[ChatMessage]) -> None:
        """Show an earlier conversation; of a long conversation, only the end."""
        await self.clear()
        self.query_one(".empty").display = not messages
        left_out = [Static("(earlier messages are stored but not shown)", classes="left-out")]
        parts = [
            QuestionView(item.content) if item.role == "user" else ReplyView(item.content)
            for item in messages
        ]
        shown_parts = parts if len(parts) <= MAX_SHOWN_MESSAGES else [*left_out, *parts[-MAX_SHOWN_MESSAGES:]]
        await self.query_one(".turns").mount_all(shown_parts)
        self.anchor()

    async def clear(self) -> None:
        """Remove all turns."""
        await self.query("QuestionView, ReplyView, .left-out").remove()
        self.query_one(".empty").display = True

    @property
    def last(self) -> str:
        """The text of the newest answer; empty if there is none."""
        replies = list(self.query(ReplyView))
        return replies[-1].text if replies else ""
