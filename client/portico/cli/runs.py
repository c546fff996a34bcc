"""`portico runs`: shows and manages current and past work of the daemon."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.nouns import fields_of, print_item, print_listing, print_outcome
from portico.cli.render import dollars, moment, print_json, print_rows, safe
from portico.cli.replay import RunOrFile, recording_of
from portico.cli.root import group
from portico.cli.runs_trace import fork, resume, trace
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.recordings import to_eval_item, to_training_example
from portico.schemas.questions import Question
from portico.schemas.runs import RUNS, Pruned
from portico.wire import Event, event_to_json

app = group("runs", "portico runs list")

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the run.")]


@app.command("list", epilog="Example: portico runs list --limit 20")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Number of runs, newest first.")] = 20,
    after: Annotated[str | None, typer.Option(help="Only runs after the run with this id.")] = None,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first."""
    with connected(context) as client:
        runs = client.runs.list(limit, after=after)
        stores = {} if as_json else {store.id: store.name for store in client.stores.list()}
    print_listing(
        runs,
        as_json,
        RUNS.columns,
        "No runs yet: portico ask 'What is this about?'",
        {"NAME": lambda run: _name_of(run.name, stores)},
    )


def _name_of(name: str, stores: Mapping[str, str]) -> str:
    """Return the name of a run's subject for display. The work of a store is named by its id; show the store's name
    instead.
    """
    kind, slash, store = name.rpartition("/")
    return f"{kind}{slash}{stores.get(store, store)}"


@app.command(epilog="Example: portico runs show run_0192f6")
def show(context: typer.Context, run_id: Identity, as_json: AsJson = False) -> None:
    """Show a run."""
    with connected(context) as client:
        run = client.runs.get(run_id)
        questions = client.questions.list(status="pending", run=run_id) if run.status == "waiting" else []
    print_item(
        run,
        as_json,
        *fields_of(run, "id", "kind", "name", "status"),
        *(("waits for", _waits_for(question)) for question in questions),
        ("error", run.error.message if run.error else None),
        ("began", moment(run.created_at)),
        ("ended", moment(run.finished_at)),
        ("tokens", f"{run.usage.prompt_tokens} in, {run.usage.completion_tokens} out"),
        ("cost", None if run.usage.cost is None else dollars(run.usage.cost)),
        ("events", run.last_event),
    )


@app.command(epilog="Example: portico runs tail run_0192f6")
def tail(
    context: typer.Context,
    run_id: Identity,
    after: Annotated[int, typer.Option(min=0, help="Only events with a number above this.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Follow the events of a run until it ends."""
    events: list[dict[str, Any]] = []
    with connected(context) as client:
        for item in client.runs.events(run_id, after=after):
            if as_json:
                events.append({"seq": item.seq, **event_to_json(item.event)})
            else:
                print_rows((), [(item.seq, item.event.type, _details(item.event))])
    if as_json:
        print_json({"data": events})


app.command(epilog="Example: portico runs trace run_0192f6")(trace)
app.command(epilog="Example: portico runs resume run_0192f6 --from chapters")(resume)
app.command(epilog="Example: portico runs fork run_0192f6 --input 'A handbook of cheese'")(fork)


class RunFormat(StrEnum):
    """What a run is saved as: a recording to replay, an item of an evaluation, or an example for training."""

    recording = "recording"
    item = "item"
    example = "example"


@app.command(epilog="Example: portico runs save run_0192f6 recordings/bread.json")
def save(
    context: typer.Context,
    run: RunOrFile,
    file: Annotated[Path, typer.Argument(help="The file to write.", dir_okay=False)],
    format: Annotated[
        RunFormat,
        typer.Option(
            "--as",
            help="A recording replaces the file; an item of an evaluation, or an example for training, is added to it.",
        ),
    ] = RunFormat.recording,
    as_json: AsJson = False,
) -> None:
    """Save a run of an app to a file, without secrets. The daemon keeps the recordings of recent runs."""
    with connected(context) as client:
        recording = recording_of(client, run)
    match format:
        case RunFormat.recording:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(recording, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
            document = recording
        case RunFormat.item:
            document = _append(file, to_eval_item(recording))
        case RunFormat.example:
            document = _append(file, to_training_example(recording))
    print_outcome(document, as_json, f"Saved {recording['run']['id']} to {safe(str(file))}.")


def _append(file: Path, line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Add a line to a file of JSON lines, and return the line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line, ensure_ascii=False) + "\n")
    return line


@app.command(epilog="Example: portico runs cancel run_0192f6")
def cancel(context: typer.Context, run_id: Identity, as_json: AsJson = False) -> None:
    """Stop a run."""
    with connected(context) as client:
        client.runs.cancel(run_id)
        run = client.runs.get(run_id)
    print_outcome(run, as_json, f"{run.id} is {run.status}.")


@app.command(epilog="Example: portico runs prune --days 7 --dry-run")
def prune(
    context: typer.Context,
    days: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Minimum age in days since the run ended (default: the setting keep_runs_days).",
            show_default=False,
        ),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove old runs and the data that belongs to them, as the daemon does every hour."""
    with connected(context) as client:
        pruned = client.runs.prune(days=days, dry_run=True)
        if may_remove(f"Remove {_amounts(pruned)}?", yes=yes, dry_run=dry_run):
            pruned = client.runs.prune(days=days)
    print_outcome(pruned, as_json, f"{'Would remove' if dry_run else 'Removed'} {_amounts(pruned)}.")


def _amounts(pruned: Pruned) -> str:
    return (
        f"{pruned.runs} runs, {pruned.artifacts} artifacts, {pruned.questions} answered questions, "
        f"{pruned.files} expired files and {pruned.usage} usage rows"
    )


def _waits_for(question: Question) -> str:
    match question.kind:
        case "approval":
            return f"approval of {question.name}: portico approvals approve {question.id}"
        case "function":
            return f"a client that serves {question.name}"
        case _:
            return f"an answer to {question.name}: portico approvals approve {question.id} --value …"


def _details(event: Event) -> str:
    fields = event_to_json(event)
    return ", ".join(f"{name}={value}" for name, value in fields.items() if name != "type" and value)
