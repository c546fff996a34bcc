"""`portico backup`: all data of a daemon in one file, while it serves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.offline import progress_report, run_offline, serving
from portico.cli.render import amount, print_json
from portico.cli.session import AsJson
from portico.errors import InvalidRequest

app = typer.Typer()


@app.command(epilog="Example: portico backup portico.zip --overwrite")
def backup(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write.")],
    models: Annotated[
        bool, typer.Option("--models", help="Include model files, which could also be downloaded again.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="The home folder to back up (default: PORTICO_HOME).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write all data of the daemon to a file, while it serves or while no daemon is running.

    Search indexes are omitted, because they can be rebuilt. The file contains secrets; only you can read it.
    """
    if file.exists() and not overwrite:
        raise InvalidRequest(f"{file} already exists: use --overwrite to replace it.", param="file")
    result: dict[str, Any]
    with progress_report(f"Writing {file}") as report, serving(context, home) as client:
        if client is not None:
            backed_up = client.backup(file, models=models, told=lambda size: report("archive", size, 0))
            result = {"file": str(file), "bytes": backed_up.bytes, "missing": backed_up.missing}
        else:
            arguments = ["--with-models"] if models else []
            result = run_offline("backup", str(file.absolute()), *arguments, home=home, report=report)
            result["file"] = str(file)
    if as_json:
        print_json(result)
        return
    typer.echo(f"Wrote {file} ({amount(result['bytes'])}).")
    if result["missing"]:
        typer.secho(
            f"{result['missing']} files recorded in the database were missing in the home folder. Stores "
            "that follow a folder can read them again: portico stores sync NAME",
            fg="yellow",
            err=True,
        )
