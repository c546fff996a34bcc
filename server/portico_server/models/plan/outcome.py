"""What a plan says about a model on a machine, and the sizes that it assumes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from portico.schemas.deployments import Plan
from portico_server.core.dataclass import dataclass

GB = 1024**3

GPU_SHARE = 0.9
"""Part of a GPU's memory that an engine may have."""

GPU_OVERHEAD_BYTES = 2 * GB
"""Bytes of a GPU for its driver, compiled graphs and intermediate values."""

CPU_OVERHEAD_BYTES = GB
"""Bytes of memory that such an engine takes without a GPU, beside the model."""

FULL_CONTEXT_TOKENS = 32_768
"""Tokens for which another GPU is taken; beyond that a shorter context is better."""

MIN_CONTEXT_TOKENS = 2_048
"""Tokens; with less a model is of no use on a GPU."""

USUAL_CALL_TOKENS = 1_000
"""Tokens of a chat's call, prompt and answer together, by which a cache is described."""

MAX_PARALLEL_CALLS = 16
"""Calls with a full context for which GPU memory is set aside, if there is as much."""

Q4_BITS = 4.85
"""Bits of a parameter in a Q4_K_M file."""

FP8_MIN_CAPABILITY_NUMBER = 8.9
"""From here on (Ada, Hopper) GPUs compute in FP8; older ones only keep weights in it."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by what they are for, on the ``device``; per GPU where there are several."""

    device: Literal["cpu", "gpu"]
    weights: int
    cache: int
    other: int
    available: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.other


@dataclass(frozen=True, slots=True)
class PlanOutcome(Plan):
    """What will run, or what comes nearest to it if it does not fit. ``reasons`` are sentences."""

    estimate: MemoryEstimate  # type: ignore[assignment]  # the SDK has it as a JSON object
    nearest: str = ""

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return {**document, "estimate": {**document["estimate"], "total": self.estimate.total}}
