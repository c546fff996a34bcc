"""`portico ask`: asks an app about documents and prints its answer with citations."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from portico.cli.cite import app_of, citations, print_hint, print_passages, print_removed, write_answer
from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, connected
from portico.client import Client
from portico.errors import InvalidRequest
from portico.model_options import ChatOptions
from portico.schemas.apps import App, the_only
from portico.schemas.stores import Store

app = typer.Typer()

NOTHING_LEFT_EXIT_CODE = 3
"""The exit code of `ask --strict` if no sentence of the answer has evidence."""


@app.command(epilog="Example: portico ask 'Which port does the daemon listen on?'")
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app", help="The app to ask (default: the only one, or the one over the current folder)."
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help="The store whose app to ask.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Continue the conversation in this file, and append to it.")
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Leave out sentences without evidence. Exit code 3 if no sentence remains.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Ask about your documents: print the answer, then the passages it cites, with quoted sentences in bold.

    A sentence that no passage supports is followed by [no evidence].
    """
    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise InvalidRequest("The question is empty.", param="question")
    before = [] if history is None else _read_history(history)
    with connected(context) as client:
        name = app_of(client, app_name, store) or _choose_app(client, may_ask=not as_json)
        options: ChatOptions = {"unsupported": "remove"} if strict else {}
        with client.ask(text, name, history=before, **options) as answer:
            if as_json:
                answer.read()
            else:
                write_answer(client, answer)
                typer.echo()
                print_removed(answer.claims)
                print_passages(answer)
                print_hint(client, name)
            if history is not None:
                turn = [
                    {"role": "user", "content": text.strip()},
                    {"role": "assistant", "content": answer.text},
                ]
                _write_history(history, [*before, *turn])
            if as_json:
                print_json(
                    {
                        "answer": answer.text,
                        "citations": citations(answer.passages),
                        "nearest": citations(answer.nearest),
                        "claims": answer.claims,
                    }
                )
            if strict and answer.claims and all(claim.removed for claim in answer.claims):
                raise typer.Exit(NOTHING_LEFT_EXIT_CODE)


def _choose_app(client: Client, *, may_ask: bool) -> str:
    """Return the app to use by default: the only app, the app over the current folder, or the app that the person
    chooses.

    Raise `InvalidRequest`, listing the apps, if a choice is needed but ``may_ask`` is false or there is no terminal.
    """
    apps = client.apps.list()
    if len(apps) <= 1:
        return the_only(apps)
    is_here = urlsplit(client.url).hostname in ("127.0.0.1", "::1", "localhost")
    store = _over(Path.cwd(), client.stores.list()) if is_here else None
    if store is not None and any(item.name == store.name for item in apps):
        if may_ask:
            typer.echo(f"Asking '{one_line(store.name)}', the app over {one_line(store.folder)}.", err=True)
        return store.name
    if may_ask and sys.stdin.isatty() and sys.stderr.isatty():
        return _pick_app(apps)
    return the_only(apps)


def _over(place: Path, stores: Sequence[Store]) -> Store | None:
    """Return the store whose folder contains ``place``; the deepest if there are several."""
    found_stores = [item for item in stores if item.folder and place.resolve().is_relative_to(item.folder)]
    return max(found_stores, key=lambda item: len(Path(str(item.folder)).parts), default=None)


def _pick_app(apps: Sequence[App]) -> str:
    """Let the person at the terminal choose an app, by number or name, and return its name."""
    typer.echo("Several apps are available:", err=True)
    for number, item in enumerate(apps, start=1):
        typer.echo(f"  {number}  {one_line(item.name)}  {one_line(item.description)}".rstrip(), err=True)
    names = [item.name for item in apps]
    while True:
        choice = typer.prompt("App to ask, by number or name", default="1", err=True).strip()
        if choice in names:
            return str(choice)
        if choice.isdecimal() and 1 <= int(choice) <= len(names):
            return names[int(choice) - 1]
        typer.echo(f"There is no app '{one_line(choice)}'.", err=True)


def _read_history(path: Path) -> list[Mapping[str, Any]]:
    """Return the messages in a file, or no messages if the file does not exist. Raises `InvalidRequest` for other
    contents.
    """
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as a conversation: {error}.", param="history") from error
    if not isinstance(messages, list) or not all(_is_message(item) for item in messages):
        raise InvalidRequest(
            f"{path} does not contain a conversation: expected a list of objects with 'role' and 'content'.",
            param="history",
        )
    return messages


def _write_history(path: Path, messages: Sequence[Mapping[str, Any]]) -> None:
    """Write a conversation to a file atomically. Raises `InvalidRequest` if the file cannot be written."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(json.dumps(messages, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.", param="history") from error


def _is_message(item: Any) -> bool:
    return (
        isinstance(item, dict) and isinstance(item.get("role"), str) and isinstance(item.get("content"), str)
    )
