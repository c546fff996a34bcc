"""`portico test`: replays the recordings in a folder with the current apps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.render import print_json, print_rows
from portico.cli.replay import summary
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest, NotFound
from portico.recordings import read_recording

app = typer.Typer()


@app.command(epilog="Example: portico test ./recordings")
def replay_folder(
    context: typer.Context,
    folder: Annotated[
        Path,
        typer.Argument(
            help="A folder with recordings (*.json), also in folders below.", exists=True, file_okay=False
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Replay each recording in a folder with the current version of its app. Exit code 1 if any run differs."""
    paths = sorted(folder.rglob("*.json"))
    if not paths:
        raise InvalidRequest(
            f"{folder} contains no recordings. Save one: portico runs save RUN {folder / 'run.json'}",
            param="folder",
        )
    outcomes: list[tuple[str, bool, str]] = []
    with connected(context) as client:
        for path in paths:
            try:
                replay = client.runs.replay(read_recording(path), current=True)
                outcome = (replay.is_equal, summary(replay))
            except (InvalidRequest, NotFound) as error:
                outcome = (False, error.message)
            outcomes.append((str(path.relative_to(folder)), *outcome))
    if as_json:
        print_json(
            {"data": [{"file": file, "is_equal": equal, "message": text} for file, equal, text in outcomes]}
        )
    else:
        print_rows(
            ("FILE", "OUTCOME", "MESSAGE"),
            ((file, "same" if equal else "differs", text) for file, equal, text in outcomes),
        )
    if not all(equal for _file, equal, _text in outcomes):
        raise typer.Exit(1)
