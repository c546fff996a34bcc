"""`portico ask`: one question to an app over documents, answered with citations."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

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
    as_json: AsJson = False,
) -> None:
    """Ask about your documents: the answer as it is written, then the passages it stands on."""
    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise InvalidRequest("The question is empty.", param="question")
    with connected(context) as client, client.ask(text, app_of(client, app_name, store)) as answer:
        if as_json:
            reply = answer.read()
            print_json({"answer": reply.text, "citations": citations(reply.passages)})
            return
        write_answer(answer)
        typer.echo()
        print_passages(answer.passages)
