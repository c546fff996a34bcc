"""`portico migrate`: copies a home folder into a PostgreSQL database and its files' place, or back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from portico.cli.offline import progress_report, run_offline
from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson, DryRun

app = typer.Typer()


@app.command(
    epilog="Example: portico migrate ~/.local/share/portico postgresql://USER@HOST/NAME --files "
    "s3://company-portico/files"
)
def migrate(
    source: Annotated[str, typer.Argument(metavar="FROM", help="The home folder or PostgreSQL URL to copy.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An empty database or home folder.")],
    files: Annotated[
        str | None,
        typer.Option(
            help="Where daemons on the database store files: a folder or s3://BUCKET/PREFIX (default: PORTICO_FILES, "
            "else the home folder)."
        ),
    ] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Copy all data from a home folder into a PostgreSQL database, or back, while no daemon runs on either.

    The source is not changed. Run an interrupted migration again to continue it.
    """
    flags = ["--dry-run"] if dry_run else []
    if files is not None:
        flags += ["--files", files]
    with progress_report("Migrating") as report:
        result = run_offline("migrate", *flags, "--", source, target, home=None, report=report)
    if as_json:
        print_json(result)
    else:
        _print_result(result)


def _print_result(result: dict[str, Any]) -> None:
    contents = f"{result['rows']:,} rows in {len(result['tables'])} tables, {result['files']:,} files"
    match result["status"]:
        case "planned":
            print_rows(
                ("TABLE", "ROWS"),
                ((row["name"], f"{row['rows']:,}") for row in result["tables"] if row["rows"]),
            )
            typer.echo(
                f"Would {'continue' if result['continued'] else 'begin'} to copy {result['from']} to {result['to']}: "
                f"{contents}."
            )
        case "equal":
            typer.echo(f"{result['to']} already contains everything in {result['from']}: {contents}.")
        case _:
            typer.echo(
                f"Migrated {result['from']} to {result['to']}: {contents}. The digests of all rows are equal."
            )
    if result["missing"]:
        names = ", ".join(result["missing_names"][:3])
        typer.secho(
            f"The source lacks {result['missing']} files that its database names, or they are damaged: {names}. Stores "
            "that follow a folder can read theirs again: portico stores sync NAME",
            fg="yellow",
            err=True,
        )
