"""`portico models simulate`: computes how many machines a load needs, from a trace of calls. No daemon is needed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Annotated

import typer

from portico.cli.progress import Spinner
from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson
from portico.cli.source import document_of
from portico.errors import InvalidRequest
from portico.simulation import SimulationSummary, TracedCall, read_cluster, read_trace, simulate, summarize

REPORT_CALLS = 5_000
"""Number of calls between progress updates."""


def simulate_load(
    trace: Annotated[
        Path, typer.Argument(help="Calls in JSON Lines; the file can be gzip-compressed (.gz).")
    ],
    machines: Annotated[
        Path, typer.Option(help="The machine kinds and the speed of the models, as .yaml or .json.")
    ],
    first_token: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Find the cheapest machines with which 95 in 100 calls begin within this many seconds.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Replay a trace on hypothetical machines. Show waits, model loads and cost for each number of machines."""
    plan = read_cluster(document_of(machines), str(machines))
    calls = _read_calls(trace)
    simulation_summaries: list[SimulationSummary] = []
    combinations = plan.combinations()
    with Spinner("simulating") as spinner:
        for number, counts in enumerate(combinations, 1):

            def report(ended_calls: int, number: int = number) -> None:
                if ended_calls % REPORT_CALLS == 0:
                    spinner.say(
                        f"simulating {number} of {len(combinations)}: {ended_calls:,} of {len(calls):,} calls"
                    )

            simulation_summaries.append(summarize(simulate(calls, plan, counts, report), plan))
    cheapest = _cheapest(simulation_summaries, first_token) if first_token is not None else None
    if as_json:
        print_json({"data": simulation_summaries, "cheapest": cheapest})
        return
    print_rows(
        (
            "MACHINES",
            "WAIT P50",
            "P95",
            "FIRST TOKEN P50",
            "P95",
            "TOTAL P50",
            "P95",
            "LOADS",
            "BUSY",
            "COST",
        ),
        (
            (
                _name_of(simulation_summary),
                *(
                    f"{value:.2f} s"
                    for times in (
                        simulation_summary.wait,
                        simulation_summary.first_token,
                        simulation_summary.total,
                    )
                    for value in (times.p50, times.p95)
                ),
                simulation_summary.loads,
                f"{simulation_summary.busy_share:.0%}",
                f"{simulation_summary.cost:.2f}",
            )
            for simulation_summary in simulation_summaries
        ),
    )
    if first_token is not None:
        goal = f"95 in 100 calls get a first token within {first_token:g} s"
        typer.echo(f"With {_name_of(cheapest)}, {goal}." if cheapest else f"With none of these, {goal}.")


def _name_of(summary: SimulationSummary) -> str:
    return " + ".join(f"{number} {name}" for name, number in summary.machines.items() if number)


def _cheapest(
    simulation_summaries: list[SimulationSummary], first_token_s: float
) -> SimulationSummary | None:
    """Return the cheapest configuration that reaches the goal, or the one with the fewest machines if there are no
    prices.
    """
    sufficient = [
        simulation_summary
        for simulation_summary in simulation_summaries
        if simulation_summary.first_token.p95 <= first_token_s
    ]
    return min(sufficient, key=lambda result: (result.cost, sum(result.machines.values())), default=None)


def _read_calls(path: Path) -> list[TracedCall]:
    open_file = gzip.open if path.suffix == ".gz" else open
    try:
        with open_file(path, "rt", encoding="utf-8") as lines:
            return read_trace(lines, str(path))
    except FileNotFoundError as error:
        raise InvalidRequest(f"The file {path} does not exist.", param="trace") from error
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read as text: {error}.", param="trace") from error
