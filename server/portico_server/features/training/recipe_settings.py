"""Settings of a recipe that a caller can override."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest


@dataclass(frozen=True, slots=True)
class NumberRange:
    """A number between ``least`` and ``most``."""

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
    """One of a set of words."""

    words: tuple[str, ...]

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.words

    def __str__(self) -> str:
        return "one of " + ", ".join(self.words)


@dataclass(frozen=True, slots=True)
class YesNo:
    """A boolean."""

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
"""Recipe settings that can be overridden, with their allowed values. Epochs, batch size and beta are
hyperparameters.
"""


def check_overrides(overrides: Mapping[str, Any], param: str = "overrides") -> None:
    """Raise `InvalidRequest` for the first setting that is unknown or out of range."""
    for name, value in overrides.items():
        allowed_range = SETTINGS.get(name)
        if allowed_range is None:
            raise InvalidRequest(
                f"Unknown recipe setting '{str(name)[:80]}'.{nearest(str(name), SETTINGS)}",
                param=f"{param}.{str(name)[:80]}",
            )
        if not allowed_range.holds(value):
            raise InvalidRequest(
                f"The recipe setting '{name}' must be {allowed_range}, not {str(value)[:80]!r}.",
                param=f"{param}.{name}",
            )
