"""`portico schedules`: manages apps that run, and stores that sync, at set times."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.complete import app_names, schedule_names
from portico.cli.nouns import ID, OWNER, Everyone, print_listing, print_outcome, print_removed
from portico.cli.render import moment, print_fields, print_json, print_rows, safe, shorten
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest
from portico.schemas.schedules import SCHEDULES, Schedule

app = group(
    "schedules", 'portico schedules add morning --app digest --cron "0 7 * * 1-5" --timezone Europe/Berlin'
)

Ref = Annotated[
    str,
    typer.Argument(metavar="NAME", help="The schedule, by name or id.", autocompletion=schedule_names),
]
AppName = Annotated[str | None, typer.Option("--app", help="The app to call.", autocompletion=app_names)]
StoreName = Annotated[str | None, typer.Option("--store", help="The store to sync.")]
Input = Annotated[str | None, typer.Option("--input", help="The app's input; valid JSON is parsed as JSON.")]
InputFile = Annotated[Path | None, typer.Option("--input-file", help="A JSON file with the input.")]
Cron = Annotated[
    str | None,
    typer.Option(help="Minute, hour, day of the month, month, day of the week; or @daily and similar names."),
]
Every = Annotated[str | None, typer.Option(help="An interval instead, such as 15m or 1h30m.")]
Zone = Annotated[
    str | None, typer.Option(help="The time zone, such as Europe/Berlin (default: UTC).", metavar="ZONE")
]
Missed = Annotated[
    str | None,
    typer.Option(help="Times missed while no daemon ran: skip, once (default) or all.", metavar="RULE"),
]
Overlap = Annotated[
    str | None,
    typer.Option(help="Times that are due during a run: skip (default), queue or allow.", metavar="RULE"),
]
PauseAfter = Annotated[
    int | None,
    typer.Option(
        help="Consecutive failures after which the schedule is paused; 0: never (default: 5).", min=0
    ),
]


@app.command("list", epilog="Example: portico schedules list")
def show_all(context: typer.Context, everyone: Everyone = False, as_json: AsJson = False) -> None:
    """List the schedules."""
    with connected(context) as client:
        schedules = client.schedules.list(everyone=everyone)
    print_listing(
        schedules,
        as_json,
        (ID, OWNER, *SCHEDULES.columns) if everyone else SCHEDULES.columns,
        "No schedules yet: portico schedules add NAME --app APP --cron '0 7 * * *'",
        {"NEXT": lambda schedule: "paused" if schedule.paused else moment(schedule.next_at)},
    )


@app.command(
    epilog='Example: portico schedules add morning --app digest --cron "0 7 * * 1-5" --timezone Europe/Berlin'
)
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the schedule.")],
    target: AppName = None,
    store: StoreName = None,
    text: Input = None,
    file: InputFile = None,
    cron: Cron = None,
    every: Every = None,
    timezone: Zone = None,
    missed: Missed = None,
    overlap: Overlap = None,
    pause_after: PauseAfter = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create a schedule that calls an app or syncs a store."""
    input_value = _input(text, file)
    with connected(context) as client:
        if dry_run:
            times = client.schedules.preview(cron=cron, every=every, timezone=timezone)
            _print_times(times, as_json)
            return
        schedule = client.schedules.create(
            name,
            app=target,
            store=store,
            input=input_value,
            cron=cron,
            every=every,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            pause_after=pause_after,
        )
    _print(schedule, as_json)


@app.command(epilog="Example: portico schedules show morning")
def show(context: typer.Context, schedule: Ref, as_json: AsJson = False) -> None:
    """Show a schedule, and the results of its last runs."""
    with connected(context) as client:
        found_schedule = client.schedules.get(schedule)
        runs = client.schedules.runs(schedule, limit=10)
    if as_json:
        print_json({"schedule": found_schedule, "runs": runs})
        return
    print_fields(
        [
            ("id", found_schedule.id),
            ("name", found_schedule.name),
            ("shared", "yes" if found_schedule.shared else "no"),
            ("runs", found_schedule.target),
            (
                "input",
                shorten(safe(str(found_schedule.input)), 200) if found_schedule.input is not None else None,
            ),
            ("at", found_schedule.times),
            ("missed", found_schedule.missed),
            ("overlap", found_schedule.overlap),
            (
                "pause after",
                f"{found_schedule.pause_after} failures" if found_schedule.pause_after else "never",
            ),
            ("failures", found_schedule.failures),
            ("paused", found_schedule.paused),
            ("next", moment(found_schedule.next_at)),
        ]
    )
    if runs:
        typer.echo()
        print_rows(
            ("DUE", "CAUSE", "RUN", "STATUS"),
            (
                (
                    moment(scheduled_run.due_at),
                    scheduled_run.cause,
                    scheduled_run.run or "",
                    f"skipped: {scheduled_run.skipped}"
                    if scheduled_run.skipped
                    else scheduled_run.status or "forgotten",
                )
                for scheduled_run in runs
            ),
        )


