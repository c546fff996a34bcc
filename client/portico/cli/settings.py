"""`portico settings`: prints each setting, its value and where the value is set."""

from __future__ import annotations

import typer

from portico._read import read
from portico.cli.nouns import print_table
from portico.cli.session import AsJson, connected, local_settings
from portico.errors import ConnectionFailed
from portico.schemas.daemon import Setting

app = typer.Typer()


@app.command(epilog="Example: portico settings")
def settings(context: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting of the daemon, or the settings it would start with if no daemon is running."""
    try:
        with connected(context) as client:
            found_settings = client.settings()
    except ConnectionFailed:
        found_settings = [read(Setting, row) for row in local_settings()]
        typer.echo("No daemon is running; these are the settings it would start with.", err=True)
    print_table(
        found_settings,
        as_json,
        ("NAME", "VALUE", "FROM", "WHAT IT IS"),
        lambda s: (s.name, s.value, s.origin, s.doc),
    )
