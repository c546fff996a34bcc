"""Chooses the recipe for a model, its examples and a machine. Pure: the same input gives the same recipe."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final, Literal, Protocol, TypeAlias, cast

from portico_server.core.base_models import BaseModel, Device, TrainingMachine
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.finetune.questions import TRAINED_NEGATIVE_COUNT
from portico_server.finetune.spec import (
    RETRIEVAL_METHODS,
    DataFacts,
    Hyperparameters,
    Method,
    TrainingRecipe,
    check_overrides,
)

# How much memory and time training takes, before it is begun. Pure; a probe step of the trainer has the last word.
#
# Activations after Korthikanti et al. 2022 (arXiv 2205.05198), states of the optimiser after Rajbhandari et al. 2019
# (ZeRO, arXiv 1910.02054). Checked against SmolLM2-135M on two cores: 2.1 GB and 1.85 s a step were measured where
# this says 1.8 GB and 1.8 s (LoRA, rank 8, batches of four).


Kind: TypeAlias = Literal["lora", "qlora", "full"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Sharding: TypeAlias = Literal["none", "ddp", "zero2", "zero3", "fsdp", "tensor"]

GB: Final = 1024**3

SEQUENCES: Final[Mapping[Method, int]] = {
    "dpo": 2,
    "embedding": 2 + TRAINED_NEGATIVE_COUNT,
    "rerank": 1 + TRAINED_NEGATIVE_COUNT,
}
"""Sequences that an example is, where it is more than one."""

BYTES_PER_NUMBER: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""

PROCESS_BYTES: Final = {"cpu": int(0.8 * GB), "cuda": int(1.5 * GB)}
"""What the libraries take before a model is there."""

LORA_WIDTH_FACTOR: Final = 18
"""Inputs and outputs of the seven linear layers of a block, in hidden sizes."""

_CORE_FLOPS: Final = 35e9
"""Of one core in 32 bits, as measured in training."""

_GPU_FLOPS: Final = ((10.0, 900e12), (9.0, 400e12), (8.9, 60e12), (8.6, 40e12), (8.0, 125e12), (7.0, 35e12))
"""What training gets of a GPU from a compute capability on: about two fifths of what its maker says."""


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The settings that decide on memory. ``completion`` is 0 unless the model writes during training."""

    method: Method
    kind: Kind
    rank: int
    precision: Precision
    device: Literal["cpu", "cuda"]
    sharding: Sharding
    processes: int
    micro_batch: int
    length: int
    checkpointing: bool
    small_states: bool = False
    completion: int = 0
    tensor_parallel: int = 1

    @property
    def replicas(self) -> int:
        """How many copies of the model learn from examples of their own."""
        return self.processes // self.tensor_parallel


def trainable_parameters(base: BaseModel, setup: TrainingSetup) -> int:
    """How many numbers are trained."""
    if setup.kind == "full":
        return base.parameters
    return base.layers * setup.rank * LORA_WIDTH_FACTOR * base.hidden


def weight_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of the weights on one device."""
    width = BYTES_PER_NUMBER[setup.precision]
    if setup.kind == "qlora":
        # Four bits, half a bit of scales, and the embeddings as they were.
        embeddings = base.vocabulary * base.hidden
        size = int((base.parameters - min(embeddings, base.parameters)) * 0.56) + embeddings * 2
    else:
        size = base.parameters * width
    if setup.kind == "full" and width < 4:
        size = base.parameters * (4 + width)  # trained in 32 bits, and a copy in 16 to compute with
    if setup.kind == "full" and setup.method in ("dpo", "reinforcement"):
        size *= 2  # the base beside it, to be compared with
    return size // setup.processes if setup.sharding in ("zero3", "fsdp", "tensor") else size


def state_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of gradients and optimiser, on one device."""
    count = trainable_parameters(base, setup)
    own = 0 if setup.kind == "full" else 4  # the adapter's own numbers are not among the weights
    gradient = 4
    size = count * (own + gradient + (2 if setup.small_states else 8))
    return size // setup.processes if setup.sharding in ("zero2", "zero3", "fsdp", "tensor") else size


