"""`portico plugins`: lists extensions of the daemon that installed distributions provide."""

from __future__ import annotations

import typer

from portico.cli.nouns import print_listing
from portico.cli.session import AsJson, connected
from portico.schemas.daemon import PLUGINS

app = typer.Typer(no_args_is_help=True, epilog="Example: portico plugins list")


@app.callback()
def plugins() -> None:
    """Plugins: list."""


@app.command("list", epilog="Example: portico plugins list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the engines, chunkers, tools and providers that plugins add, and the errors of plugins that fail."""
    with connected(context) as client:
        found_plugins = client.plugins.list()
    print_listing(found_plugins, as_json, PLUGINS.columns)
