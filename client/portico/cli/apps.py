"""`portico apps`: what answers a conversation."""

from __future__ import annotations

import typer

from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson, connected

app = typer.Typer()


@app.command(epilog="Example: portico apps")
def apps(context: typer.Context, as_json: AsJson = False) -> None:
    """List the apps that you can ask; each is also a model name."""
    with connected(context) as client:
        found = client.apps.list()
    if as_json:
        print_json({"data": found})
    elif not found:
        typer.echo("No apps yet: portico stores add ./docs")
    else:
        print_rows(("NAME", "TITLE", "DESCRIPTION"), ((a.name, a.title, a.description) for a in found))
