"""Display of an answer and of the passages that it cites."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from rich.console import Console
from rich.text import Text

from portico._answer import Answer
from portico._running import Running
from portico.cli.progress import Spinner
from portico.cli.render import console, one_line, plain, safe, shorten
from portico.cli.running import ask_person
from portico.client import Client
from portico.errors import InvalidRequest, PorticoError
from portico.wire import AnswerClaim, Asked, Cited, Claimed, Delta, Passage, Progressed, ToolCalled

MAX_QUOTE_CHARS = 300
"""Maximum length of a passage shown below an answer, in characters."""

_BAR = re.compile(r"(?<!\\)\|")
_RULE = re.compile(r"[|:\s-]*-[|:\s-]*")
_ROW = re.compile(r"^\s*\|.*\||.* \| .* \| ", re.MULTILINE)
_NUMBER = re.compile(r"\[(\d{1,3})\]")

NO_EVIDENCE: Final[Mapping[str, str]] = {
    "": "no evidence",
    "number": "no evidence: another number",
    "name": "no evidence: another name",
    "date": "no evidence: another date",
    "negation": "no evidence: the passage says the opposite",
    "no_evidence": "no evidence",
    "too_long": "not checked: the answer is too long",
}
"""The mark that follows a sentence without supporting passages, keyed by the reason."""


def app_of(client: Client, app: str | None, store: str | None) -> str | None:
    """Return the name of the app, given the app or its store. Return ``None`` if neither is given."""
    if app and store:
        raise InvalidRequest("Use --app or --store, not both.", param="app")
    if not store:
        return app
    found_store = client.stores.get(store)
    if not found_store.app:
        raise InvalidRequest(
            f"The store '{found_store.name}' has no chat app. Search it: portico search {found_store.name} '…'",
            param="store",
        )
    return found_store.name


def write_answer(client: Client, answer: Answer | Running) -> str:
    """Print the text as it arrives, then a line end, and return the text. Until the first word arrives, show what the
    daemon is doing.

    Tool calls are printed on standard error. Questions of the run are asked at the terminal.
    """
    out = console()
    writer = MarkdownWriter(out) if out.is_terminal else PlainWriter(out)
    texts: list[str] = []
    clean = True
    try:
        with Spinner("Looking") as spinner:
            for event in answer.events():
                match event:
                    case Progressed(stage=stage, message=message):
                        spinner.say(f"{stage} {message}")
                    case Cited():
                        spinner.say("Reading the passages")
                    case Delta(text=text):
                        texts.append(text)
                        spinner.stop()
                        writer.write(safe(text))
                    case ToolCalled(name=name, arguments=arguments):
                        spinner.stop()
                        line = shorten(f"→ {name} {arguments}", MAX_QUOTE_CHARS)
                        console(error=True).print(Text(line, "dim"))
                    case Asked(kind="approval" | "input") as question:
                        spinner.stop()
                        ask_person(client, question, newline=bool(texts))
                    case Claimed(claim=claim) if not (claim.supported or claim.removed):
                        writer.close()
                        writer.write(f" [{NO_EVIDENCE[claim.reason]}]")
            writer.close()
    except PorticoError:
        clean = bool(texts)
        raise
    finally:
        # Write the line end even after Ctrl-C, or after a failure within the answer, so that later output
        # begins on a new line.
        if clean:
            out.file.write("\n")
    return "".join(texts)


class PlainWriter:
    """Writes an answer as it arrives."""

    def __init__(self, out: Console) -> None:
        self._out = out

    def write(self, text: str) -> None:
        """Write the next piece."""
        self._out.file.write(text)
        self._out.file.flush()

    def close(self) -> None:
        """Write any buffered text. This writer does not buffer text."""


class MarkdownWriter(PlainWriter):
    """Writes an answer for a terminal. Lines of a quotation begin with a bar, and table rows become ``name: value``
    pairs.

    A line that begins like a quotation or a table is written once it is complete. Other text is written as it arrives.
    """

    def __init__(self, out: Console) -> None:
        super().__init__(out)
        self._line = ""
        self._is_open = False
        """True if a part of the current line has already been written."""
        self._names: list[str] | None = None

    def write(self, text: str) -> None:
        """Write the next piece."""
        for piece in text.splitlines(keepends=True):
            self._line += piece
            if self._is_open or (self._line.strip() and self._line.lstrip()[0] not in ">|"):
                self._is_open = not piece.endswith("\n")
                super().write(self._line)
                self._line, self._names = "", None
            elif piece.endswith("\n"):
                self._write_line()
                self._line = ""

    def close(self) -> None:
        """Write the buffered line, without its line end."""
        if self._line:
            self._write_line()
            self._line, self._is_open = "", True

    def _write_line(self) -> None:
        text, end = self._line.rstrip("\n"), "\n" if self._line.endswith("\n") else ""
        is_quotation = text.lstrip().startswith(">")
        text = re.sub(r"^\s*> ?", "", text)
        if not text.lstrip().startswith("|"):
            self._names = None
        elif (row := self._row(text)) is None:
            return
        else:
            text = row
        self._out.print(Text.assemble(("▎ " if is_quotation else "", "dim"), text), end=end)

    def _row(self, text: str) -> str | None:
        """Return a table row as ``name: value`` pairs. Return ``None`` for the header row and the rule below it."""
        cells = cells_of(text)
        if self._names is None:
            self._names = cells
            return None
        if _RULE.fullmatch(text):
            return None
        return fields(self._names, cells)


def cells_of(row: str) -> list[str]:
    """Return the cells in a row of a Markdown table."""
    return [cell.strip() for cell in _BAR.split(row.strip().strip("|"))]


def fields(names: Sequence[str], cells: Sequence[str]) -> str:
    """Return the cells of a row, each with its column's name. Empty cells are omitted."""
    padded_names = [*names, *[""] * (len(cells) - len(names))]
    return " · ".join(
        f"{name}: {cell}" if name else cell for name, cell in zip(padded_names, cells, strict=False) if cell
    )


