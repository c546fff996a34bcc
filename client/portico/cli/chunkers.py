"""`portico chunkers`: strategies for splitting documents."""

from __future__ import annotations

import typer

from portico.cli.nouns import print_listing
from portico.cli.session import AsJson, connected
from portico.schemas.chunks import CHUNKERS, Chunker

app = typer.Typer()


@app.command(epilog="Example: portico chunkers")
def chunkers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the strategies for splitting documents, and for which files each strategy is the default."""
    with connected(context) as client:
        found_chunkers = client.chunkers.list()
    print_listing(found_chunkers, as_json, CHUNKERS.columns, cells={"USUAL FOR": _formats})


def _formats(chunker: Chunker) -> str:
    """Return as many formats as fit on one line."""
    return " ".join(chunker.formats[:8]) + (" …" if len(chunker.formats) > 8 else "")
