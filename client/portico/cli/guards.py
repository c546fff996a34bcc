"""`portico guards`: what looks at the texts around models, apps, tools and stores."""

from __future__ import annotations

import typer

from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson, connected

app = typer.Typer(no_args_is_help=True, epilog="Example: portico guards list")


@app.callback()
def guards() -> None:
    """Guards: list."""


@app.command("list", epilog="Example: portico guards list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the guards of the configuration: around what, what each looks for and where, and what becomes of it."""
    with connected(context) as client:
        found = client.guards.list()
    if as_json:
        print_json({"data": found})
        return
    print_rows(
        ("GUARD", "ON", "DETECTS", "WHERE", "ACTION", "ON ERROR"),
        ((g.name, *map(", ".join, (g.on, g.detects, g.where)), g.action, g.on_error) for g in found),
    )