def print_passages(answer: Answer) -> None:
    """Print the passages that the answer cites, with quotations in bold. If there are none, print where the nearest
    passages are.
    """
    out = console()
    passages = cited_passages(answer)
    if not passages and answer.nearest:
        places = "; ".join(place_of(passage) for passage in answer.nearest)
        store = one_line(answer.nearest[0].store) or "STORE"
        out.print(Text(f"Nearest passages: {places} (show them with portico search {store} '…')", "dim"))
        return
    if not passages:
        out.print(Text("No passage of your documents supports this answer.", "yellow"))
        return
    for passage in passages:
        out.print(heading(passage))
        out.print(excerpt(passage, spans_of(answer, passage)))


def cited_passages(answer: Answer) -> Sequence[Passage]:
    """Return the passages that the answer cites or that support it; all passages if it cites none."""
    ranks = {int(number) for number in _NUMBER.findall(answer.text)}
    ranks |= {item.rank for claim in answer.claims for item in claim.evidence}
    return [passage for passage in answer.passages if passage.rank in ranks] or answer.passages


def spans_of(answer: Answer, passage: Passage) -> list[tuple[int, int]]:
    """Return the positions in a passage that the answer quotes, or else the positions that support its sentences, in
    order.
    """
    if passage.quote is not None:
        return [passage.quote]
    evidence = (item for claim in answer.claims for item in claim.evidence if item.rank == passage.rank)
    return sorted({(item.start, item.end) for item in evidence})


def excerpt(passage: Passage, spans: Sequence[tuple[int, int]]) -> Text:
    """Return at most 300 characters of a passage around its first span, with the spans in bold."""
    text = passage.text
    lead = spans[0][0] - MAX_QUOTE_CHARS // 4 if spans else 0
    at = max(0, min(lead, len(text) - MAX_QUOTE_CHARS))
    end = at + MAX_QUOTE_CHARS
    has_rows = _ROW.search(text) is not None
    line = Text.assemble(("    “…" if at else "    “", "dim"))
    for start, stop in [*spans, (end, end)]:
        begin = min(max(start, at), end)
        line.append(readable(text[at:begin], has_rows=has_rows), "dim")
        at = max(begin, min(stop, end))
        line.append(readable(text[begin:at], has_rows=has_rows), "bold")
    return line.append("…”" if end < len(text) else "”", "dim")


def readable(text: str, *, has_rows: bool) -> str:
    """Return document text on one line. Table cells are separated by dots instead of bars."""
    lines = []
    for line in safe(text).split("\n"):
        if not (has_rows and "|" in line):
            lines.append(line)
        elif not _RULE.fullmatch(line):
            lines.append(" · ".join(filter(None, cells_of(line))))
    return re.sub(r"\s+", " ", " ".join(lines))


def print_hint(client: Client, name: str) -> bool:
    """On a terminal, print a hint of one line if ``name`` answers with the tiny model. Return whether the hint was
    printed.
    """
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    with suppress(PorticoError):  # the answer is complete, so an error here must not make the command fail
        hint = client.status().hint_for(name)
        if hint:
            console(error=True).print(Text(one_line(hint), "dim"))
            return True
    return False


def print_removed(claims: Sequence[AnswerClaim]) -> None:
    """Print how many sentences were removed, and why, on standard error."""
    reasons = Counter(claim.reason for claim in claims if claim.removed)
    if reasons:
        reasons_text = ", ".join(f"{count} {NO_EVIDENCE[reason]}" for reason, count in reasons.items())
        removed_text = f"{reasons.total()} sentence{'s' if reasons.total() > 1 else ''}"
        console(error=True).print(
            Text(f"Removed {removed_text} without evidence ({reasons_text}).", "yellow")
        )


def heading(passage: Passage, *, score: bool = False) -> Text:
    """Return the passage's heading, ``[1] file · place``, optionally with its score."""
    line = Text.assemble((f"[{passage.rank}] ", "bold cyan"), (one_line(passage.filename), "bold"))
    line.append(place_of(passage).removeprefix(one_line(passage.filename)))
    if score:
        line.append(f"  {passage.score:.3f}", "green")
    return line


def place_of(passage: Passage) -> str:
    """Return ``file · place``."""
    return " · ".join(filter(None, (one_line(passage.filename), one_line(passage.place.label()))))


def citations(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Return the passages as JSON, each with its number."""
    return [{"number": passage.rank, **plain(passage)} for passage in passages]
