"""Interactive output of a run: the text as it arrives, the questions that it asks, and its value at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from portico.cli.render import print_json, safe
from portico.errors import InvalidRequest
from portico.wire import Asked, Delta, Event

if TYPE_CHECKING:
    from portico.client import Client


class RunningRun(Protocol):
    """`portico._running.Running`."""

    @property
    def id(self) -> str | None: ...

    def events(self) -> Iterator[Event]: ...

    def result(self) -> Any: ...

    def close(self) -> None: ...


def show_run(client: Client, running: RunningRun, *, as_json: bool) -> None:
    """Print the text of a run as it arrives, and ask its questions at the terminal. Then print its value if it differs
    from the text.

    ``as_json``: print only the run's id and its value.
    """
    written_texts: list[str] = []
    try:
        for event in running.events():
            match event:
                case Delta(text=text):
                    written_texts.append(text)
                    if not as_json:
                        sys.stdout.write(safe(text))
                        sys.stdout.flush()
                case Asked(kind="approval" | "input") as question:
                    ask_person(client, question, newline=bool(written_texts) and not as_json)
        value = running.result()
    finally:
        running.close()
    if as_json:
        print_json({"run": running.id, "value": value})
        return
    if written_texts:
        typer.echo()
    words = (
        value.get("content") if isinstance(value, dict) else value
    )  # the value of an agent's run is a message
    if value is not None and words != "".join(written_texts):
        typer.echo(safe(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)))


def ask_person(client: Client, question: Asked, *, newline: bool) -> None:
    """Ask the person at the terminal. Without a terminal, print how to answer the question from elsewhere."""
    if newline:
        typer.echo()
    if not sys.stdin.isatty():
        typer.echo(
            f"Waiting for an answer to '{safe(question.name)}': portico approvals approve {question.id}",
            err=True,
        )
        return
    from portico.cli.approvals import decide

    decide(client, client.questions.get(question.id))


def given_input(text: str | None, file: Path | None, schema: Mapping[str, Any] | None) -> Any:
    """Return the input of a run: the contents of a JSON file, or a text (``-`` reads standard input), or its JSON
    value.

    A text is parsed as JSON if it begins with a bracket or a quotation mark, or if ``schema`` requires a type other
    than text. If it is not valid JSON, it remains text.
    """
    if file is not None:
        if text is not None:
            raise InvalidRequest("Give either INPUT or --input, not both.", param="input")
        try:
            return json.loads(file.read_text(encoding="utf-8-sig"))
        except ValueError as error:
            raise InvalidRequest(f"{file} is not JSON: {error}.", param="input") from error
    if text == "-":
        text = sys.stdin.read()
    input_type = (schema or {}).get("type")
    if text is None or input_type == "string":
        return text
    if text[:1] in ("{", "[", '"') or input_type in ("number", "integer", "boolean", "array", "object"):
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
