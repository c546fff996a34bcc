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
    # Disable link detection for plain text: it would turn "guide.md" into a link, because .md is the domain
    # of Moldova.
    return MarkdownIt("gfm-like").disable("linkify")


class QuestionView(Static):
    """A person's message."""

    DEFAULT_CSS = """
    QuestionView { margin-top: 1; padding: 0 1; border-left: thick $accent; text-style: bold; }
    """

    def __init__(self, text: str) -> None:
        super().__init__(Content(safe(text)))


class ReplyView(Vertical):
    """An answer as Markdown that grows while it arrives, with a status line below it."""

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
        """The text received so far; for an answer from an earlier conversation, the whole text."""
        # Do not follow links: a model or a document wrote them.
        self._markdown = Markdown(safe(text), parser_factory=_parser, open_links=False)
        self._state = Static("" if text else "…", classes="state", markup=False)
        self._state.display = not text
        self._stream: MarkdownStream | None = None

    def compose(self) -> ComposeResult:
        yield self._markdown
        yield self._state

    async def write(self, piece: str) -> None:
        """Append a piece of text to the answer."""
        if self._stream is None:
            self._stream = Markdown.get_stream(self._markdown)
            self.note("")
        self.text += piece
        await self._stream.write(safe(piece))

    def progress(self, progress: Progressed) -> None:
        """Until the first word arrives, show what the daemon is doing."""
        self.note(f"{one_line(progress.stage)} {measure(progress)}".strip())

    def note(self, line: str, *, error: bool = False) -> None:
        """Set the line below the answer. An empty text hides the line."""
        self._state.update(line)
        self._state.set_class(error, "-error")
        self._state.display = bool(line)

    async def end(self) -> None:
        """Finish the answer, and draw all text that has been received."""
        if self._stream is not None:
            await self._stream.stop()
            self._stream = None


class TranscriptView(VerticalScroll):
    """Questions and answers in order. The view scrolls to the newest line, unless the person has scrolled up."""

    DEFAULT_CSS = """
    TranscriptView > .turns { height: auto; min-height: 100%; }
    TranscriptView .left-out { padding: 0 1; color: $text-muted; }
    """

    def __init__(self, welcome: str, *, id: str) -> None:
        super().__init__(id=id)
        self._welcome = welcome

    def compose(self) -> ComposeResult:
        # Make the turns at least as high as the window. Otherwise the line that the view follows would be at
        # the bottom.
        with Vertical(classes="turns"):
            yield Static(Content(self._welcome), classes="empty")

    async def turn(self, question: str) -> ReplyView:
        """Add a question and an empty answer below it, and return the answer."""
        self.query_one(".empty").display = False
        reply = ReplyView()
        await self.query_one(".turns").mount(QuestionView(question), reply)
        self.anchor()
        return reply

    async def fill(self, messages: Sequence[ChatMessage]) -> None:
        """Show the messages of an earlier conversation. If it is long, show only its end."""
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
        """The text of the latest answer, or an empty text if there is no answer."""
        replies = list(self.query(ReplyView))
        return replies[-1].text if replies else ""
