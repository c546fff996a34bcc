"""`portico restore`: restores a home folder from a backup."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.offline import progress_report, run_offline
from portico.cli.render import amount, moment, print_fields, print_json, print_rows
from portico.cli.session import AsJson, DryRun

app = typer.Typer()


@app.command(epilog="Example: portico restore portico.zip --home ./restored --dry-run")
def restore(
    file: Annotated[Path, typer.Argument(help="A file written by portico backup.")],
    home: Annotated[
        Path | None, typer.Option(help="The home folder to create (default: PORTICO_HOME).")
    ] = None,
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Replace the contents of the folder. The previous contents are kept in a subfolder.",
        ),
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Restore a home folder from a backup, while no daemon runs on it. The file is fully verified before anything
    changes.
    """
    flags = [name for name, is_given in (("--replace", replace), ("--dry-run", dry_run)) if is_given]
    with progress_report(f"Reading {file}") as report:
        result = run_offline("restore", str(file.absolute()), *flags, home=home, report=report)
    if as_json:
        print_json(result)
        return
    if dry_run:
        print_rows(("FILE", "SIZE"), ((item["name"], amount(item["bytes"])) for item in result["files"]))
    _say(result)


def _say(result: dict[str, Any]) -> None:
    verb = "Restored" if result["restored"] else "Would restore"
    typer.echo(f"{verb} {result['home']}: {result['entries']} files, {amount(result['bytes'])}.")
    settings = ", ".join(f"{row['name']}={row['value']}" for row in result["settings"])
    print_fields(
        (
            ("Made", moment(result["created_at"])),
            ("By Portico", result["portico"]),
            ("Its settings", settings),
            ("Missing files", result["missing"] or None),
            ("Previous contents", result["aside"]),
        )
    )