def activation_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of what one micro batch leaves for the way back, its logits, and the cache of what is written."""
    width = BYTES_PER_NUMBER[setup.precision]
    sequences = setup.micro_batch * SEQUENCES.get(setup.method, 1)
    tokens = sequences * setup.length
    layer = 17 * width * base.hidden
    kept = (width * base.hidden * base.layers + layer) if setup.checkpointing else layer * base.layers
    # Logits in the model's numbers, in 32 bits, and their gradient; TRL cuts those of written answers to pieces.
    logits = 0 if setup.method in RETRIEVAL_METHODS else base.vocabulary * (4 + 4 + width)
    cache = 2 * base.hidden * base.layers * width if setup.completion else 0
    gathered = 0
    if setup.sharding in ("zero3", "fsdp"):
        gathered = 2 * base.parameters * width // max(base.layers, 1)
    return tokens * (kept + logits + cache) + gathered


def memory_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes on each device, or of the machine's memory if there is none."""
    return (
        PROCESS_BYTES[setup.device]
        + weight_bytes(base, setup)
        + state_bytes(base, setup)
        + activation_bytes(base, setup)
    )


def disk_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes that the base as safetensors, three checkpoints and the result take."""
    unpacked = base.parameters * 2 if base.format == "gguf" else 0
    checkpoint = trainable_parameters(base, setup) * (4 + (2 if setup.small_states else 8))
    return unpacked + 4 * checkpoint + GB // 8


def training_flops(cores: int, devices: tuple[Device, ...], processes: int) -> float:
    """Operations a second that training gets, of all ``processes`` together; ``devices`` are those it is on."""
    if not devices:
        return cores * _CORE_FLOPS
    slowest = min(device.capability for device in devices)
    return next((speed for since, speed in _GPU_FLOPS if slowest >= since), 20e12) * processes


def training_seconds(base: BaseModel, setup: TrainingSetup, tokens: int, speed: float) -> float:
    """How long ``tokens`` take at ``speed`` operations a second."""
    per_token = 6.0 if setup.kind == "full" else 4.0
    per_token += 2.0 if setup.checkpointing else 0.0
    per_token *= 1.6 if setup.method in ("dpo", "reinforcement") else 1.0
    if setup.completion:
        per_token += 10.0  # written one token after another, which a machine does worse than reading
    return tokens * base.parameters * per_token / speed


# How a model learns: batch, rank, times through the data, learning rate and what belongs to it. Pure.


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
                (size for most, size in ((100, 4), (1_000, 8), (10_000, 16), (100_000, 32)) if count <= most),
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
        rank = next((rank for most, rank in ((200, 8), (5_000, 16), (50_000, 32)) if count <= most), 64)
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
        rate = next((rate for most, rate in steps if size <= most), 1e-4 if kind != "full" else 5e-6)
        rate *= {"supervised": 1.0, "dpo": 0.1, "reinforcement": 0.1, "embedding": 0.2, "rerank": 0.2}[
            self._method
        ]
        more = self._hyperparameters.learning_rate_multiplier
        why = f"for {'an adapter' if kind != 'full' else 'all weights'} of a model of {size:.2g} billion parameters"
        if self._method in RETRIEVAL_METHODS:
            why += ", a fifth of what examples of answers get"
        elif self._method != "supervised":
            why += ", a tenth of what examples get"
        if more is not None:
            why += f", times {more:g} as given"
        return float(self._note("learning_rate", rate * (more or 1.0), why))

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


MEMORY_SHARE: Final = {"cuda": 0.9, "cpu": 0.75}
"""The part of a GPU's memory, or of the machine's free memory, that a recipe may count on."""

ASSUMED_GPU_GB: Final = 24
"""Memory that a GPU of a node is taken to have where the daemon's machine has none to look at."""

ASSUMED_CAPABILITY_LEVEL: Final = 8.0
"""Compute capability of such a GPU."""

MAX_COMPLETION_TOKENS: Final = 512
"""Tokens that a model may write for an answer that is graded, where nothing else is said."""

AUTO: Final = Hyperparameters()
"""Everything is left to the recipe."""


