"""`portico status`: shows an overview of the daemon."""

from __future__ import annotations

import typer

from portico.cli.render import amount, moment, print_fields, print_json, print_rows
from portico.cli.session import AsJson, connected

app = typer.Typer()


@app.command(epilog="Example: portico status")
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show the daemon's address, models, stores and apps."""
    with connected(context) as client:
        found_status = client.status()
    if as_json:
        print_json(found_status)
        return
    print_fields(
        [
            ("url", found_status.url),
            ("version", found_status.version),
            ("since", moment(found_status.started_at)),
            ("home", found_status.home),
            ("apps", found_status.apps),
            ("better model", found_status.recommended.name if found_status.recommended else None),
        ]
    )
    for problem in found_status.problems:
        typer.secho(problem.line, fg="yellow")
    typer.echo()
    print_rows(
        ("MODEL", "STATE", "MEMORY", "SOURCE"),
        ((m.name, m.state, amount(m.memory_bytes), m.source) for m in found_status.models),
    )
    typer.echo()
    if not found_status.stores:
        typer.echo("No stores yet: portico stores add ./docs")
        return
    print_rows(
        ("STORE", "FILES", "FAILED", "FOLLOWS", "SKIPPED"),
        (
            (s.name, s.file_counts.completed, s.file_counts.failed, s.follows, sum(s.skipped.values()))
            for s in found_status.stores
        ),
    )
    if found_status.is_part:
        typer.echo(f"\nThe newest of {found_status.store_count} stores; to list all: portico stores list")
