"""Plans how safetensors run on a machine's GPUs with each engine that has its own server, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from portico_server.core.dataclass import dataclass
from portico_server.models.gpus import USABLE_GPU_SHARE
from portico_server.models.hardware import Gpu, Hardware, describe
from portico_server.models.plan import weights
from portico_server.models.plan.nearest import gb, nearest_gguf_of, recommended
from portico_server.models.plan.outcome import (
    CPU_OVERHEAD_BYTES,
    FP8_MIN_CAPABILITY_NUMBER,
    FULL_CONTEXT_TOKENS,
    GB,
    GPU_OVERHEAD_BYTES,
    GPU_SHARE,
    MAX_PARALLEL_CALLS,
    MIN_CONTEXT_TOKENS,
    Q4_BITS,
    USUAL_CALL_TOKENS,
    MemoryEstimate,
    PlanOutcome,
)
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import MEMORY_SHARE, GpuTraits


@dataclass(frozen=True, slots=True)
class GpuPlanning:
    """Plans one model on one machine, for the engines that serve safetensors on NVIDIA GPUs."""

    model: ModelWeights
    hardware: Hardware
    parameters: Mapping[str, Any]
    name: str
    budget: int | None

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        return tuple(gpu for gpu in self.hardware.gpus if not gpu.shared)

    def best(self, servers: Mapping[str, GpuTraits]) -> PlanOutcome:
        """Plan for the first engine on which the model fits, or for the first engine if it fits on none."""
        fitting = self._fitting(servers)
        first = next(iter(servers))
        if fitting is not None and fitting.engine == first:
            return fitting
        plan_outcome = self.on(first, servers[first])
        if fitting is None or plan_outcome.fits:
            return plan_outcome
        better = (
            f"{servers[fitting.engine].title} can run it, but {servers[first].title} cannot. On "
            f"{servers[first].title}: {plan_outcome.reasons[-1][0].lower()}{plan_outcome.reasons[-1][1:]}"
        )
        return replace(fitting, reasons=(fitting.reasons[0], better, *fitting.reasons[1:]))

    def asked_for(self, engine: str, servers: Mapping[str, GpuTraits]) -> PlanOutcome:
        """Plan for the requested engine."""
        if not self.gpus:
            is_own = servers[engine].cpu_build
            return self._on_cpu(engine, servers[engine]) if is_own else self.refuse(engine, servers[engine])
        plan_outcome = self.on(engine, servers[engine])
        gpu_traits = {
            other_servers: traits for other_servers, traits in servers.items() if other_servers != engine
        }
        if plan_outcome.fits or (elsewhere := self._fitting(gpu_traits)) is None:
            return plan_outcome
        small = gpu_traits[elsewhere.engine].cache_parameter
        value = elsewhere.parameters.get(small) if small not in self.parameters else None
        way = f" with {small} {value}" if value else ""
        return replace(
            plan_outcome, nearest=f"It fits on the engine {elsewhere.engine}{way}. {plan_outcome.nearest}"
        )

    def _fitting(self, servers: Mapping[str, GpuTraits]) -> PlanOutcome | None:
        plans = (self.on(engine, traits) for engine, traits in servers.items() if self._may(traits))
        return next((plan for plan in plans if plan.fits), None)

    def _may(self, traits: GpuTraits) -> bool:
        """Return whether an engine can be chosen for the model, if it fits."""
        if traits.share_covers != "all" and "memory_share" in self.parameters:
            return False  # 'memory_share' means a share of all memory, but this engine applies it differently
        is_known = self.model.quantisation in ("", *traits.weights)
        return not traits.architectures or (is_known and self.model.architecture in traits.architectures)

    def on(self, engine: str, traits: GpuTraits) -> PlanOutcome:
        """Return the GPU requirements on one engine."""
        model, gpus, options = self.model, self.gpus, self.parameters
        memory = min(gpu.memory_bytes for gpu in gpus)
        need = _GpuNeed.of(model, memory, min(gpu.capability for gpu in gpus), options, traits)
        requested_tokens = options.get("context_length")
        trained_tokens = model.context_length or 4_096
        wanted_tokens = requested_tokens or min(trained_tokens, FULL_CONTEXT_TOKENS)
        counts = [n for n in (1, 2, 4, 8, 16) if n <= len(gpus) and (not model.heads or model.heads % n == 0)]
        if "tensor_parallel" in options:
            counts = [options["tensor_parallel"]]
        # The layers are divided among groups of GPUs; each group has a part of the weights and of the cache.
        groups = options.get("pipeline_parallel", 1)
        min_tokens = requested_tokens or min(trained_tokens, MIN_CONTEXT_TOKENS)
        nodes = self.hardware.nodes if traits.spans_nodes else 1
        if "pipeline_parallel" not in options:
            # The GPUs of one node are a group. The plan uses the fewest nodes on which the model fits.
            node_counts = (n for n in range(1, nodes) if need.smaller.tokens(counts[-1] * n) >= min_tokens)
            groups = next(node_counts, nodes)
            counts = counts if groups == 1 else counts[-1:]
        count = next((n for n in counts if need.tokens(n * groups) >= wanted_tokens), counts[-1])
        split = count * groups
        if 0 <= need.tokens(split) < min_tokens <= need.smaller.tokens(split):
            need = need.smaller
        tokens = need.tokens(split)
        context = requested_tokens or min(trained_tokens, max(tokens // 256 * 256, MIN_CONTEXT_TOKENS))
        calls = min(options.get("max_sequences", MAX_PARALLEL_CALLS), MAX_PARALLEL_CALLS)
        copies = options.get("data_parallel", 1)
        estimate = need.estimate(context, calls, split)
        settings: dict[str, Any] = {"context_length": context, "tensor_parallel": count, "dtype": need.dtype}
        settings |= {"pipeline_parallel": groups} if groups > 1 else {}
        settings |= {key: options[key] for key in _SETTINGS if key in options}
        if need.cache_setting is not None:
            settings[traits.cache_parameter] = need.cache_setting
        settings["memory_share"] = options.get("memory_share", need.share(estimate, split))
        problem = _why_not(need, gpus, nodes, split * copies, estimate, tokens, context, requested_tokens)
        return PlanOutcome(
            model=self.name,
            hardware=describe(self.hardware),
            engine=engine,
            parameters=settings,
            estimate=estimate,
            fits=not problem,
            reasons=(*_gpu_reasons(need, gpus, nodes, settings, estimate, split), *filter(None, (problem,))),
            nearest=self._nearest(need, estimate, requested_tokens, tokens, split, copies) if problem else "",
        )

    def _nearest(
        self,
        need: _GpuNeed,
        estimate: MemoryEstimate,
        requested_tokens: int | None,
        tokens: int,
        split: int,
        copies: int,
    ) -> str:
        model = self.model
        if split * copies > len(self.gpus) * self.hardware.nodes:
            return "Lower 'tensor_parallel', 'pipeline_parallel' and 'data_parallel', or leave them out."
        if need.able and requested_tokens and tokens >= MIN_CONTEXT_TOKENS:
            return f"It fits with context_length {tokens // 256 * 256}."
        room = estimate.available - GPU_OVERHEAD_BYTES
        computes_fp8 = need.capability >= FP8_MIN_CAPABILITY_NUMBER and "fp8" in need.traits.online
        if not model.quantisation and need.quantisation != "fp8" and computes_fp8:
            half = int(model.running_bytes("bfloat16") * need.traits.online["fp8"])
            if half // split < room:
                return f"It fits with quantization fp8, about {gb(half)}, which this GPU supports natively."
        quarter = int(model.parameters * Q4_BITS / 8)
        if not model.quantisation and quarter // split < room:
            return f"A version with 4-bit weights (AWQ or GPTQ), about {gb(quarter)}, fits."
        if quarter + GB < self.hardware.memory_bytes * MEMORY_SHARE:
            return (
                f"A Q4_K_M GGUF file of the same model, about {gb(quarter)}, fits on llama.cpp on the CPU, "
                "but runs slowly."
            )
        return recommended(self.hardware)

    def refuse(self, engine: str, traits: GpuTraits) -> PlanOutcome:
        """Return the plan for a machine without a suitable GPU."""
        model = self.model
        return PlanOutcome(
            model=self.name,
            hardware=describe(self.hardware),
            engine=engine,
            parameters={},
            estimate=MemoryEstimate("gpu", model.size, 0, 0, 0),
            fits=False,
            reasons=(
                f"Safetensors in this form ({model.architecture}, {model.form}) run on {traits.title}.",
                f"{traits.title} needs an NVIDIA GPU, and this machine has none.",
            ),
            nearest=nearest_gguf_of(model, self.hardware),
        )

    def _on_cpu(self, engine: str, traits: GpuTraits) -> PlanOutcome:
        """Plan for the user's own CPU build of the engine."""
        model, hardware = self.model, self.hardware
        dtype = str(self.parameters.get("dtype", "auto"))
        dtype = "bfloat16" if dtype == "auto" else dtype
        context = self.parameters.get("context_length") or model.context_length or 4_096
        available = int(hardware.memory_bytes * MEMORY_SHARE) if self.budget is None else self.budget
        estimate = MemoryEstimate(
            "cpu", model.running_bytes(dtype), model.cache_bytes(context), CPU_OVERHEAD_BYTES, available
        )
        fits = estimate.total <= available
        return PlanOutcome(
            model=self.name,
            hardware=describe(hardware),
            engine=engine,
            parameters={"context_length": context, "dtype": dtype},
            estimate=estimate,
            fits=fits,
            reasons=(
                f"{traits.title} was requested. Without an NVIDIA GPU, it needs your own CPU build, which "
                "the parameter 'python' names.",
                f"It needs about {gb(estimate.total)} of the {gb(available)} available to models.",
            ),
            nearest="" if fits else nearest_gguf_of(model, hardware),
        )