def choose_recipe(
    base: BaseModel,
    data: DataFacts,
    machine: TrainingMachine,
    method: Method,
    hyperparameters: Hyperparameters = AUTO,
    given: Mapping[str, Any] | None = None,
    *,
    seed: int = 42,
    packages: Collection[str] = (),
    resources: Mapping[str, Any] | None = None,
) -> TrainingRecipe:
    """The settings for training ``base``, each with its reason. ``packages`` are the optional ones that the trainer
    has: bitsandbytes, deepspeed, flash_attn. ``resources`` are what a scheduler is asked for: its ``nodes``, each with
    so many ``gpus``.

    Raises `InvalidRequest`: an override that is none (``param`` names it), or ``memory_insufficient`` with the
    smallest recipe and what it would take.
    """
    given = given or {}
    check_overrides(given)
    asked = resources or {}
    nodes, wanted = max(1, int(asked.get("nodes", 0))), int(asked.get("gpus", 0))
    if wanted and given.get("device") == "cuda" and not machine.devices:
        # Nobody knows a node before a job runs there.
        name = f"{asked.get('gpu_type') or 'GPU'} of a node, taken to have {ASSUMED_GPU_GB} GB"
        gpu = Device(name, ASSUMED_GPU_GB * GB, ASSUMED_CAPABILITY_LEVEL)
        machine = replace(machine, devices=(gpu,) * wanted)
    elif wanted and machine.devices:
        machine = replace(machine, devices=(machine.devices * wanted)[:wanted])
    choice = _Choice(base, data, machine, method, hyperparameters, given, seed, frozenset(packages), nodes)
    return choice.recipe()


