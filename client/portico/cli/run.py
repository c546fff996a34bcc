"""`portico run`: runs a flow without deploying it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.nouns import print_outcome
from portico.cli.running import given_input, show_run
from portico.cli.session import AsJson, DryRun, connected
from portico.cli.source import read_source
from portico.errors import InvalidRequest, from_body
from portico.wire import ErrorBody

app = typer.Typer()


@app.command(epilog="Example: portico run story.py:story 'A handbook of bread'")
def run(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:FLOW|FILE.yaml", help="A flow in a Python file or module, or its specification."
        ),
    ],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]", help="The input; valid JSON is parsed as JSON, - reads standard input."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--input", help="A JSON file with the input.")] = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run a flow in the daemon without deploying it. Functions that cannot be sent run in this process."""
    app_source = read_source(source)
    if app_source.flow is None:
        raise InvalidRequest(f"'{source}' is an agent. Deploy it: portico apps deploy {source}")
    with connected(context) as client:
        if dry_run:
            spec = client.check(app_source.flow)
            if spec.error is not None:
                raise from_body(ErrorBody(**spec.error))
            print_outcome(spec, as_json, f"'{spec.name}' is valid and could run in this daemon.")
            return
        input_value = given_input(text, file, app_source.spec.get("input_schema"))
        show_run(client, client.start(app_source.flow, input_value), as_json=as_json)
