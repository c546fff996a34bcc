"""`portico vacuum`: room within the database file that nothing uses goes back to the disk."""

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
    """Give back the room within the database file that nothing uses, while the daemon serves, or while none runs."""
    result: dict[str, Any]
    with progress_report("Giving room back") as report, serving(context, home) as client:
        result = asdict(client.vacuum()) if client else run_offline("vacuum", home=home, report=report)
    if as_json:
        print_json(result)
    elif result["freed"]:
        typer.echo(f"Gave {amount(result['freed'])} back; the database has {amount(result['after'])}.")
    else:
        typer.echo(f"There was nothing to give back; the database has {amount(result['after'])}.")
