"""How a model is trained on a machine: every setting, each with its reason. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a trainer needs to know beside the model and the data.

    ``micro_batch`` examples at once on each of ``processes``, ``accumulation`` times before a step; ``max_length``
    tokens at most of an example; ``warmup`` and ``eval_interval`` in steps; ``group`` answers to each prompt and
    ``completion`` tokens of each, for reinforcement; ``beta`` is what straying from the base costs (DPO and
    reinforcement). ``memory_bytes`` is what it is thought to take on each device, ``disk_bytes`` for base and
    checkpoints, ``seconds`` in all. ``reasons`` has a sentence for each setting by name.
    """

    kind: Literal["lora", "qlora", "full"]
    rank: int
    alpha: int
    dropout: float
    precision: Literal["float32", "bfloat16", "float16"]
    device: Literal["cpu", "cuda"]
    processes: int
    sharding: Literal["none", "ddp", "zero2", "zero3", "fsdp"]
    micro_batch: int
    accumulation: int
    max_length: int
    packing: bool
    checkpointing: bool
    attention: Literal["eager", "sdpa", "flash_attention_2"]
    optimiser: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"]
    learning_rate: float
    schedule: Literal["linear", "cosine", "constant"]
    warmup: int
    weight_decay: float
    epochs: int
    steps: int
    eval_interval: int
    patience: int
    beta: float
    group: int
    completion: int
    threads: int
    seed: int
    memory_bytes: int
    disk_bytes: int
    seconds: float
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> int:
        """Examples in one step."""
        return self.micro_batch * self.accumulation * self.processes

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """As `to_json` wrote it."""
        return cls(**data)
