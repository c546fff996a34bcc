"""`portico backup`: everything that a daemon keeps, in one file, while it serves."""

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
        bool, typer.Option("--models", help="Model files too, which can be fetched again.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="The home folder to back up (default: PORTICO_HOME).")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write everything that the daemon keeps to one file, while it serves, or while none runs.

    Search indexes are left out: they are rebuilt. The file holds secrets; only you may read it.
    """
    if file.exists() and not overwrite:
        raise InvalidRequest(f"{file} is there already: --overwrite replaces it.", param="file")
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
            f"{result['missing']} files that the database names were missing in the home folder. Stores that follow a "
            "folder read theirs again: portico stores sync NAME",
            fg="yellow",
            err=True,
        )
