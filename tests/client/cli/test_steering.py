"""What a model, a document or a tool writes cannot steer the terminal: each text at each output of a command."""

from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest
from rich.console import Console

from portico.cli import cite, render
from portico.cli.progress import Bars, Spinner
from portico.cli.runs_trace import tree_of
from portico.schemas.flows import TraceStep
from portico.wire import Passage, Place

TEXTS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;b3duZWQ=\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\here\x1b]8;;\x1b\\",
    "screen": "\x1b[2J\x1b[H",
    "one byte": "\x9b2J\x9d0;owned\x9c",
    "device": "\x1bP+q544e\x1b\\",
    "over it": "good\rbad\b\b\bworse\x7f",
    "direction": "\u202egnp.exe\u2066x\u2069",
    "surrogate": "a\ud800b",
    "markup": "[link=http://evil.example]here[/link][bold]x[/bold]",
    "action": "[@click=app.quit]here[/]",
    "unfinished markup": "[/nothing]",
}

CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
OWN = re.compile(r"\x1b\[[\d;]*m|\x1b\[\?25[hl]|\x1b\[1A|\x1b\[2K|\r")
"""What a command writes itself: colours, and the line of a spinner."""


def step(text: str) -> TraceStep:
    error = {"message": text}
    return TraceStep(
        f"{text}.{text}", "tool", "failed", 1, text, {text: text}, error, 0.0, 1.0, 0, 0, 0, False
    )


def answer(writer: Callable[[Console], cite.PlainWriter], text: str) -> None:
    plain_writer = writer(render.console())
    for piece in (text, f"\n> {text}\n| a |\n| - |\n| {text} |\n"):
        plain_writer.write(render.safe(piece))
    plain_writer.close()


def passage(text: str) -> None:
    result_passage = Passage(1, 0.5, text, "file-1", text, place=Place(heading=(text,)))
    render.console().print(cite.heading(result_passage))
    render.console().print(cite.excerpt(result_passage, [(0, 2)]))


def progress(text: str) -> None:
    with Spinner(text) as spinner:
        spinner.say(text)
    with Bars() as bars:
        bars.bar(text).fail(text)


OUTPUTS: dict[str, Callable[[str], None]] = {
    "rows": lambda text: render.print_rows((text, "B"), [(text, [text])]),
    "fields": lambda text: render.print_fields([("name", text)]),
    "JSON": lambda text: render.print_json({text: [text]}),
    "answer": lambda text: answer(cite.PlainWriter, text),
    "answer in Markdown": lambda text: answer(cite.MarkdownWriter, text),
    "passage": passage,
    "trace": lambda text: render.console().print(tree_of("run_1", [step(text)], full=True)),
    "progress": progress,
}


class Screen(io.StringIO):
    """A stream that claims to be a terminal or not."""

    is_terminal = True

    def isatty(self) -> bool:
        return self.is_terminal


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("text", TEXTS)
def test_no_text_steers_the_terminal(
    text: str, output: str, is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Screen()
    screen.is_terminal = is_terminal
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("sys.stderr", screen)
    OUTPUTS[output](TEXTS[text])
    screen_text = OWN.sub("", screen.getvalue()) if is_terminal else screen.getvalue()
    assert CONTROLS.search(screen_text) is None, ascii(screen_text)
    if "[" in TEXTS[text] and "\x1b" not in TEXTS[text] and (is_terminal or output != "progress"):
        assert TEXTS[text] in screen_text
