"""`portico ask`: one question to an app over documents, answered with citations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from portico.cli import history as conversation
from portico.cli.cite import app_of, citations, print_passages, write_answer
from portico.cli.render import print_json
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

app = typer.Typer()


@app.command(epilog="Example: portico ask 'Which port does the daemon listen on?'")
def ask(
    context: typer.Context,
    question: Annotated[str, typer.Argument(help="The question; - reads it from standard input.")],
    app_name: Annotated[
        str | None, typer.Option("--app", help="The app to ask (default: the only one there is).")
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
    with (
        connected(context) as client,
        client.ask(text, app_of(client, app_name, store), history=before) as answer,
    ):
        if as_json:
            answer.read()
        else:
            write_answer(answer)
            typer.echo()
            print_passages(answer.passages)
        if history is not None:
            turn = [{"role": "user", "content": text.strip()}, {"role": "assistant", "content": answer.text}]
            conversation.write(history, [*before, *turn])
        if as_json:
            print_json({"answer": answer.text, "citations": citations(answer.passages)})
