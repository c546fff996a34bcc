"""Simulates how many machines a load needs, by replaying a trace of requests on models with measured rates. Pure;
needs no daemon.

`read_trace` and `read_cluster` parse the input files, `simulate` replays the trace, and `summarize` computes
statistics.
"""

from portico.simulation.inputs import (
    ClusterPlan,
    MachineKind,
    ModelRates,
    TracedCall,
    read_cluster,
    read_trace,
)
from portico.simulation.replay import SimulatedCall, SimulationResult, simulate
from portico.simulation.summary import SimulationSummary, summarize

__all__ = [
    "ClusterPlan",
    "MachineKind",
    "ModelRates",
    "SimulatedCall",
    "SimulationResult",
    "SimulationSummary",
    "TracedCall",
    "read_cluster",
    "read_trace",
    "simulate",
    "summarize",
]
