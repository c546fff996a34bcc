"""Which recipe suits a model, its examples and a machine. Pure: the same questions get the same answers."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, Literal, cast

from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import BaseModel, Device, TrainingMachine
from portico_server.finetune import memory, overrides
from portico_server.finetune.learning import Learning
from portico_server.finetune.memory import GB, Kind, Precision, Setup, Sharding
from portico_server.finetune.recipe import Recipe
from portico_server.finetune.spec import DataFacts, Hyperparameters, Method

SHARE: Final = {"cuda": 0.9, "cpu": 0.75}
"""The part of a GPU's memory, or of the machine's free memory, that a recipe may count on."""

MOST_COMPLETION: Final = 512
"""Tokens that a model may write for an answer that is graded, where nothing else is said."""

AUTO: Final = Hyperparameters()
"""Everything is left to the recipe."""


def choose(
    base: BaseModel,
    data: DataFacts,
    machine: TrainingMachine,
    method: Method,
    wish: Hyperparameters = AUTO,
    given: Mapping[str, Any] | None = None,
    *,
    seed: int = 42,
    packages: Collection[str] = (),
) -> Recipe:
    """The settings for training ``base``, each with its reason. ``packages`` are the optional ones that the trainer
    has: bitsandbytes, deepspeed, flash_attn.

    Raises `InvalidRequest`: an override that is none (``param`` names it), or ``memory_insufficient`` with the
    smallest recipe and what it would take.
    """
    given = given or {}
    overrides.check(given)
    return _Choice(base, data, machine, method, wish, given, seed, frozenset(packages)).recipe()


class _Choice:
    """One choice. Each step adds its reasons."""

    def __init__(
        self,
        base: BaseModel,
        data: DataFacts,
        machine: TrainingMachine,
        method: Method,
        wish: Hyperparameters,
        given: Mapping[str, Any],
        seed: int,
        packages: frozenset[str],
    ) -> None:
        self.base, self.data, self.machine, self.method = base, data, machine, method
        self.wish, self.given, self.seed, self.packages = wish, given, seed, packages
        self.reasons: dict[str, str] = {}
        on_gpu = self._say(
            "device",
            "cuda" if machine.devices else "cpu",
            f"{len(machine.devices)} × {machine.devices[0].name}"
            if machine.devices
            else "there is no GPU here",
        )
        self.device: Literal["cpu", "cuda"] = "cuda" if on_gpu == "cuda" else "cpu"
        if self.device == "cuda" and not machine.devices:
            raise InvalidRequest(
                "There is no GPU on this machine; leave out 'device'.", param="overrides.device"
            )
        self.devices: tuple[Device, ...] = machine.devices if self.device == "cuda" else ()
        self.capability = min((device.capability for device in self.devices), default=0.0)

        self.learning = Learning(base, data, method, wish, self.device, self.reasons, self._say)

    def _say(self, name: str, value: Any, reason: str) -> Any:
        """The value, or what was given in its place; notes why."""
        if name in self.given:
            self.reasons[name] = "as given"
            return self.given[name]
        self.reasons[name] = reason
        return value

    def recipe(self) -> Recipe:
        precision = self._precision()
        length, completion, group = self._length()
        target = self.learning.batch(group)
        budget = self._budget()
        rank = self.learning.rank()
        setup = self._fit(precision, length, completion, rank, target, budget)
        micro, accumulation = self._micro(setup, target, budget, group)
        setup = replace(setup, micro_batch=micro)
        epochs = self.learning.epochs()
        batch = micro * accumulation * setup.processes
        prompts = max(1, batch // group)
        per_epoch = math.ceil(self.data.examples / prompts)
        steps = max(1, per_epoch * epochs)
        tokens = self.data.tokens * epochs
        if completion:
            tokens = steps * batch * min(length, self.data.typical + completion)
        self.reasons["steps"] = (
            f"{self.data.examples:,} examples, {prompts} in a step, {epochs} times through"
        )
        speed = memory.flops(self.machine.cores, self.devices, setup.processes)
        return Recipe(
            kind=setup.kind,
            rank=rank,
            alpha=self._say("alpha", 2 * rank, "twice the rank, as is usual"),
            dropout=float(self._say("dropout", 0.0, "held-out examples guard against learning by heart")),
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
            threads=self._say("threads", self.machine.cores, "all cores, at the lowest priority"),
            seed=self.seed,
            memory_bytes=memory.need(self.base, setup),
            disk_bytes=memory.disk(self.base, setup),
            seconds=memory.seconds(self.base, setup, tokens, speed),
            reasons=self.reasons,
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
        return cast("Precision", self._say("precision", value, why))

    def _budget(self) -> int:
        if self.devices:
            return int(min(device.memory_bytes for device in self.devices) * SHARE["cuda"])
        return int(self.machine.free_bytes * SHARE["cpu"])

    def _ways(self) -> Iterator[tuple[Kind, Sharding, int, str]]:
        """What could be done, the best first: kind, how it is spread, over how many devices, and why."""
        count = len(self.devices)
        many: Sharding = "zero3" if "deepspeed" in self.packages else "fsdp"
        kinds: list[Kind] = [cast("Kind", self.given["kind"])] if "kind" in self.given else ["lora", "qlora"]
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
    ) -> Setup:
        """The first way that has room for one example at least; see `_checkpointing`."""
        smallest: Setup | None = None
        for kind, sharding, count, why in self._ways():
            setup = Setup(
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
            )
            if smallest is None or memory.need(self.base, setup) < memory.need(self.base, smallest):
                smallest = setup
            if memory.need(self.base, setup) > budget:
                continue
            self._explain(setup, why)
            return self._checkpointing(setup, target, budget)
        assert smallest is not None
        raise self._too_large(smallest, budget)

    def _explain(self, setup: Setup, why: str) -> None:
        full = memory.need(self.base, replace(setup, kind="full", small_states=False))
        reason = {
            "lora": "an adapter is served beside the base within seconds, and training all weights would take "
            f"{_gb(full)}",
            "qlora": "the weights in 16 bits do not fit; in four bits they do",
            "full": "as asked for",
        }[setup.kind]
        self._say("kind", setup.kind, reason)
        self._say("sharding", setup.sharding, why)
        self._say("processes", setup.processes, "one for each GPU" if self.devices else "one uses all cores")

    def _checkpointing(self, setup: Setup, target: int, budget: int) -> Setup:
        # A processor gains nothing from many examples at once; a GPU does, up to a point.
        half = 1 if self.device == "cpu" else max(1, target // setup.processes // 2)
        roomy = replace(setup, checkpointing=False, micro_batch=half)
        needed = memory.need(self.base, roomy) > budget
        why = (
            "there is room to keep what each layer computed, which is a third faster"
            if not needed
            else "what each layer computed is computed again on the way back, to save memory"
        )
        return replace(setup, checkpointing=bool(self._say("checkpointing", needed, why)))

    def _too_large(self, setup: Setup, budget: int) -> InvalidRequest:
        kind = {"lora": "an adapter", "qlora": "an adapter on weights in four bits", "full": "all weights"}
        where = "on each GPU" if self.devices else "of this machine's memory"
        takes = _gb(memory.need(self.base, setup))
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

    def _optimiser(self, setup: Setup) -> Any:
        found = self._optimiser_for(setup.kind)
        why = {
            "adamw_torch": "the adapter's state is small",
            "adamw_8bit": "two bytes of state for each weight in place of eight",
            "paged_adamw_8bit": "its state can leave a GPU that is full",
        }
        reason = why[found]
        if found == "adamw_torch" and setup.kind == "full":
            reason = "bitsandbytes is not here, so the state has 32 bits"
        return self._say("optimiser", found, reason)

    def _attention(self) -> Any:
        if self._flash():
            return self._say("attention", "flash_attention_2", "it is installed, and this GPU has it")
        return self._say("attention", "sdpa", "PyTorch's own, which picks the best kernel of this machine")

    def _flash(self) -> bool:
        return self.device == "cuda" and self.capability >= 8.0 and "flash_attn" in self.packages

    # --- what the data decides ---------------------------------------------------------------------------------

    def _length(self) -> tuple[int, int, int]:
        """Tokens of an example, tokens that are written, and answers to a prompt."""
        completion, group = 0, 1
        longest = self.data.longest
        if self.method == "reinforcement":
            most = MOST_COMPLETION if self.device == "cuda" else 64
            room = (self.base.longest or longest + most) - longest
            completion = int(self._say("completion", max(1, min(most, room)), "enough for a short answer"))
            few = 4 if self.device == "cpu" else 8
            more = self.wish.compute_multiplier or 1.0
            group = int(
                self._say(
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
        return int(self._say("max_length", length, why)), completion, group

    def _micro(self, setup: Setup, target: int, budget: int, group: int) -> tuple[int, int]:
        """Sequences at once on a device, and how many times before a step."""
        share = max(1, math.ceil(target / setup.processes))
        # All answers to a prompt must be in one step.
        unit = group // math.gcd(group, setup.processes)
        share = -(-share // unit) * unit
        fitting = [
            size
            for size in range(1, share + 1)
            if share % size == 0 and memory.need(self.base, replace(setup, micro_batch=size)) <= budget
        ]
        micro = max(fitting, default=1)
        micro = int(self._say("micro_batch", micro, self._why_micro(setup, micro, share, budget)))
        accumulation = max(1, math.ceil(share / micro))
        while micro * accumulation * setup.processes % group:
            accumulation += 1
        self.reasons["accumulation"] = (
            "the whole batch fits at once" if accumulation == 1 else f"so that {share} count as one step"
        )
        return micro, accumulation

    def _why_micro(self, setup: Setup, micro: int, share: int, budget: int) -> str:
        takes = memory.need(self.base, replace(setup, micro_batch=micro))
        most = "all of a batch" if micro == share else "as many as fit"
        return f"{most}: {_gb(takes)} of {_gb(budget)}"

    def _packing(self, length: int) -> bool:
        if self.method != "supervised":
            return bool(self._say("packing", False, "only whole conversations can be compared"))
        if not self._flash():
            return bool(
                self._say(
                    "packing", False, "without flash attention examples in one row would see each other"
                )
            )
        useful = self.data.examples >= 1_000 and self.data.typical * 2 < length
        why = (
            "most examples are short: several share a row" if useful else "examples are of one length, or few"
        )
        return bool(self._say("packing", useful, why))


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB"