class _Choice:
    """One choice. Each step adds its reasons."""

    def __init__(
        self,
        base: BaseModel,
        data: DataFacts,
        machine: TrainingMachine,
        method: Method,
        hyperparameters: Hyperparameters,
        given: Mapping[str, Any],
        seed: int,
        packages: frozenset[str],
        nodes: int,
    ) -> None:
        self.nodes = nodes
        self.base, self.data, self.machine, self.method = base, data, machine, method
        self.hyperparameters, self.given, self.seed, self.packages = hyperparameters, given, seed, packages
        self.reasons: dict[str, str] = {}
        on_gpu = self._note(
            "device",
            "cuda" if machine.devices else "cpu",
            f"{len(machine.devices)} × {machine.devices[0].name}"
            if machine.devices
            else "there is no GPU here",
        )
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu == "cuda" else "cpu"
        if self.device == "cuda" and not machine.devices:
            raise InvalidRequest(
                "There is no GPU on this machine; leave out 'device', or ask a scheduler for GPUs with 'resources'.",
                param="overrides.device",
            )
        self.devices: tuple[Device, ...] = machine.devices if self.device == "cuda" else ()
        self.capability = min((device.capability for device in self.devices), default=0.0)

        self.learning = LearningSettings(
            base, data, method, hyperparameters, self.device, self.reasons, self._note
        )

    def _note(self, name: str, value: Any, reason: str) -> Any:
        """The value, or what was given in its place; notes why."""
        if name in self.given:
            self.reasons[name] = "as given"
            return self.given[name]
        self.reasons[name] = reason
        return value

    def recipe(self) -> TrainingRecipe:
        precision = self._precision()
        length, completion, group = self._length()
        target = self.learning.batch(group)
        budget = self._budget()
        rank = self.learning.rank()
        setup = self._fit(precision, length, completion, rank, target, budget)
        micro, accumulation = self._micro(setup, target, budget, group)
        setup = replace(setup, micro_batch=micro)
        epochs = self.learning.epochs()
        batch = micro * accumulation * setup.replicas
        prompts = max(1, batch // group)
        per_epoch = math.ceil(self.data.examples / prompts)
        steps = max(1, per_epoch * epochs)
        tokens = self.data.tokens * epochs
        if completion:
            tokens = steps * batch * min(length, self.data.typical + completion)
        self.reasons["steps"] = (
            f"{self.data.examples:,} examples, {prompts} in a step, {epochs} times through"
        )
        speed = training_flops(self.machine.cores, self.devices, setup.processes)
        return TrainingRecipe(
            kind=setup.kind,
            rank=rank,
            alpha=self._note("alpha", 2 * rank, "twice the rank, as is usual"),
            dropout=float(self._note("dropout", 0.0, "held-out examples guard against learning by heart")),
            precision=precision,
            device=self.device,
            processes=setup.processes,
            sharding=setup.sharding,
            micro_batch=micro,
            accumulation=accumulation,
            max_length=length,
            packing=self._packing(length),
            checkpointing=setup.checkpointing,
            attention=self._attention(),
            optimiser=self._optimiser(setup),
            learning_rate=self.learning.rate(setup.kind),
            schedule=self.learning.schedule(),
            warmup=self.learning.warmup(steps),
            weight_decay=self.learning.decay(setup.kind),
            epochs=epochs,
            steps=steps,
            eval_interval=self.learning.interval(steps),
            patience=self.learning.patience(),
            beta=self.learning.beta(),
            group=group if self.method == "reinforcement" else 1,
            completion=completion,
            threads=self._note("threads", self.machine.cores, "all cores, at the lowest priority"),
            seed=self.seed,
            memory_bytes=memory_need(self.base, setup),
            disk_bytes=disk_need(self.base, setup),
            seconds=training_seconds(self.base, setup, tokens, speed),
            reasons=self.reasons,
            nodes=self.nodes,
            tensor_parallel=setup.tensor_parallel,
        )

    # --- what the machine decides ------------------------------------------------------------------------------

    def _precision(self) -> Precision:
        value: Precision
        if self.device == "cpu":
            value, why = "float32", "processors compute in 32 bits faster than in 16"
        elif self.capability >= 8.0:
            value, why = "bfloat16", "this GPU has it, and its range is that of 32 bits"
        else:
            value, why = "float16", f"compute capability {self.capability:g} has no bfloat16"
        return cast("Precision", self._note("precision", value, why))

    def _budget(self) -> int:
        if self.devices:
            return int(min(device.memory_bytes for device in self.devices) * MEMORY_SHARE["cuda"])
        return int(self.machine.free_bytes * MEMORY_SHARE["cpu"])

    def _ways(self) -> Iterator[tuple[Kind, Sharding, int, str]]:
        """What could be done, the best first: kind, how it is spread, over how many devices, and why."""
        count = max(1, len(self.devices)) * self.nodes
        many: Sharding = "zero3" if "deepspeed" in self.packages else "fsdp"
        kinds: list[Kind] = ["lora", "qlora"]
        if self.method in RETRIEVAL_METHODS:
            kinds = ["full", "lora"]
        if "kind" in self.given:
            kinds = [cast("Kind", self.given["kind"])]
        if "qlora" in kinds and not self._four_bits():
            if "kind" in self.given:
                raise InvalidRequest(
                    "'qlora' needs an NVIDIA GPU from compute capability 7.0 on, and bitsandbytes. Leave out 'kind'.",
                    param="overrides.kind",
                )
            kinds.remove("qlora")
        for kind in kinds:
            if count < 2:
                yield kind, "none", 1, "one device"
                continue
            yield kind, "ddp", count, "it fits on each GPU: each trains its share of the examples"
            if kind == "full" and "deepspeed" in self.packages:
                yield kind, "zero2", count, "the optimiser does not fit on one GPU: it is spread over all"
            yield kind, "fsdp" if kind == "qlora" else many, count, "it does not fit on one GPU: it is cut up"

    def _four_bits(self) -> bool:
        return self.device == "cuda" and self.capability >= 7.0 and "bitsandbytes" in self.packages

    def _fit(
        self, precision: Precision, length: int, completion: int, rank: int, target: int, budget: int
    ) -> TrainingSetup:
        """The first way that has room for one example at least; see `_checkpointing`."""
        smallest: TrainingSetup | None = None
        for kind, sharding, count, why in self._ways():
            setup = TrainingSetup(
                method=self.method,
                kind=kind,
                rank=rank,
                precision=precision,
                device=self.device,
                sharding=cast("Sharding", self.given.get("sharding", sharding)),
                processes=int(self.given.get("processes", count)),
                micro_batch=1,
                length=length,
                checkpointing=True,
                small_states=self._small_states(kind),
                completion=completion,
                tensor_parallel=int(self.given.get("tensor_parallel", 1)),
            )
            if setup.tensor_parallel > 1:
                setup, why = replace(setup, sharding="tensor"), "each layer is cut up over several GPUs"
            self._check_spread(setup)
            if smallest is None or memory_need(self.base, setup) < memory_need(self.base, smallest):
                smallest = setup
            if memory_need(self.base, setup) > budget:
                continue
            self._explain(setup, why)
            return self._checkpointing(setup, target, budget)
        assert smallest is not None
        raise self._too_large(smallest, budget)

    def _check_spread(self, setup: TrainingSetup) -> None:
        """Raise `InvalidRequest` if the processes cannot be divided so."""
        each, rest = divmod(setup.processes, self.nodes)
        if rest:
            raise InvalidRequest(
                f"{setup.processes} processes cannot be divided among {self.nodes} nodes.",
                param="overrides.processes",
            )
        parts = setup.tensor_parallel
        if parts == 1:
            return
        why = ""
        if self.device == "cpu":
            why = "layers are cut up over GPUs alone"
        elif each % parts:
            why = f"{each} processes of a node cannot be divided into groups of {parts}"
        elif setup.kind != "full" or self.method != "supervised":
            why = "layers are cut up where all weights are trained on examples: 'kind' full, the method 'supervised'"
        elif "sharding" in self.given:
            why = "it says how the model is cut up; leave out 'sharding'"
        if why:
            raise InvalidRequest(
                f"'tensor_parallel' cannot be {parts}: {why}.", param="overrides.tensor_parallel"
            )

    def _explain(self, setup: TrainingSetup, why: str) -> None:
        full = memory_need(self.base, replace(setup, kind="full", small_states=False))
        reason = {
            "lora": "an adapter is served beside the base within seconds, and training all weights would take "
            f"{_gb(full)}",
            "qlora": "the weights in 16 bits do not fit; in four bits they do",
            "full": "as asked for",
        }[setup.kind]
        if self.method in RETRIEVAL_METHODS:
            reason = {
                "full": "models for search are small: all weights fit",
                "lora": "all weights do not fit; the adapter becomes a part of the model",
            }[setup.kind]
        self._note("kind", setup.kind, reason)
        self._note("sharding", setup.sharding, why)
        self._note("processes", setup.processes, "one for each GPU" if self.devices else "one uses all cores")
        self.reasons["nodes"] = "as 'resources' ask for" if self.nodes > 1 else "'resources' ask for no more"
        parts = f"as given; {setup.replicas} replicas learn from examples of their own"
        self.reasons["tensor_parallel"] = parts if setup.tensor_parallel > 1 else "each layer is whole"

    def _checkpointing(self, setup: TrainingSetup, target: int, budget: int) -> TrainingSetup:
        # A processor gains nothing from many examples at once; a GPU does, up to a point.
        half = 1 if self.device == "cpu" else max(1, target // setup.replicas // 2)
        roomy = replace(setup, checkpointing=False, micro_batch=half)
        needed = memory_need(self.base, roomy) > budget
        why = (
            "there is room to keep what each layer computed, which is a third faster"
            if not needed
            else "what each layer computed is computed again on the way back, to save memory"
        )
        return replace(setup, checkpointing=bool(self._note("checkpointing", needed, why)))

    def _too_large(self, setup: TrainingSetup, budget: int) -> InvalidRequest:
        kind = {"lora": "an adapter", "qlora": "an adapter on weights in four bits", "full": "all weights"}
        where = "on each GPU" if self.devices else "of this machine's memory"
        takes = _gb(memory_need(self.base, setup))
        return InvalidRequest(
            f"There is not enough memory to train '{self.base.name}'. The smallest recipe ({kind[setup.kind]}, one "
            f"example of {setup.length:,} tokens at a time, rank {setup.rank}) takes {takes} "
            f"{where}, and {_gb(budget)} may be used. Choose a smaller model, shorten the examples with 'max_length'"
            + (", or unload models." if not self.devices else ", or use more GPUs."),
            code="memory_insufficient",
            param="model",
        )

    def _small_states(self, kind: Kind) -> bool:
        return self._optimiser_for(kind) != "adamw_torch"

    def _optimiser_for(self, kind: Kind) -> str:
        if "optimiser" in self.given:
            return str(self.given["optimiser"])
        if kind == "lora" or not self._four_bits():
            return "adamw_torch"
        return "paged_adamw_8bit" if kind == "qlora" else "adamw_8bit"

    def _optimiser(self, setup: TrainingSetup) -> Any:
        found = self._optimiser_for(setup.kind)
        why = {
            "adamw_torch": "the adapter's state is small",
            "adamw_8bit": "two bytes of state for each weight in place of eight",
            "paged_adamw_8bit": "its state can leave a GPU that is full",
        }
        reason = why[found]
        if found == "adamw_torch" and setup.kind == "full":
            reason = "bitsandbytes is not here, so the state has 32 bits"
        return self._note("optimiser", found, reason)

    def _attention(self) -> Any:
        if self._flash():
            return self._note("attention", "flash_attention_2", "it is installed, and this GPU has it")
        return self._note("attention", "sdpa", "PyTorch's own, which picks the best kernel of this machine")

    def _flash(self) -> bool:
        return self.device == "cuda" and self.capability >= 8.0 and "flash_attn" in self.packages

    # --- what the data decides ---------------------------------------------------------------------------------

    def _length(self) -> tuple[int, int, int]:
        """Tokens of an example, tokens that are written, and answers to a prompt."""
        completion, group = 0, 1
        longest = self.data.longest
        if self.method == "reinforcement":
            most = MAX_COMPLETION_TOKENS if self.device == "cuda" else 64
            free_tokens = (self.base.longest or longest + most) - longest
            completion = int(
                self._note("completion", max(1, min(most, free_tokens)), "enough for a short answer")
            )
            few = 4 if self.device == "cpu" else 8
            more = self.hyperparameters.compute_multiplier or 1.0
            group = int(
                self._note(
                    "group",
                    max(2, round(few * more)),
                    "answers are graded against each other: more of them say more and cost more",
                )
            )
            longest += completion
        limit = self.base.longest or longest
        length = max(16, min(limit, -(-longest // 8) * 8))
        why = (
            "the longest example fits"
            if longest <= limit
            else f"the model was made for {limit:,} tokens; longer examples are cut"
        )
        return int(self._note("max_length", length, why)), completion, group

    def _micro(self, setup: TrainingSetup, target: int, budget: int, group: int) -> tuple[int, int]:
        """Sequences at once on a device, and how many times before a step."""
        share = max(1, math.ceil(target / setup.replicas))
        # All answers to a prompt must be in one step.
        unit = group // math.gcd(group, setup.replicas)
        share = -(-share // unit) * unit
        fitting = [
            size
            for size in range(1, share + 1)
            if share % size == 0 and memory_need(self.base, replace(setup, micro_batch=size)) <= budget
        ]
        micro = max(fitting, default=1)
        micro = int(self._note("micro_batch", micro, self._why_micro(setup, micro, share, budget)))
        accumulation = max(1, math.ceil(share / micro))
        while micro * accumulation * setup.replicas % group:
            accumulation += 1
        self.reasons["accumulation"] = (
            "the whole batch fits at once" if accumulation == 1 else f"so that {share} count as one step"
        )
        return micro, accumulation

    def _why_micro(self, setup: TrainingSetup, micro: int, share: int, budget: int) -> str:
        takes = memory_need(self.base, replace(setup, micro_batch=micro))
        most = "all of a batch" if micro == share else "as many as fit"
        return f"{most}: {_gb(takes)} of {_gb(budget)}"

    def _packing(self, length: int) -> bool:
        if self.method != "supervised":
            return bool(self._note("packing", False, "only whole conversations can be compared"))
        if not self._flash():
            return bool(
                self._note(
                    "packing", False, "without flash attention examples in one row would see each other"
                )
            )
        useful = self.data.examples >= 1_000 and self.data.typical * 2 < length
        why = (
            "most examples are short: several share a row" if useful else "examples are of one length, or few"
        )
        return bool(self._note("packing", useful, why))


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
