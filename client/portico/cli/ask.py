"""`portico ask`: one question to an app over documents, answered with citations."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from portico._calls.chat import the_only
from portico.cli import history as conversation
from portico.cli.cite import app_of, citations, print_hint, print_passages, write_answer
from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, connected
from portico.client import Client
from portico.errors import InvalidRequest
from portico.values import App, Store

app = typer.Typer()


@app.command(epilog="Example: portico ask 'Which port does the daemon listen on?'")
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    app_name: Annotated[
        str | None,
        typer.Option(
            "--app", help="The app to ask (default: the only one, or the one over the folder you are in)."
        ),
    ] = None,
    store: Annotated[str | None, typer.Option(help="The store whose app to ask.")] = None,
    history: Annotated[
        Path | None, typer.Option(help="Go on with the conversation in this file, and add to it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Ask about your documents: the answer as it is written, then the passages it stands on."""
    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise InvalidRequest("The question is empty.", param="question")
    before = [] if history is None else conversation.read(history)
    with connected(context) as client:
        name = app_of(client, app_name, store) or _chosen(client, may_ask=not as_json)
        with client.ask(text, name, history=before) as answer:
            if as_json:
                answer.read()
            else:
                write_answer(answer)
                typer.echo()
                print_passages(answer.passages)
                print_hint(client, name)
            if history is not None:
                turn = [
                    {"role": "user", "content": text.strip()},
                    {"role": "assistant", "content": answer.text},
                ]
                conversation.write(history, [*before, *turn])
            if as_json:
                print_json({"answer": answer.text, "citations": citations(answer.passages)})


def _chosen(client: Client, *, may_ask: bool) -> str:
    """The app to ask when none was named: the only one, the one over the folder at hand, or the one that is picked.

    Raises `InvalidRequest` that lists them where nobody can be asked.
    """
    apps = client.apps.list()
    if len(apps) <= 1:
        return the_only(apps)
    here = urlsplit(client.url).hostname in ("127.0.0.1", "::1", "localhost")
    store = _over(Path.cwd(), client.stores.list()) if here else None
    if store is not None and any(item.name == store.name for item in apps):
        if may_ask:
            typer.echo(f"Asking '{one_line(store.name)}', the app over {one_line(store.folder)}.", err=True)
        return store.name
    if may_ask and sys.stdin.isatty() and sys.stderr.isatty():
        return _picked(apps)
    return the_only(apps)


def _over(place: Path, stores: Sequence[Store]) -> Store | None:
    """The store whose folder holds ``place``, the deepest one if there are several."""
    found = [item for item in stores if item.folder and place.resolve().is_relative_to(item.folder)]
    return max(found, key=lambda item: len(Path(str(item.folder)).parts), default=None)


def _picked(apps: Sequence[App]) -> str:
    """The app that the person at the terminal names, by its number or its name."""
    typer.echo("There are several apps:", err=True)
    for number, item in enumerate(apps, start=1):
        typer.echo(f"  {number}  {one_line(item.name)}  {one_line(item.description)}".rstrip(), err=True)
    names = [item.name for item in apps]
    while True:
        said = typer.prompt("Which one to ask, by number or name", default="1", err=True).strip()
        if said in names:
            return str(said)
        if said.isdecimal() and 1 <= int(said) <= len(names):
            return names[int(said) - 1]
        typer.echo(f"There is no app '{one_line(said)}'.", err=True)
