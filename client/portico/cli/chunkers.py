"""`portico chunkers`: the ways to cut documents."""

from __future__ import annotations

import typer

from portico.cli.nouns import print_listing
from portico.cli.session import AsJson, connected
from portico.schemas.chunks import CHUNKERS, Chunker

app = typer.Typer()


@app.command(epilog="Example: portico chunkers")
def chunkers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the ways to cut documents, and which files each is the usual one for."""
    with connected(context) as client:
        found_chunkers = client.chunkers.list()
    print_listing(found_chunkers, as_json, CHUNKERS.columns, cells={"USUAL FOR": _formats})


def _formats(chunker: Chunker) -> str:
    """The first few, so that a row stays a row."""
    return " ".join(chunker.formats[:8]) + (" …" if len(chunker.formats) > 8 else "")
