"""`portico logs`: prints the log of a model's engine, and can follow it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated

import typer

from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, connected

app = typer.Typer()

POLL_INTERVAL_S = 0.5
"""Interval between reads of a followed log, in seconds."""

WINDOW_LINES = 1_000
"""Number of lines read each time."""


@app.command(epilog="Example: portico logs default --follow")
def logs(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the model.")] = "default",
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=1, max=WINDOW_LINES, help="Number of lines.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Continue until Ctrl-C.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the last lines of a model's log. With --follow, continue with new lines as they are written."""
    with connected(context) as client:
        seen_lines: Sequence[str] = client.deployments.logs(name, WINDOW_LINES)
        if as_json:
            print_json({"data": list(seen_lines[-lines:])})
            return
        if not seen_lines and not follow:
            typer.echo(f"'{name}' has not written anything yet.")
        _print(seen_lines[-lines:])
        while follow:
            time.sleep(POLL_INTERVAL_S)  # poll, because the daemon does not report new lines
            now = client.deployments.logs(name, WINDOW_LINES)
            _print(fresh(seen_lines, now))
            seen_lines = now


def fresh(seen_lines: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """Return the lines of ``now`` that follow ``seen_lines``. Both are the latest lines of the same growing log."""
    for overlap in range(min(len(seen_lines), len(now)), 0, -1):
        if list(seen_lines[-overlap:]) == list(now[:overlap]):
            return now[overlap:]
    return now


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        typer.echo(one_line(line))
