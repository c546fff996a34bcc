"""`portico guards`: checks on the inputs and outputs of models, apps, tools and stores."""

from __future__ import annotations

import typer

from portico.cli.nouns import print_listing
from portico.cli.session import AsJson, connected
from portico.schemas.daemon import CONTENT_GUARDS

app = typer.Typer(no_args_is_help=True, epilog="Example: portico guards list")


@app.callback()
def guards() -> None:
    """Guards: list."""


@app.command("list", epilog="Example: portico guards list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the configured guards: what each guard protects, what it checks and where, and what it does."""
    with connected(context) as client:
        configured_guards = client.guards.list()
    print_listing(configured_guards, as_json, CONTENT_GUARDS.columns)
