"""`portico vacuum`: frees unused space in the database file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.offline import progress_report, run_offline, serving
from portico.cli.render import amount, print_json
from portico.cli.session import AsJson

app = typer.Typer()


@app.command(epilog="Example: portico vacuum")
def vacuum(
    context: typer.Context,
    home: Annotated[Path | None, typer.Option(help="The home folder (default: PORTICO_HOME).")] = None,
    as_json: AsJson = False,
) -> None:
    """Free unused space in the database file, while the daemon serves or while no daemon is running."""
    result: dict[str, Any]
    with progress_report("Freeing space") as report, serving(context, home) as client:
        result = asdict(client.vacuum()) if client else run_offline("vacuum", home=home, report=report)
    if as_json:
        print_json(result)
    elif result["freed"]:
        typer.echo(f"Freed {amount(result['freed'])}; the database now uses {amount(result['after'])}.")
    else:
        typer.echo(f"No unused space; the database uses {amount(result['after'])}.")
