"""How a model is trained on a machine: every setting with its reason, and what a caller may override."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from portico_server.core.errors import InvalidRequest, nearest


@dataclass(frozen=True, slots=True)
class TrainingRecipe:
    """All that a trainer needs to know beside the model and the data.

    ``micro_batch`` examples at once on each replica of the model, ``accumulation`` times before a step; ``max_length``
    tokens at most of an example; ``warmup`` and ``eval_interval`` in steps; ``group`` answers to each prompt and
    ``completion`` tokens of each, for reinforcement; ``beta`` is what straying from the base costs (DPO and
    reinforcement). ``memory_bytes`` is what it is thought to take on each device, ``disk_bytes`` for base and
    checkpoints, ``seconds`` in all. ``reasons`` has a sentence for each setting by name. ``processes`` are those of all
    ``nodes``; so many as ``tensor_parallel`` hold each layer of a replica together.
    """

    kind: Literal["lora", "qlora", "full"]
    rank: int
    alpha: int
    dropout: float
    precision: Literal["float32", "bfloat16", "float16"]
    device: Literal["cpu", "cuda"]
    processes: int
    sharding: Literal["none", "ddp", "zero2", "zero3", "fsdp", "tensor"]
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
    nodes: int = 1
    tensor_parallel: int = 1

    @property
    def batch(self) -> int:
        """Examples in one step."""
        return self.micro_batch * self.accumulation * (self.processes // self.tensor_parallel)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TrainingRecipe:
        """As `to_json` wrote it."""
        return cls(**data)


# Settings of a recipe that a caller gives instead of leaving them to it.


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number from ``least`` to ``most``."""

    least: float
    most: float
    whole: bool = True

    def holds(self, value: Any) -> bool:
        kinds = int if self.whole else (int, float)
        return isinstance(value, kinds) and not isinstance(value, bool) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.least:g} to {self.most:g}"


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of some words."""

    words: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class YesNo:
    """A truth value."""

    def holds(self, value: Any) -> bool:
        return isinstance(value, bool)

    def __str__(self) -> str:
        return "true or false"


SETTINGS: Final[Mapping[str, NumberRange | OneOf | YesNo]] = {
    "kind": OneOf(("lora", "qlora", "full")),
    "rank": NumberRange(1, 512),
    "alpha": NumberRange(1, 2048),
    "dropout": NumberRange(0, 0.9, whole=False),
    "precision": OneOf(("float32", "bfloat16", "float16")),
    "device": OneOf(("cpu", "cuda")),
    "processes": NumberRange(1, 1024),
    "sharding": OneOf(("none", "ddp", "zero2", "zero3", "fsdp")),
    "tensor_parallel": NumberRange(1, 64),
    "micro_batch": NumberRange(1, 4096),
    "max_length": NumberRange(16, 10_000_000),
    "packing": YesNo(),
    "checkpointing": YesNo(),
    "attention": OneOf(("eager", "sdpa", "flash_attention_2")),
    "optimiser": OneOf(("adamw_torch", "adamw_8bit", "paged_adamw_8bit")),
    "learning_rate": NumberRange(1e-8, 1.0, whole=False),
    "schedule": OneOf(("linear", "cosine", "constant")),
    "warmup": NumberRange(0, 1_000_000),
    "weight_decay": NumberRange(0, 1, whole=False),
    "eval_interval": NumberRange(0, 1_000_000),
    "patience": NumberRange(0, 1000),
    "group": NumberRange(2, 256),
    "completion": NumberRange(1, 1_000_000),
    "threads": NumberRange(1, 1024),
}
"""What may be given, and what it may be. Epochs, batch size and beta are hyperparameters."""


def check_overrides(given: Mapping[str, Any], param: str = "overrides") -> None:
    """Raise `InvalidRequest` that names the first setting which is unknown or out of its range."""
    for name, value in given.items():
        allowed = SETTINGS.get(name)
        if allowed is None:
            raise InvalidRequest(
                f"A recipe has no setting '{str(name)[:80]}'.{nearest(str(name), SETTINGS)}",
                param=f"{param}.{str(name)[:80]}",
            )
        if not allowed.holds(value):
            raise InvalidRequest(
                f"'{name}' of a recipe must be {allowed}, not {str(value)[:80]!r}.", param=f"{param}.{name}"
            )
