"""`portico top`: shows active models, refreshed at intervals."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from portico.cli.render import amount, console, dollars, one_line, print_json, print_rows
from portico.cli.session import AsJson, connected
from portico.client import Client
from portico.schemas.deployments import Deployment

app = typer.Typer()

COLUMNS = ("MODEL", "STATE", "MEMORY", "CALLS NOW", "CALLS/MIN", "TOKENS/S", "COST", "STARTS", "CRASHES")


@app.command(epilog="Example: portico top --interval 5")
def top(
    context: typer.Context,
    interval: Annotated[float, typer.Option(min=0.2, help="Seconds between updates.")] = 2.0,
    as_json: AsJson = False,
) -> None:
    """Show active models: memory, calls, tokens per second, restarts. Prints once if not on a terminal."""
    with connected(context) as client:
        now = look(client)
        if as_json:
            print_json({"data": now.models})
        elif not sys.stdout.isatty():
            print_rows(COLUMNS, rows(now, now))
        else:
            _watch(client, now, interval)


@dataclass(frozen=True, slots=True)
class Moment:
    """The state of the daemon at one time. ``calls``, ``tokens`` and ``cost`` are totals since recording began, keyed
    by the model that answered, or by the requested name if the model is unknown. Costs are in dollars, for models
    with a price.
    """

    at: float
    models: Sequence[Deployment]
    calls: dict[str, int]
    tokens: dict[str, int]
    cost: dict[str, float] = field(default_factory=dict)


def look(client: Client) -> Moment:
    """Query the daemon."""
    calls: dict[str, int] = {}
    tokens: dict[str, int] = {}
    cost: dict[str, float] = {}
    for row in client.usage():
        name = row.get("model") or row["name"]
        calls[name] = calls.get(name, 0) + row["calls"]
        tokens[name] = tokens.get(name, 0) + (row["completion_tokens"] or 0)
        if row["cost"] is not None:
            cost[name] = cost.get(name, 0.0) + row["cost"]
    return Moment(time.monotonic(), client.deployments.list(), calls, tokens, cost)


def rows(before: Moment, now: Moment) -> list[tuple[Any, ...]]:
    """Return a row for each model, busy models first. Rates are computed from the difference between the two
    moments.
    """
    elapsed_s = now.at - before.at
    rows_found = []
    for model in sorted(now.models, key=lambda m: (-m.calls, m.state != "ready", m.name)):
        names = (model.name, *model.aliases)
        calls = sum(now.calls.get(name, 0) - before.calls.get(name, 0) for name in names)
        tokens = sum(now.tokens.get(name, 0) - before.tokens.get(name, 0) for name in names)
        per_minute = f"{calls * 60 / elapsed_s:.0f}" if elapsed_s else ""
        per_second = f"{tokens / elapsed_s:.1f}" if elapsed_s else ""
        memory = amount(model.memory_bytes)
        costs = [now.cost[name] for name in names if name in now.cost]
        rows_found.append(
            (
                model.name,
                model.state,
                memory,
                model.calls,
                per_minute,
                per_second,
                dollars(sum(costs)) if costs else "",
                model.starts,
                model.crashes,
            )
        )
    return rows_found


def _watch(client: Client, now: Moment, interval: float) -> None:
    with Live(_table(now, now), console=console(), screen=False, auto_refresh=False) as live:
        while True:
            time.sleep(interval)  # poll, because the daemon sends no event for this
            before, now = now, look(client)
            live.update(_table(before, now), refresh=True)


def _table(before: Moment, now: Moment) -> Group:
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for number, name in enumerate(COLUMNS):
        table.add_column(name, justify="left" if number < 2 else "right", no_wrap=True)
    for row in rows(before, now):
        table.add_row(*(Text(one_line(cell)) for cell in row))
    held_bytes = sum(model.memory_bytes or 0 for model in now.models)
    return Group(table, Text(f"\n{amount(held_bytes)} in models · Ctrl-C ends", style="dim"))
