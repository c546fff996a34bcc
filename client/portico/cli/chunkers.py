"""`portico chunkers`: the ways to cut documents."""

from __future__ import annotations

import typer

from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson, connected

app = typer.Typer()


@app.command(epilog="Example: portico chunkers")
def chunkers(context: typer.Context, as_json: AsJson = False) -> None:
    """List the ways to cut documents, and which files each is the usual one for."""
    with connected(context) as client:
        found = client.chunkers.list()
    if as_json:
        print_json({"data": found})
        return
    print_rows(
        ("NAME", "SIZE", "OVERLAP", "WHAT IT DOES", "USUAL FOR"),
        ((c.name, c.size, c.overlap, c.description, _some(c.formats)) for c in found),
    )


def _some(formats: tuple[str, ...]) -> str:
    """The first few, so that a row stays a row."""
    return " ".join(formats[:8]) + (" …" if len(formats) > 8 else "")