@app.command(epilog="Example: portico schedules change morning --every 15m")
def change(
    context: typer.Context,
    schedule: Ref,
    name: Annotated[str | None, typer.Option(help="The new name.")] = None,
    target: AppName = None,
    store: StoreName = None,
    text: Input = None,
    file: InputFile = None,
    cron: Cron = None,
    every: Every = None,
    timezone: Zone = None,
    missed: Missed = None,
    overlap: Overlap = None,
    pause_after: PauseAfter = None,
    as_json: AsJson = False,
) -> None:
    """Change the given fields of a schedule."""
    input_value = _input(text, file)
    with connected(context) as client:
        found_schedule = client.schedules.change(
            schedule,
            name=name,
            app=target,
            store=store,
            input=input_value,
            cron=cron,
            every=every,
            timezone=timezone,
            missed=missed,
            overlap=overlap,
            pause_after=pause_after,
        )
    _print(found_schedule, as_json)


@app.command(epilog="Example: portico schedules remove morning --yes")
def remove(
    context: typer.Context, schedule: Ref, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove a schedule. A run in progress continues."""
    with connected(context) as client:
        found_schedule = client.schedules.get(schedule)
        if may_remove(f"Remove the schedule '{found_schedule.name}'?", yes=yes, dry_run=dry_run):
            client.schedules.remove(found_schedule.id)
    print_removed(found_schedule.name, found_schedule.name, dry_run, as_json)


@app.command(epilog="Example: portico schedules pause morning")
def pause(context: typer.Context, schedule: Ref, as_json: AsJson = False) -> None:
    """Pause a schedule until it is resumed."""
    with connected(context) as client:
        found_schedule = client.schedules.pause(schedule)
    _print(found_schedule, as_json)


@app.command(epilog="Example: portico schedules resume morning")
def resume(context: typer.Context, schedule: Ref, as_json: AsJson = False) -> None:
    """Resume a schedule, from its next time on."""
    with connected(context) as client:
        found_schedule = client.schedules.resume(schedule)
    _print(found_schedule, as_json)


@app.command(epilog="Example: portico schedules run morning")
def run(context: typer.Context, schedule: Ref, as_json: AsJson = False) -> None:
    """Start a run of a schedule now and print the run's id. To see the result: portico runs show ID"""
    with connected(context) as client:
        run_id = client.schedules.run(schedule)
    print_outcome({"run": run_id}, as_json, run_id)


@app.command("next", epilog='Example: portico schedules next --cron "30 2 * * *" --timezone Europe/Berlin')
def show_next(
    context: typer.Context,
    schedule: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="An existing schedule.", autocompletion=schedule_names),
    ] = None,
    cron: Cron = None,
    every: Every = None,
    timezone: Zone = None,
    count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Print when a schedule is due next. Instead of a schedule, --cron or --every can be given."""
    if (schedule is None) == (cron is None and every is None):
        raise InvalidRequest("Give either the NAME of a schedule, or --cron or --every.", param="schedule")
    with connected(context) as client:
        if schedule is not None:
            times = client.schedules.next(schedule, count=count)
        else:
            times = client.schedules.preview(cron=cron, every=every, timezone=timezone, count=count)
    _print_times(times, as_json)


def _input(text: str | None, file: Path | None) -> Any:
    if text is None and file is None:
        return None
    from portico.cli.running import given_input

    return given_input(text, file, None)


def _print(schedule: Schedule, as_json: bool) -> None:
    status_text = (
        f"is paused: {schedule.paused}" if schedule.paused else f"is next due {moment(schedule.next_at)}."
    )
    print_outcome(schedule, as_json, f"{safe(schedule.name)} {status_text}")


def _print_times(times: Sequence[float], as_json: bool) -> None:
    if as_json:
        print_json({"data": times})
        return
    for time in times:
        typer.echo(datetime.fromtimestamp(time).astimezone().strftime("%a %Y-%m-%d %H:%M:%S %Z"))
