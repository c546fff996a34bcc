"""`portico ps`: lists the models in memory."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from portico.cli.render import amount, moment, print_json, print_rows
from portico.cli.session import AsJson, connected
from portico.schemas.deployments import Deployment

app = typer.Typer()


@app.command(epilog="Example: portico ps")
def ps(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models in memory and how much memory each uses."""
    with connected(context) as client:
        deployments = [m for m in client.deployments.list() if m.state in ("loading", "ready")]
    if as_json:
        print_json({"data": deployments})
    elif not deployments:
        typer.echo("No model is loaded; a model loads on its first call, or with: portico models load NAME")
    else:
        print_rows(
            ("NAME", "STATE", "MEMORY", "PROCESS", "ENGINE", "LAST USED"),
            (row for model in deployments for row in _rows(model)),
        )


def _rows(model: Deployment) -> Iterator[tuple[object, ...]]:
    """Yield a row for the model and, if it has several processes, a row for each of them."""
    m = model
    yield (m.name, m.state, amount(m.memory_bytes), m.pid, m.engine, moment(m.last_used_at))
    for number, replica in enumerate(m.replicas, 1):
        yield (f"  {number}", replica.state, amount(replica.memory_bytes), replica.pid, replica.engine, "")
