"""`portico runs`: what the daemon is doing and has done."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from portico.cli.render import moment, print_fields, print_json, print_rows
from portico.cli.session import AsJson, connected
from portico.wire import Event, event_to_json

app = typer.Typer(
    no_args_is_help=True,
    help="Runs: calls, downloads and indexing, with their events.",
    epilog="Example: portico runs list",
)

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the run.")]


@app.command("list", epilog="Example: portico runs list --limit 20")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with connected(context) as client:
        found = client.runs.list(limit)
    if as_json:
        print_json({"data": found})
    elif not found:
        typer.echo("Nothing has run yet: portico ask 'What is this about?'")
    else:
        print_rows(
            ("ID", "KIND", "NAME", "STATUS", "BEGAN", "ERROR"),
            (
                (r.id, r.kind, r.name, r.status, moment(r.created_at), r.error.message if r.error else "")
                for r in found
            ),
        )


@app.command(epilog="Example: portico runs show run_0192f6")
def show(context: typer.Context, run_id: Identity, as_json: AsJson = False) -> None:
    """Show one run."""
    with connected(context) as client:
        found = client.runs.get(run_id)
    if as_json:
        print_json(found)
        return
    print_fields(
        [
            ("id", found.id),
            ("kind", found.kind),
            ("name", found.name),
            ("status", found.status),
            ("error", found.error.message if found.error else None),
            ("began", moment(found.created_at)),
            ("ended", moment(found.finished_at)),
            ("tokens", f"{found.usage.prompt_tokens} in, {found.usage.completion_tokens} out"),
            ("events", found.last_event),
        ]
    )


@app.command(epilog="Example: portico runs tail run_0192f6")
def tail(
    context: typer.Context,
    run_id: Identity,
    after: Annotated[int, typer.Option(min=0, help="Only events with a number above this.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Follow the events of a run until it ends."""
    seen: list[dict[str, Any]] = []
    with connected(context) as client:
        for item in client.runs.events(run_id, after=after):
            if as_json:
                seen.append({"seq": item.seq, **event_to_json(item.event)})
            else:
                print_rows((), [(item.seq, item.event.type, _details(item.event))])
    if as_json:
        print_json({"data": seen})


@app.command(epilog="Example: portico runs cancel run_0192f6")
def cancel(context: typer.Context, run_id: Identity, as_json: AsJson = False) -> None:
    """Stop a run."""
    with connected(context) as client:
        client.runs.cancel(run_id)
        found = client.runs.get(run_id)
    if as_json:
        print_json(found)
    else:
        typer.echo(f"{found.id} is {found.status}.")


def _details(event: Event) -> str:
    said = event_to_json(event)
    return ", ".join(f"{name}={value}" for name, value in said.items() if name != "type" and value)
