"""How many machines a load needs: a trace of requests, replayed over models with measured rates. Pure, no daemon.

`read_trace` and `read_cluster` parse what people write, `simulate` replays, `summarize` makes figures of the result.
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
