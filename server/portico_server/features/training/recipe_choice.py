"""Chooses the recipe for a model, its examples and a machine. Pure: the same input always gives the same recipe."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from portico_server.core.base_models import BaseModel, Device, TrainingMachine
from portico_server.core.errors import InvalidRequest
from portico_server.features.training.learning import LearningSettings
from portico_server.features.training.recipe_settings import check_overrides
from portico_server.features.training.spec import (
    RETRIEVAL_METHODS,
    DataFacts,
    Hyperparameters,
    Method,
    TrainingRecipe,
)
from portico_server.features.training.training_cost import (
    GB,
    Kind,
    Precision,
    Sharding,
    TrainingSetup,
    disk_need,
    memory_need,
    training_flops,
    training_seconds,
)

# Estimates of the memory and time of a training before it starts. Pure; a trial step of the trainer makes the
# final decision. Activations follow Korthikanti et al. 2022 (arXiv 2205.05198), optimiser states Rajbhandari
# et al. 2019 (ZeRO, arXiv 1910.02054). Checked against SmolLM2-135M on two cores (LoRA, rank 8, batches of
# four): 2.1 GB and 1.85 s per step measured, 1.8 GB and 1.8 s estimated.


MEMORY_SHARE: Final = {"cuda": 0.9, "cpu": 0.75}
"""Share of a GPU's memory, or of the machine's free memory, that a recipe may use."""

ASSUMED_GPU_GB: Final = 24
"""Assumed memory of a GPU on a cluster node, in GB, if the daemon's machine has no GPU to inspect."""

ASSUMED_CAPABILITY_LEVEL: Final = 8.0
"""Assumed compute capability of a GPU on a cluster node."""

MAX_COMPLETION_TOKENS: Final = 512
"""Default maximum length of a graded answer, in tokens."""

AUTO: Final = Hyperparameters()
"""Hyperparameters that leave every setting to the recipe."""


def choose_recipe(
    base: BaseModel,
    data: DataFacts,
    machine: TrainingMachine,
    method: Method,
    hyperparameters: Hyperparameters = AUTO,
    overrides: Mapping[str, Any] | None = None,
    *,
    seed: int = 42,
    packages: Collection[str] = (),
    resources: Mapping[str, Any] | None = None,
) -> TrainingRecipe:
    """Return the settings for training ``base``, each with its reason.

    ``packages`` are the optional packages available to the trainer: bitsandbytes, deepspeed, flash_attn. ``resources``
    are the resources requested from a scheduler, such as ``nodes`` and ``gpus`` per node.

    Raises `InvalidRequest` for an invalid override (``param`` names it). If memory does not suffice, the error has the
    code ``memory_insufficient`` and names the smallest recipe and the memory it needs.
    """
    overrides = overrides or {}
    check_overrides(overrides)
    requested_resources = resources or {}
    nodes, gpu_count = (
        max(1, int(requested_resources.get("nodes", 0))),
        int(requested_resources.get("gpus", 0)),
    )
    if gpu_count and overrides.get("device") == "cuda" and not machine.devices:
        # The hardware of a cluster node is unknown until a job runs on it.
        name = (
            f"{requested_resources.get('gpu_type') or 'GPU'} of a cluster node, assumed to have "
            f"{ASSUMED_GPU_GB} GB"
        )
        gpu = Device(name, ASSUMED_GPU_GB * GB, ASSUMED_CAPABILITY_LEVEL)
        machine = replace(machine, devices=(gpu,) * gpu_count)
    elif gpu_count and machine.devices:
        machine = replace(machine, devices=(machine.devices * gpu_count)[:gpu_count])
    choice = _Choice(
        base, data, machine, method, hyperparameters, overrides, seed, frozenset(packages), nodes
    )
    return choice.recipe()


