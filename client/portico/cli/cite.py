"""How an answer and the passages under it look."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from rich.text import Text

from portico._answer import Answer
from portico.cli.progress import Spinner
from portico.cli.render import console, one_line, plain, safe, shorten
from portico.client import Client
from portico.errors import InvalidRequest, PorticoError
from portico.wire import AnswerClaim, Cited, Claimed, Delta, Passage, Status

MAX_QUOTE_CHARS = 300
"""Characters of a passage that are shown under an answer."""


NO_EVIDENCE: Final[Mapping[str, str]] = {
    "": "no evidence",
    "number": "no evidence: another number",
    "name": "no evidence: another name",
    "date": "no evidence: another date",
    "negation": "no evidence: the passage says the opposite",
    "no_evidence": "no evidence",
    "too_long": "not checked: the answer is too long",
}
"""What stands behind a sentence that no passage supports, by the reason."""


def app_of(client: Client, app: str | None, store: str | None) -> str | None:
    """The app that was named, directly or through its store; ``None`` leaves the choice to the SDK."""
    if app and store:
        raise InvalidRequest("Say --app or --store, not both.", param="app")
    if not store:
        return app
    found = client.stores.get(store)
    if not found.app:
        raise InvalidRequest(
            f"The store '{found.name}' has no chat app. Search it: portico search {found.name} '…'",
            param="store",
        )
    return found.name


def write_answer(answer: Answer) -> None:
    """The text as it comes, then the end of the line; until the first word, what the daemon is doing."""
    out = console().file
    has_answer, clean = False, True
    try:
        with Spinner("Looking") as spinner:
            for event in answer.events():
                match event:
                    case Status(stage=stage, message=message):
                        spinner.say(f"{stage} {message}")
                    case Cited():
                        spinner.say("Reading what was found")
                    case Delta(text=text):
                        has_answer = True
                        spinner.stop()
                        out.write(safe(text))
                        out.flush()
                    case Claimed(claim=claim) if not (claim.supported or claim.removed):
                        out.write(f" [{NO_EVIDENCE[claim.reason]}]")
                        out.flush()
    except PorticoError:
        clean = has_answer
        raise
    finally:
        # Also after a failure or a Ctrl-C: what follows begins on a line of its own.
        if clean:
            out.write("\n")


def print_passages(passages: Sequence[Passage]) -> None:
    """The numbered passages: file, place in it, quoted text."""
    out = console()
    if not passages:
        out.print(Text("No passage of your documents stands behind this answer.", "yellow"))
        return
    for passage in passages:
        out.print(heading(passage))
        out.print(Text(f"    “{shorten(passage.text, MAX_QUOTE_CHARS)}”", "dim"))


def print_hint(client: Client, name: str) -> bool:
    """Beside an answer on a terminal one quiet line, if it is the tiny model's; whether it was."""
    if not (sys.stdout.isatty() and sys.stderr.isatty()):
        return False
    with suppress(PorticoError):  # the answer is there: a missing hint does not fail it
        hint = client.status().hint_for(name)
        if hint:
            console(error=True).print(Text(one_line(hint), "dim"))
            return True
    return False


def print_removed(claims: Sequence[AnswerClaim]) -> None:
    """How many sentences were taken out, and why, on standard error."""
    reasons = Counter(claim.reason for claim in claims if claim.removed)
    if reasons:
        why = ", ".join(f"{count} {NO_EVIDENCE[reason]}" for reason, count in reasons.items())
        removed = f"{reasons.total()} sentence{'s' if reasons.total() > 1 else ''}"
        console(error=True).print(Text(f"Left out {removed} without evidence ({why}).", "yellow"))


def heading(passage: Passage, *, score: bool = False) -> Text:
    """``[1] file · place``, with the score on request."""
    line = Text.assemble((f"[{passage.rank}] ", "bold cyan"), (one_line(passage.filename), "bold"))
    place = passage.place.label()
    if place:
        line.append(f" · {one_line(place)}")
    if score:
        line.append(f"  {passage.score:.3f}", "green")
    return line


def citations(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The passages as JSON, each with its number."""
    return [{"number": passage.rank, **plain(passage)} for passage in passages]