_SETTINGS = (
    "quantization",
    "kv_cache_dtype",
    "kv_cache_bits",
    "pipeline_parallel",
    "data_parallel",
    "max_sequences",
)
"""User-set parameters that the plan respects."""


@dataclass(frozen=True, slots=True)
class _GpuNeed:
    """The requirements of a model on GPUs with ``memory`` bytes each, with the user's parameters.

    ``weights`` is the total in bytes. ``cache_factor`` is the size of a number in the cache relative to 16 bits;
    ``cache_setting`` is the value that the plan chose for the engine's cache parameter. ``set_share`` is the user's
    share of the memory.
    """

    model: ModelWeights
    traits: GpuTraits
    memory: int
    capability: float
    dtype: str
    quantisation: str
    weights: int
    cache_factor: float
    cache_open: bool
    set_share: float | None
    cache_setting: str | int | None = None

    @classmethod
    def of(
        cls,
        model: ModelWeights,
        memory: int,
        capability: float,
        parameters: Mapping[str, Any],
        traits: GpuTraits,
    ) -> _GpuNeed:
        dtype = str(parameters.get("dtype", "auto"))
        if dtype == "auto":
            # The engines make the same choice: kernels for some 4-bit weights support only float16.
            bfloat = model.dtype != "float16" and (not capability or capability >= 8.0)
            dtype = "bfloat16" if bfloat else "float16"
        elif dtype == "half":
            dtype = "float16"
        online = str(parameters.get("quantization", ""))
        kept_share = 1.0 if model.quantisation else traits.online.get(online, 1.0)
        return cls(
            model,
            traits,
            memory,
            capability,
            dtype,
            model.quantisation or online,
            int(model.running_bytes(dtype) * kept_share),
            traits.cache_factors.get(parameters.get(traits.cache_parameter, ""), 1.0),
            traits.cache_parameter not in parameters,
            parameters.get("memory_share"),
        )

    @property
    def able(self) -> bool:
        """Return whether the GPU can run the model at all."""
        return not self.capability or self.capability >= self.needs

    @property
    def needs(self) -> float:
        return max(self.traits.min_capability, self.traits.weights.get(self.quantisation, 0.0))

    @property
    def smaller(self) -> _GpuNeed:
        """Return the need with an 8-bit cache, if the engine supports it on this GPU and the user chose no cache
        format.
        """
        if not self.cache_open or 0 < self.capability < self.traits.cache_capability:
            return self
        setting = next(iter(self.traits.cache_factors))
        return replace(self, cache_factor=self.traits.cache_factors[setting], cache_setting=setting)

    def budget(self, split: int) -> int:
        """Return how many bytes of each GPU the engine can use."""
        if self.set_share is None:
            return int(self.memory * GPU_SHARE)
        budget = int(self.set_share * self.memory)
        if self.traits.share_covers == "all":
            return budget
        if self.traits.share_covers == "free":
            weight_bytes = self.weights // split
            budget = weight_bytes + int(self.set_share * max(0, self.memory - weight_bytes))
        return min(int(self.memory * USABLE_GPU_SHARE), budget + GPU_OVERHEAD_BYTES)

    def estimate(self, context: int, calls: int, split: int) -> MemoryEstimate:
        """Return the estimate with a cache for ``calls`` full contexts, or for fewer if memory is short, but at least
        one.
        """
        weight_bytes, budget = self.weights // split, self.budget(split)
        room = max(0, budget - GPU_OVERHEAD_BYTES - weight_bytes)
        call = self.call(context, split)
        return MemoryEstimate(
            "gpu", weight_bytes, max(min(room, calls * call), call), GPU_OVERHEAD_BYTES, budget
        )

    def share(self, estimate: MemoryEstimate, split: int) -> float:
        """Return the share of the memory to request from the engine."""
        wanted_bytes, total_bytes = estimate.total, self.memory
        if self.traits.share_covers == "static":
            wanted_bytes -= estimate.other
        elif self.traits.share_covers == "free":
            wanted_bytes, total_bytes = estimate.cache, max(1, self.memory - self.weights // split)
        return round(min(GPU_SHARE, max(0.1, -(-wanted_bytes * 20 // total_bytes) / 20)), 2)

    def call(self, tokens: int, split: int) -> int:
        """Return the bytes of one call's cache on each of ``split`` GPUs. A head is never divided between GPUs."""
        if self.model.encoder:
            return 0
        heads = max(1, self.model.kv_heads)
        cache_bytes = self.model.cache_bytes(tokens, windows=self.traits.frees_windows)
        return int(cache_bytes * self.cache_factor * max(1, heads // split) / heads)

    def tokens(self, split: int) -> int:
        """Return the longest context, in tokens, that fits next to the weights on each of ``split`` GPUs.

        Return -1 if the weights do not fit.
        """
        room = self.budget(split) - GPU_OVERHEAD_BYTES - self.weights // split
        if room < 0:
            return -1
        low, high = 0, weights.MAX_CONTEXT_TOKENS
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.call(middle, split) <= room else (low, middle - 1)
        return low


def _why_not(
    need: _GpuNeed,
    gpus: tuple[Gpu, ...],
    nodes: int,
    count: int,
    estimate: MemoryEstimate,
    tokens: int,
    context: int,
    requested_tokens: int | None,
) -> str:
    """Return the reason why the model does not fit; empty if it fits."""
    if not need.able:
        weights_need = need.needs > need.traits.min_capability
        requirement = f"{need.quantisation} weights need" if weights_need else f"{need.traits.title} needs"
        return (
            f"{requirement} compute capability {need.needs}, but the {gpus[0].name} has {gpus[0].capability}."
        )
    if count > (available := len(gpus) * nodes):
        place = "on this machine" if nodes == 1 else f"on the {nodes} nodes"
        number = "is 1" if available == 1 else f"are {available}"
        return f"The model is set to use {count} GPUs, but there {number} {place}."
    if tokens < 0:
        return (
            f"The weights alone need {gb(estimate.weights)} of each GPU and the engine {gb(estimate.other)} "
            f"more, of {gb(estimate.available)} available."
        )
    if tokens < (requested_tokens or min(need.model.context_length or 4_096, MIN_CONTEXT_TOKENS)):
        remaining_bytes = estimate.available - estimate.weights - estimate.other
        return (
            f"A call of {context:,} tokens needs {gb(estimate.cache)} of cache, and {gb(remaining_bytes)} "
            f"remain next to the weights, enough for {tokens:,} tokens."
        )
    return ""


_COVERED = {
    "all": "",
    "static": " for weights and cache",
    "free": " of the memory that the weights leave free",
}


def _gpu_reasons(
    need: _GpuNeed,
    gpus: tuple[Gpu, ...],
    nodes: int,
    settings: Mapping[str, Any],
    estimate: MemoryEstimate,
    split: int,
) -> list[str]:
    model = need.model
    reasons = [
        f"Safetensors ({model.architecture}, {model.form}) on an NVIDIA GPU run on {need.traits.title}."
    ]
    groups, count = settings.get("pipeline_parallel", 1), settings["tensor_parallel"]
    if split > 1:
        part = "every layer" if groups == 1 else "some layers"
        reasons.append(
            f"The weights ({gb(need.weights)}) and a full context need {split} GPUs: each GPU has a part of {part}."
        )
        if nodes > 1 < groups:
            reasons.append(
                f"The layers are divided among {groups} nodes: add the model with the launcher 'slurm' and the "
                f"resources nodes={groups} and gpus={count}."
            )
    elif len(gpus) > 1:
        free = "other one stays" if len(gpus) == 2 else f"other {len(gpus) - 1} stay"
        reasons.append(f"One GPU is enough; the {free} free for other models.")
    if settings["dtype"] == "float16" != model.dtype and 0 < need.capability < 8.0:
        reasons.append(f"The {gpus[0].name} does not support bfloat16, so the model runs in float16.")
    elif not model.quantisation and settings["dtype"] != model.dtype:
        reasons.append(f"The files are {model.dtype}; the model runs as {settings['dtype']}.")
    if need.quantisation == "fp8" and 0 < need.capability < FP8_MIN_CAPABILITY_NUMBER:
        reasons.append(f"The {gpus[0].name} stores weights in FP8 and computes in {settings['dtype']}.")
    context = settings["context_length"]
    call = need.call(context, split)
    if need.cache_setting is not None:
        parameter = need.traits.cache_parameter
        reasons.append(
            f"In 16 bits, {context:,} tokens do not fit: {parameter} {need.cache_setting} stores them in 8 "
            "bits."
        )
    if call:
        shorter_note = f", fewer than the {model.context_length:,} for which it was trained"
        usual = min(context, USUAL_CALL_TOKENS)
        reasons.append(
            f"{context:,} tokens of context{shorter_note if context < model.context_length else ''}; a "
            f"key-value cache of {gb(estimate.cache)} has room for {estimate.cache // call:,} calls with a "
            f"full context, or {estimate.cache // max(1, need.call(usual, split)):,} calls of {usual:,} "
            "tokens."
        )
    gpu_text = "each GPU" if split > 1 else "the GPU"
    reasons.append(
        f"It needs about {gb(estimate.total)} of {gpu_text}'s {gb(int(gpus[0].memory_bytes))}: a share of "
        f"{settings['memory_share']:.2f}{_COVERED[need.traits.share_covers]}."
    )
    return reasons
