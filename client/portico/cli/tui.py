"""`portico tui`: opens the terminal UI."""

from __future__ import annotations

import sys

import typer

from portico.cli.session import invocation
from portico.errors import InvalidRequest

app = typer.Typer()


@app.command(epilog="Example: portico tui")
def tui(context: typer.Context) -> None:
    """Open the terminal UI, which has a screen for each resource of the daemon."""
    from portico._installed import how_to_add, is_installed

    if not is_installed("tui"):
        raise InvalidRequest(f"The terminal UI needs the extra 'tui': {how_to_add('tui')}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequest(
            "The terminal UI needs a terminal for input and output. In scripts, use the other commands."
        )
    from portico_tui.app import run

    connection = invocation(context)
    run(connection.url, connection.key)
