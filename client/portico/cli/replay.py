"""`portico replay`: runs a recorded run again, and shows where the two runs differ."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.apps_deploy import spec_value
from portico.cli.pairs import pairs
from portico.cli.render import console, print_json, print_rows, safe
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest
from portico.recordings import read_recording
from portico.schemas.runs import Replay

if TYPE_CHECKING:
    from portico.client import Client

app = typer.Typer()

RunOrFile = Annotated[
    str, typer.Argument(metavar="RUN|FILE", help="The id of a recent run of an app, or a saved recording.")
]


@app.command(epilog="Example: portico replay story.json --set outline.system=@prompt.txt")
def replay(
    context: typer.Context,
    run: RunOrFile,
    model: Annotated[
        str, typer.Option(help="A model that answers all chat requests, instead of the recording.")
    ] = "",
    store: Annotated[
        str, typer.Option(help="A store that is searched as it is now, instead of the recorded passages.")
    ] = "",
    version: Annotated[
        int | None, typer.Option(min=1, help="Another version of the app.", show_default=False)
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="STEP.FIELD=VALUE",
            help="Another value in the app, such as a prompt; as in portico apps set.",
        ),
    ] = None,
    current: Annotated[
        bool, typer.Option("--current", help="Run the current versions of the apps, not the recorded ones.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a recorded run again without its models, stores and tools, and show the first step that differs."""
    new_values = {place: spec_value(value) for place, value in pairs(changes, "--set").items()}
    with connected(context) as client:
        result = client.runs.replay(
            recording_of(client, run),
            model=model or None,
            store=store or None,
            version=version,
            changes=new_values or None,
            current=current,
        )
    if as_json:
        print_json(result)
        return
    typer.echo(summary(result))
    if not result.is_equal:
        for line in _differences(result):
            style = {"+": "green", "-": "red"}.get(line[:1])
            console().print(safe(line), style=style, markup=False, highlight=False)
    if result.first is not None:
        print_rows(
            ("STEP", "CALLS", "STATUS"),
            ((step.path, step.name, step.status) for step in result.steps[result.first :]),
        )


def recording_of(client: Client, run: str) -> Mapping[str, Any]:
    """Return the recording in a file, or of a recent run if no file has this name."""
    path = Path(run)
    if path.is_file():
        return read_recording(path)
    if not run.startswith("run_"):
        raise InvalidRequest(f"'{safe(run)}' is neither a file nor the id of a run.", param="run")
    return client.runs.recording(run)


def summary(replay: Replay) -> str:
    """Return a sentence that compares the two runs."""
    count = f"{len(replay.steps)} step{'' if len(replay.steps) == 1 else 's'}"
    if replay.is_equal:
        return f"'{safe(replay.app)}' did the same in {count}, with the same result."
    if replay.first is None:
        return f"'{safe(replay.app)}' did the same in {count}, but the result differs."
    step = replay.steps[replay.first]
    return f"'{safe(replay.app)}' differs first at the step {safe(step.path)}, which is {step.status}."


def _differences(replay: Replay) -> Iterator[str]:
    """Yield a diff of the first step that differs, or of the results."""
    import difflib

    recorded, replayed = replay.recorded, replay.replayed
    if replay.first is not None:
        step = replay.steps[replay.first]
        recorded, replayed = step.recorded or {}, step.replayed or {}
    yield from difflib.unified_diff(
        _lines(recorded), _lines(replayed), "recorded", "replayed", lineterm="", n=2
    )


def _lines(value: Mapping[str, Any]) -> list[str]:
    return json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True).splitlines()
