"""`portico tokens`: shows how a model tokenizes a text."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from portico.cli.render import json_text, print_json
from portico.cli.session import AsJson, connected

app = typer.Typer()


@app.command(epilog="Example: portico tokens 'How long is this?' --model default")
def tokens(
    context: typer.Context,
    text: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    model: Annotated[str, typer.Option(help="The model whose tokenizer to use.")] = "default",
    chat: Annotated[
        bool, typer.Option("--chat", help="Count the text as a message, formatted by the model's template.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the tokens of a text and their number."""
    input_text = sys.stdin.read() if text == "-" else text
    with connected(context) as client:
        found_tokens = client.tokenize(
            [{"role": "user", "content": input_text}] if chat else input_text, model, texts=True
        )
    if as_json:
        print_json(found_tokens)
        return
    typer.echo(" ".join(json_text(piece) for piece in found_tokens.texts or ()))
    of = f" of {found_tokens.max_model_len}" if found_tokens.max_model_len else ""
    typer.echo(f"{found_tokens.count}{of} tokens")
