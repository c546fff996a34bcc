"""Figures of a replay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from portico.simulation.inputs import ClusterPlan
from portico.simulation.replay import SimulationResult

SECONDS_PER_HOUR = 3_600.0


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds that half, 95 and 99 in a hundred calls do not exceed."""

    p50: float
    p95: float
    p99: float


@dataclass(frozen=True, slots=True)
class SimulationSummary:
    """``machines`` by kind. ``wait``: seconds until a call's prompt is begun, loads included; ``first_token`` and
    ``total`` count from the call too. ``busy_share``: the part of the time in which machines compute; ``cost`` is that
    of all machines from the first call to the end of the last.
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
    """The figures of a replay on machines of ``plan``."""
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
    """By the nearest rank."""
    sorted_seconds = sorted(seconds)

    def at(share: float) -> float:
        return sorted_seconds[max(0, math.ceil(share * len(sorted_seconds)) - 1)]

    return Percentiles(at(0.5), at(0.95), at(0.99))
