"""Training hyperparameters: batch, rank, epochs, learning rate and related settings. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Literal, Protocol

from portico_server.core.base_models import BaseModel
from portico_server.features.training.spec import RETRIEVAL_METHODS, DataFacts, Hyperparameters, Method
from portico_server.features.training.training_cost import Kind


class Explain(Protocol):
    """A function that returns a value, or the user's override of it, and records the reason."""

    def __call__(self, name: str, value: Any, reason: str) -> Any: ...


class LearningSettings:
    """The part of a recipe that is derived from the data, the method and the size of the model."""

    def __init__(
        self,
        base: BaseModel,
        data: DataFacts,
        method: Method,
        hyperparameters: Hyperparameters,
        device: Literal["cpu", "cuda"],
        reasons: MutableMapping[str, str],
        note: Explain,
    ) -> None:
        self._base, self._data, self._method, self._hyperparameters = base, data, method, hyperparameters
        self._device = device
        self._reasons = reasons
        self._note = note

    def batch(self, group: int) -> int:
        """Return the number of sequences in a step, over all devices."""
        if self._hyperparameters.batch_size is not None:
            self._reasons["batch"] = "as given"
            return self._hyperparameters.batch_size * group
        count = self._data.examples
        if self._method == "embedding":
            size = 16 if self._device == "cpu" else 64
            self._reasons["batch"] = "the answers to the other questions of a step serve as negatives"
            return min(size, max(1, count))
        if self._method == "reinforcement":
            size = 1 if self._device == "cpu" else 8
        else:
            size = next(
                (
                    size
                    for limit, size in ((100, 4), (1_000, 8), (10_000, 16), (100_000, 32))
                    if count <= limit
                ),
                64,
            )
        size = min(size, max(1, count))
        self._reasons["batch"] = (
            f"{count:,} examples: small batches learn faster from few examples, large batches learn more "
            "smoothly"
        )
        return size * group

    def rank(self) -> int:
        """Return the rank of the adapter."""
        if self._method == "reinforcement":
            return int(
                self._note("rank", 16, "rewards contain so little information that a small adapter suffices")
            )
        count = self._data.examples
        rank = next((rank for limit, rank in ((200, 8), (5_000, 16), (50_000, 32)) if count <= limit), 64)
        return int(self._note("rank", rank, f"the capacity that {count:,} examples can fill"))

    def epochs(self) -> int:
        """Return the number of passes over the examples."""
        if self._hyperparameters.n_epochs is not None:
            self._reasons["epochs"] = "as given"
            return self._hyperparameters.n_epochs
        count = max(1, self._data.examples)
        if self._method in ("dpo", "reinforcement"):
            self._reasons["epochs"] = (
                "preferences and rewards lose their effect when the same examples are repeated often"
            )
            return 1 if count >= 100 else min(5, -(-100 // count))
        epochs = 3
        if count * epochs < 100:
            epochs = min(25, -(-100 // count))
        elif count * epochs > 25_000:
            epochs = max(1, 25_000 // count)
        self._reasons["epochs"] = "OpenAI's rule: three epochs, more for few examples, fewer for many"
        return epochs

    def rate(self, kind: Kind) -> float:
        """Return the learning rate."""
        size = self._base.parameters / 1e9  # in billions
        steps = (
            ((0.7, 1e-3), (4.0, 4e-4), (20.0, 2e-4))
            if kind != "full"
            else ((0.7, 1e-4), (4.0, 3e-5), (20.0, 1e-5))
        )
        rate = next((rate for max_size, rate in steps if size <= max_size), 1e-4 if kind != "full" else 5e-6)
        rate *= {"supervised": 1.0, "dpo": 0.1, "reinforcement": 0.1, "embedding": 0.2, "rerank": 0.2}[
            self._method
        ]
        multiplier = self._hyperparameters.learning_rate_multiplier
        reason = f"for {'an adapter' if kind != 'full' else 'all weights'} of a model of {size:.2g} billion parameters"
        if self._method in RETRIEVAL_METHODS:
            reason += ", a fifth of the rate for supervised examples"
        elif self._method != "supervised":
            reason += ", a tenth of the rate for supervised examples"
        if multiplier is not None:
            reason += f", times the given factor {multiplier:g}"
        return float(self._note("learning_rate", rate * (multiplier or 1.0), reason))

    def schedule(self) -> Any:
        """Return the learning rate schedule."""
        if self._method == "reinforcement":
            return self._note(
                "schedule", "constant", "with rewards, the learning rate need not fall toward an end"
            )
        return self._note("schedule", "linear", "falls to zero at the last step")

    def warmup(self, steps: int) -> int:
        """Steps."""
        if self._method == "reinforcement":
            return int(self._note("warmup", 0, "the learning rate is already small"))
        value = 0 if steps < 10 else min(100, -(-steps * 3 // 100))
        return int(
            self._note(
                "warmup",
                value,
                "three percent of the steps, until the optimiser has adapted to the scale of the gradients",
            )
        )

    def decay(self, kind: Kind) -> float:
        """Return the weight decay."""
        return float(
            self._note(
                "weight_decay",
                0.01 if kind == "full" else 0.0,
                "keeps weights small" if kind == "full" else "an adapter is already small",
            )
        )

    def interval(self, steps: int) -> int:
        """Return the number of steps between two checkpoints."""
        if self._hyperparameters.eval_interval is not None:
            self._reasons["eval_interval"] = "as given"
            return self._hyperparameters.eval_interval
        if self._method in RETRIEVAL_METHODS:
            reason = "five checkpoints, each measured on the held-out questions"
            return int(self._note("eval_interval", max(1, -(-steps // 5)), reason))
        return int(
            self._note("eval_interval", max(1, -(-steps // 10)), "ten checkpoints, each with a validation")
        )

    def patience(self) -> int:
        """Return the number of validations without improvement before training stops."""
        if not self._data.validation:
            return int(
                self._note("patience", 0, "without validation examples, nothing determines when to stop")
            )
        return int(self._note("patience", 3, "stops after three consecutive validations without improvement"))

    def beta(self) -> float:
        """Return the penalty for deviating from the base model."""
        if self._method not in ("dpo", "reinforcement"):
            return 0.0
        if self._hyperparameters.beta is not None:
            self._reasons["beta"] = "as given"
            return self._hyperparameters.beta
        if self._method == "dpo":
            self._reasons["beta"] = "as in the paper (Rafailov et al. 2023)"
            return 0.1
        self._reasons["beta"] = (
            "a weak constraint to stay near the base model, so that nonsense does not earn rewards"
        )
        return 0.04
