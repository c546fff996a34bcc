"""A conversation: what was asked, and answers while they come."""

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
"""Messages of a conversation that are shown when it is opened."""


def _parser() -> MarkdownIt:
    # Bare names are left alone: to a finder of links "guide.md" is a host in Moldova.
    return MarkdownIt("gfm-like").disable("linkify")


class QuestionView(Static):
    """What a person said."""

    DEFAULT_CSS = """
    QuestionView { margin-top: 1; padding: 0 1; border-left: thick $accent; text-style: bold; }
    """

    def __init__(self, text: str) -> None:
        super().__init__(Content(safe(text)))


class ReplyView(Vertical):
    """An answer: Markdown that grows, and one line below it that says how it stands."""

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
        """What has come so far; all of it, for an answer of earlier."""
        # A link in an answer was written by a model or a document: it is shown, not followed.
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
        """Say what the daemon is doing before the first word."""
        self.note(f"{one_line(progress.stage)} {measure(progress)}".strip())

    def note(self, line: str, *, error: bool = False) -> None:
        """The line below the answer; empty hides it."""
        self._state.update(line)
        self._state.set_class(error, "-error")
        self._state.display = bool(line)

    async def end(self) -> None:
        """Nothing more comes; what has come is drawn."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None


class TranscriptView(VerticalScroll):
    """Questions and answers in order; follows the newest line until a person scrolls up."""

    DEFAULT_CSS = """
    TranscriptView > .turns { height: auto; min-height: 100%; }
    TranscriptView .left-out { padding: 0 1; color: $text-muted; }
    """

    def __init__(self, welcome: str, *, id: str) -> None:
        super().__init__(id=id)
        self._welcome = welcome

    def compose(self) -> ComposeResult:
        # As high as the window at least: what is followed would else sink to its bottom.
        with Vertical(classes="turns"):
            yield Static(Content(self._welcome), classes="empty")

    async def turn(self, question: str) -> ReplyView:
        """A question and the empty answer below it."""
        self.query_one(".empty").display = False
        reply = ReplyView()
        await self.query_one(".turns").mount(QuestionView(question), reply)
        self.anchor()
        return reply

    async def fill(self, messages: Sequence[ChatMessage]) -> None:
        """Show a conversation of earlier, of a long one the end."""
        await self.clear()
        self.query_one(".empty").display = not messages
        left_out = [Static("(earlier messages are kept, not shown)", classes="left-out")]
        parts = [
            QuestionView(item.content) if item.role == "user" else ReplyView(item.content)
            for item in messages
        ]
        shown_parts = parts if len(parts) <= MAX_SHOWN_MESSAGES else [*left_out, *parts[-MAX_SHOWN_MESSAGES:]]
        await self.query_one(".turns").mount_all(shown_parts)
        self.anchor()

    async def clear(self) -> None:
        """Forget everything."""
        await self.query("QuestionView, ReplyView, .left-out").remove()
        self.query_one(".empty").display = True

    @property
    def last(self) -> str:
        """The text of the newest answer; empty if there is none."""
        replies = list(self.query(ReplyView))
        return replies[-1].text if replies else ""
