"""How a model learns: batch, rank, times through the data, learning rate and what belongs to it. Pure."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any, Literal, Protocol

from portico_server.core.base_models import BaseModel
from portico_server.finetune.spec import RETRIEVAL_METHODS, DataFacts, Hyperparameters, Method
from portico_server.finetune.training_cost import Kind


class Explain(Protocol):
    """The value, or what was given in its place; notes why."""

    def __call__(self, name: str, value: Any, reason: str) -> Any: ...


class LearningSettings:
    """The part of a recipe that follows from the data, the method and the size of the model."""

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
        """Sequences in a step, over all devices."""
        if self._hyperparameters.batch_size is not None:
            self._reasons["batch"] = "as given"
            return self._hyperparameters.batch_size * group
        count = self._data.examples
        if self._method == "embedding":
            size = 16 if self._device == "cpu" else 64
            self._reasons["batch"] = "the answers to the other questions of a step are wrong ones for each"
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
            f"{count:,} examples: small batches learn little data faster, large ones more smoothly"
        )
        return size * group

    def rank(self) -> int:
        """Of the adapter."""
        if self._method == "reinforcement":
            return int(self._note("rank", 16, "rewards say so little that a small adapter holds it"))
        count = self._data.examples
        rank = next((rank for limit, rank in ((200, 8), (5_000, 16), (50_000, 32)) if count <= limit), 64)
        return int(self._note("rank", rank, f"as much as {count:,} examples can fill"))

    def epochs(self) -> int:
        """Times through the examples."""
        if self._hyperparameters.n_epochs is not None:
            self._reasons["epochs"] = "as given"
            return self._hyperparameters.n_epochs
        count = max(1, self._data.examples)
        if self._method in ("dpo", "reinforcement"):
            self._reasons["epochs"] = "preferences and rewards wear out when they are seen often"
            return 1 if count >= 100 else min(5, -(-100 // count))
        epochs = 3
        if count * epochs < 100:
            epochs = min(25, -(-100 // count))
        elif count * epochs > 25_000:
            epochs = max(1, 25_000 // count)
        self._reasons["epochs"] = "OpenAI's rule: three times, more of few examples, fewer of many"
        return epochs

    def rate(self, kind: Kind) -> float:
        """The learning rate."""
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
        why = f"for {'an adapter' if kind != 'full' else 'all weights'} of a model of {size:.2g} billion parameters"
        if self._method in RETRIEVAL_METHODS:
            why += ", a fifth of what examples of answers get"
        elif self._method != "supervised":
            why += ", a tenth of what examples get"
        if multiplier is not None:
            why += f", times {multiplier:g} as given"
        return float(self._note("learning_rate", rate * (multiplier or 1.0), why))

    def schedule(self) -> Any:
        """How the learning rate falls."""
        if self._method == "reinforcement":
            return self._note("schedule", "constant", "rewards have no end to slow down for")
        return self._note("schedule", "linear", "down to zero at the last step")

    def warmup(self, steps: int) -> int:
        """Steps."""
        if self._method == "reinforcement":
            return int(self._note("warmup", 0, "the learning rate is small already"))
        value = 0 if steps < 10 else min(100, -(-steps * 3 // 100))
        return int(
            self._note("warmup", value, "three in a hundred steps, until the optimiser knows the scale")
        )

    def decay(self, kind: Kind) -> float:
        """Of the weights."""
        return float(
            self._note(
                "weight_decay",
                0.01 if kind == "full" else 0.0,
                "keeps weights small" if kind == "full" else "an adapter is small by itself",
            )
        )

    def interval(self, steps: int) -> int:
        """Steps between two checkpoints."""
        if self._hyperparameters.eval_interval is not None:
            self._reasons["eval_interval"] = "as given"
            return self._hyperparameters.eval_interval
        if self._method in RETRIEVAL_METHODS:
            why = "five checkpoints, at each of which the held-back questions are asked"
            return int(self._note("eval_interval", max(1, -(-steps // 5)), why))
        return int(
            self._note("eval_interval", max(1, -(-steps // 10)), "ten checkpoints, each with its validation")
        )

    def patience(self) -> int:
        """Validations that may be no better."""
        if not self._data.validation:
            return int(self._note("patience", 0, "without validation examples nothing says when to stop"))
        return int(self._note("patience", 3, "stops after three validations in a row that were no better"))

    def beta(self) -> float:
        """What straying from the base costs."""
        if self._method not in ("dpo", "reinforcement"):
            return 0.0
        if self._hyperparameters.beta is not None:
            self._reasons["beta"] = "as given"
            return self._hyperparameters.beta
        if self._method == "dpo":
            self._reasons["beta"] = "as in the paper (Rafailov et al. 2023)"
            return 0.1
        self._reasons["beta"] = "a light hold on the base, so that rewards are not won by nonsense"
        return 0.04
