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

MAX_SEARCHED_STORES = 16
"""Maximum number of stores among which the nearest to a question is looked for: as many as one search may name."""

NOTHING_LEFT_EXIT_CODE = 3
"""The exit code of `ask --strict` if no sentence of the answer has evidence."""


@app.command(epilog="Example: portico ask 'Which port does the daemon listen on?'")
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app",
            help="The app to ask (default: the one over the current folder, or the nearest to the question).",
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
        name = app_of(client, app_name, store) or _choose_app(client, text, says_which=not as_json)
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
                        "app": name,
                        "answer": answer.text,
                        "citations": citations(answer.passages),
                        "nearest": citations(answer.nearest),
                        "claims": answer.claims,
                    }
                )
            if strict and answer.claims and all(claim.removed for claim in answer.claims):
                raise typer.Exit(NOTHING_LEFT_EXIT_CODE)


def _choose_app(client: Client, question: str, *, says_which: bool) -> str:
    """Return the app to use by default: the only app, the app over the current folder, or the app of the store whose
    documents come nearest to the question.

    Raise `InvalidRequest`, listing the apps, if none of them is the app of a store.
    """
    apps = client.apps.list()
    if len(apps) <= 1:
        return the_only(apps)
    is_here = urlsplit(client.url).hostname in ("127.0.0.1", "::1", "localhost")
    store = _over(Path.cwd(), client.stores.list()) if is_here else None
    if store is not None and any(item.name == store.name for item in apps):
        name, reason = store.name, f"the app over {one_line(store.folder)}"
    else:
        name, reason = (
            _nearest_app(client, question, apps),
            "whose documents come nearest; --app asks another",
        )
    if says_which:
        typer.echo(f"Asking '{one_line(name)}', {reason}.", err=True)
    return name


def _nearest_app(client: Client, question: str, apps: Sequence[App]) -> str:
    names = [item.name for item in apps if item.kind == "store"][:MAX_SEARCHED_STORES]
    passages = client.search(names, question, max_num_results=1).passages if names else ()
    return passages[0].store if passages else the_only(apps)


def _over(place: Path, stores: Sequence[Store]) -> Store | None:
    """Return the store whose folder contains ``place``; the deepest if there are several."""
    found_stores = [item for item in stores if item.folder and place.resolve().is_relative_to(item.folder)]
    return max(found_stores, key=lambda item: len(Path(str(item.folder)).parts), default=None)


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