class _Choice:
    """The state while a recipe is being chosen. Each step records the reasons for its settings."""

    def __init__(
        self,
        base: BaseModel,
        data: DataFacts,
        machine: TrainingMachine,
        method: Method,
        hyperparameters: Hyperparameters,
        overrides: Mapping[str, Any],
        seed: int,
        packages: frozenset[str],
        nodes: int,
    ) -> None:
        self.nodes = nodes
        self.base, self.data, self.machine, self.method = base, data, machine, method
        self.hyperparameters, self.given, self.seed, self.packages = (
            hyperparameters,
            overrides,
            seed,
            packages,
        )
        self.reasons: dict[str, str] = {}
        on_gpu = self._note(
            "device",
            "cuda" if machine.devices else "cpu",
            f"{len(machine.devices)} × {machine.devices[0].name}"
            if machine.devices
            else "this machine has no GPU",
        )
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu == "cuda" else "cpu"
        if self.device == "cuda" and not machine.devices:
            raise InvalidRequest(
                "This machine has no GPU. Omit 'device', or request GPUs from a scheduler with 'resources'.",
                param="overrides.device",
            )
        self.devices: tuple[Device, ...] = machine.devices if self.device == "cuda" else ()
        self.capability = min((device.capability for device in self.devices), default=0.0)

        self.learning = LearningSettings(
            base, data, method, hyperparameters, self.device, self.reasons, self._note
        )

    def _note(self, name: str, value: Any, reason: str) -> Any:
        """Return the value or its override, and record the reason."""
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
        self.reasons["steps"] = f"{self.data.examples:,} examples, {prompts} per step, {epochs} epochs"
        speed = training_flops(self.machine.cores, self.devices, setup.processes)
        return TrainingRecipe(
            kind=setup.kind,
            rank=rank,
            alpha=self._note("alpha", 2 * rank, "twice the rank, as is common"),
            dropout=float(self._note("dropout", 0.0, "held-out examples guard against overfitting")),
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

    def _precision(self) -> Precision:
        value: Precision
        if self.device == "cpu":
            value, reason = "float32", "CPUs compute faster in 32 bits than in 16"
        elif self.capability >= 8.0:
            value, reason = "bfloat16", "this GPU supports it, and its range equals that of 32 bits"
        else:
            value, reason = "float16", f"compute capability {self.capability:g} does not support bfloat16"
        return cast("Precision", self._note("precision", value, reason))

    def _budget(self) -> int:
        if self.devices:
            return int(min(device.memory_bytes for device in self.devices) * MEMORY_SHARE["cuda"])
        return int(self.machine.free_bytes * MEMORY_SHARE["cpu"])

    def _ways(self) -> Iterator[tuple[Kind, Sharding, int, str]]:
        """Yield the possible setups, best first, as (kind, sharding, number of devices, reason)."""
        count = max(1, len(self.devices)) * self.nodes
        full_sharding: Sharding = "zero3" if "deepspeed" in self.packages else "fsdp"
        kinds: list[Kind] = ["lora", "qlora"]
        if self.method in RETRIEVAL_METHODS:
            kinds = ["full", "lora"]
        if "kind" in self.given:
            kinds = [cast("Kind", self.given["kind"])]
        if "qlora" in kinds and not self._four_bits():
            if "kind" in self.given:
                raise InvalidRequest(
                    "'qlora' needs an NVIDIA GPU with compute capability 7.0 or higher, and bitsandbytes. "
                    "Omit 'kind'.",
                    param="overrides.kind",
                )
            kinds.remove("qlora")
        for kind in kinds:
            if count < 2:
                yield kind, "none", 1, "one device"
                continue
            yield (
                kind,
                "ddp",
                count,
                "the model fits on each GPU, so each GPU trains on its share of the examples",
            )
            if kind == "full" and "deepspeed" in self.packages:
                yield (
                    kind,
                    "zero2",
                    count,
                    "the optimiser state does not fit on one GPU, so it is sharded across all GPUs",
                )
            yield (
                kind,
                "fsdp" if kind == "qlora" else full_sharding,
                count,
                "the model does not fit on one GPU, so it is sharded",
            )

    def _four_bits(self) -> bool:
        return self.device == "cuda" and self.capability >= 7.0 and "bitsandbytes" in self.packages

    def _fit(
        self, precision: Precision, length: int, completion: int, rank: int, target: int, budget: int
    ) -> TrainingSetup:
        """Return the first setup with enough memory for at least one example; see `_checkpointing`."""
        smallest: TrainingSetup | None = None
        for kind, sharding, count, reason in self._ways():
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
                setup, reason = replace(setup, sharding="tensor"), "each layer is split across several GPUs"
            self._check_spread(setup)
            if smallest is None or memory_need(self.base, setup) < memory_need(self.base, smallest):
                smallest = setup
            if memory_need(self.base, setup) > budget:
                continue
            self._explain(setup, reason)
            return self._checkpointing(setup, target, budget)
        assert smallest is not None
        raise self._too_large(smallest, budget)

    def _check_spread(self, setup: TrainingSetup) -> None:
        """Raise `InvalidRequest` if the processes cannot be divided as the setup requires."""
        per_node, remainder = divmod(setup.processes, self.nodes)
        if remainder:
            raise InvalidRequest(
                f"{setup.processes} processes cannot be divided among {self.nodes} nodes.",
                param="overrides.processes",
            )
        parts = setup.tensor_parallel
        if parts == 1:
            return
        problem = ""
        if self.device == "cpu":
            problem = "layers can be split only across GPUs"
        elif per_node % parts:
            problem = f"the {per_node} processes of a node cannot be divided into groups of {parts}"
        elif setup.kind != "full" or self.method != "supervised":
            problem = "splitting layers requires 'kind' full and the method 'supervised'"
        elif "sharding" in self.given:
            problem = "'tensor_parallel' already determines how the model is split; omit 'sharding'"
        if problem:
            raise InvalidRequest(
                f"'tensor_parallel' cannot be {parts}: {problem}.", param="overrides.tensor_parallel"
            )

    def _explain(self, setup: TrainingSetup, why: str) -> None:
        full = memory_need(self.base, replace(setup, kind="full", small_states=False))
        reason = {
            "lora": "an adapter is served together with the base model within seconds, and training all weights "
            f"would need {_gb(full)}",
            "qlora": "the weights do not fit in 16 bits but fit in 4 bits",
            "full": "as requested",
        }[setup.kind]
        if self.method in RETRIEVAL_METHODS:
            reason = {
                "full": "search models are small, so all weights fit",
                "lora": "not all weights fit; the adapter is merged into the model",
            }[setup.kind]
        self._note("kind", setup.kind, reason)
        self._note("sharding", setup.sharding, why)
        self._note(
            "processes", setup.processes, "one per GPU" if self.devices else "one process uses all cores"
        )
        self.reasons["nodes"] = (
            "as requested by 'resources'" if self.nodes > 1 else "'resources' request only one"
        )
        parts = f"as given; {setup.replicas} replicas train on different examples"
        self.reasons["tensor_parallel"] = parts if setup.tensor_parallel > 1 else "layers are not split"

    def _checkpointing(self, setup: TrainingSetup, target: int, budget: int) -> TrainingSetup:
        # A CPU gains nothing from larger batches. A GPU gains speed up to a certain size.
        half = 1 if self.device == "cpu" else max(1, target // setup.replicas // 2)
        roomy = replace(setup, checkpointing=False, micro_batch=half)
        is_needed = memory_need(self.base, roomy) > budget
        reason = (
            "memory suffices to keep the activations of each layer, which is a third faster"
            if not is_needed
            else "the activations of each layer are recomputed in the backward pass to save memory"
        )
        return replace(setup, checkpointing=bool(self._note("checkpointing", is_needed, reason)))

    def _too_large(self, setup: TrainingSetup, budget: int) -> InvalidRequest:
        kind = {"lora": "an adapter", "qlora": "an adapter on four-bit weights", "full": "all weights"}
        place = "on each GPU" if self.devices else "of this machine's memory"
        takes = _gb(memory_need(self.base, setup))
        return InvalidRequest(
            f"There is not enough memory to train '{self.base.name}'. The smallest recipe "
            f"({kind[setup.kind]}, one example of {setup.length:,} tokens at a time, rank {setup.rank}) "
            f"needs {takes} {place}, but only {_gb(budget)} may be used. Choose a smaller model, shorten the "
            "examples with 'max_length'"
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
        optimiser = self._optimiser_for(setup.kind)
        reasons = {
            "adamw_torch": "the optimiser state of an adapter is small",
            "adamw_8bit": "two bytes of state per weight instead of eight",
            "paged_adamw_8bit": "the optimiser state can be moved out of a full GPU",
        }
        reason = reasons[optimiser]
        if optimiser == "adamw_torch" and setup.kind == "full":
            reason = "bitsandbytes is not installed, so the optimiser state uses 32 bits"
        return self._note("optimiser", optimiser, reason)

    def _attention(self) -> Any:
        if self._flash():
            return self._note(
                "attention", "flash_attention_2", "flash-attn is installed, and this GPU supports it"
            )
        return self._note(
            "attention",
            "sdpa",
            "PyTorch's built-in attention, which selects the best kernel for this machine",
        )

    def _flash(self) -> bool:
        return self.device == "cuda" and self.capability >= 8.0 and "flash_attn" in self.packages

    def _length(self) -> tuple[int, int, int]:
        """Return the maximum tokens of an example, the maximum tokens of an answer, and the number of answers per
        prompt.
        """
        completion, group = 0, 1
        longest = self.data.longest
        if self.method == "reinforcement":
            max_completion = MAX_COMPLETION_TOKENS if self.device == "cuda" else 64
            free_tokens = (self.base.longest or longest + max_completion) - longest
            completion = int(
                self._note(
                    "completion", max(1, min(max_completion, free_tokens)), "enough for a short answer"
                )
            )
            batch_examples = 4 if self.device == "cpu" else 8
            multiplier = self.hyperparameters.compute_multiplier or 1.0
            group = int(
                self._note(
                    "group",
                    max(2, round(batch_examples * multiplier)),
                    "answers are graded against each other: more answers give more information and cost more",
                )
            )
            longest += completion
        limit = self.base.longest or longest
        length = max(16, min(limit, -(-longest // 8) * 8))
        reason = (
            "the longest example fits"
            if longest <= limit
            else f"the model was made for {limit:,} tokens; longer examples are truncated"
        )
        return int(self._note("max_length", length, reason)), completion, group

    def _micro(self, setup: TrainingSetup, target: int, budget: int, group: int) -> tuple[int, int]:
        """Return the number of sequences that a device processes at a time, and the number of accumulation steps."""
        share = max(1, math.ceil(target / setup.replicas))
        # All answers to a prompt must belong to the same step.
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
            "the whole batch fits into memory"
            if accumulation == 1
            else f"so that {share} sequences per replica form one step"
        )
        return micro, accumulation

    def _why_micro(self, setup: TrainingSetup, micro: int, share: int, budget: int) -> str:
        takes = memory_need(self.base, replace(setup, micro_batch=micro))
        batch_share = "the whole batch" if micro == share else "as many as fit"
        return f"{batch_share}: {_gb(takes)} of {_gb(budget)}"

    def _packing(self, length: int) -> bool:
        if self.method != "supervised":
            return bool(
                self._note("packing", False, "only whole conversations can be compared with each other")
            )
        if not self._flash():
            return bool(
                self._note(
                    "packing",
                    False,
                    "without flash attention, examples in the same row would influence each other",
                )
            )
        useful = self.data.examples >= 1_000 and self.data.typical * 2 < length
        reason = (
            "most examples are short, so several share a row"
            if useful
            else "the examples have similar lengths, or there are only a few"
        )
        return bool(self._note("packing", useful, reason))


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
