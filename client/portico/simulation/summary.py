"""Statistics of a replay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from portico.simulation.inputs import ClusterPlan
from portico.simulation.replay import SimulationResult

SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """The times, in seconds, within which 50, 95 and 99 percent of the calls finish the measured phase."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """Statistics of a simulation. ``machines``: the number of machines of each kind. ``wait``: seconds from a call
    until its prompt is started, including model loads; ``first_token`` and ``total`` are also measured from the
    call. ``busy_share``: the share of time in which machines compute. ``cost``: the cost of all machines from the
    first call to the end of the last call.

    Example::

        from portico.simulation import ClusterPlan, MachineKind, ModelRates, TracedCall, simulate, summarize

        rates = ModelRates(memory_gb=8, load_s=20, prefill=4_000, decode=((1, 40.0),))
        plan = ClusterPlan((MachineKind("l4", 24, cost_per_hour=0.8),), {"small": rates})
        summary = summarize(simulate([TracedCall(0, "small", 200, 50)], plan, (1,)), plan)
        print(summary.first_token, summary.cost)
    """

    machines: dict[str, int]
    calls: int
    wait: Percentiles
    first_token: Percentiles
    total: Percentiles
    loads: int
    evictions: int
    busy_share: float
    hours: float
    cost: float


def summarize(result: SimulationResult, plan: ClusterPlan) -> SimulationSummary:
    """Return the statistics of a replay on machines of ``plan``."""
    calls = result.calls
    start_time = calls[0].call.at
    span = max(result.span_s - start_time, 1e-9)
    hours = span / SECONDS_PER_HOUR
    price = sum(
        kind.cost_per_hour * number for kind, number in zip(plan.machines, result.counts, strict=True)
    )
    return SimulationSummary(
        machines={kind.name: number for kind, number in zip(plan.machines, result.counts, strict=True)},
        calls=len(calls),
        wait=percentiles([simulated_call.started - simulated_call.call.at for simulated_call in calls]),
        first_token=percentiles(
            [simulated_call.first_token - simulated_call.call.at for simulated_call in calls]
        ),
        total=percentiles([simulated_call.ended - simulated_call.call.at for simulated_call in calls]),
        loads=result.loads,
        evictions=result.evictions,
        busy_share=result.busy_s / (span * sum(result.counts)),
        hours=hours,
        cost=price * hours,
    )


def percentiles(seconds: Sequence[float]) -> Percentiles:
    """Compute percentiles with the nearest-rank method."""
    sorted_seconds = sorted(seconds)

    def at(share: float) -> float:
        return sorted_seconds[max(0, math.ceil(share * len(sorted_seconds)) - 1)]

    return Percentiles(at(0.5), at(0.95), at(0.99))
