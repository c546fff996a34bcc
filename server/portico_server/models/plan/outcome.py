"""The result of planning a model for a machine, and the sizes that the plan assumes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

from portico.schemas.deployments import Plan
from portico_server.core.dataclass import dataclass

GB = 1024**3

GPU_SHARE = 0.9
"""Share of a GPU's memory that an engine can use."""

GPU_OVERHEAD_BYTES = 2 * GB
"""GPU memory for the driver, compiled graphs and intermediate values, in bytes."""

CPU_OVERHEAD_BYTES = GB
"""Memory, in bytes, that an engine for GPUs needs in addition to the model when it runs without a GPU."""

FULL_CONTEXT_TOKENS = 32_768
"""Context, in tokens, up to which the plan adds another GPU. A longer context is shortened instead."""

MIN_CONTEXT_TOKENS = 2_048
"""Minimum useful context on a GPU, in tokens."""

USUAL_CALL_TOKENS = 1_000
"""Tokens of a typical chat call, prompt and answer together. Plans use it to describe the size of a cache."""

MAX_PARALLEL_CALLS = 16
"""Maximum number of calls with a full context for which GPU memory is reserved."""

Q4_BITS = 4.85
"""Bits per parameter in a Q4_K_M file."""

FP8_MIN_CAPABILITY_NUMBER = 8.9
"""Compute capability from which GPUs compute in FP8 (Ada, Hopper). Older GPUs can only store weights in FP8."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Memory in bytes by purpose, on the ``device``; per GPU if the model uses several."""

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
    """How the model will run, or the nearest alternative if it does not fit. ``reasons`` are sentences."""

    estimate: MemoryEstimate  # type: ignore[assignment]  # the SDK has it as a JSON object
    nearest: str = ""

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return {**document, "estimate": {**document["estimate"], "total": self.estimate.total}}
