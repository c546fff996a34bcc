"""From what a model is and what a machine has: the engine, its parameters, what it takes, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from portico_server.core.errors import InvalidRequest
from portico_server.models.gguf import Gguf
from portico_server.models.hardware import Gpu, Hardware, describe
from portico_server.models.known_models import recommend
from portico_server.models.plan import llamacpp, transformers, weights
from portico_server.models.plan.llamacpp import CompanionFiles
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.protocol import MEMORY_SHARE
from portico_server.models.spec import ModelSpec

GB = 1024**3

GPU_SHARE = 0.9
"""Part of a GPU's memory that vLLM may have."""

GPU_OVERHEAD_BYTES = 2 * GB
"""Bytes of a GPU for its driver, compiled graphs and intermediate values."""

FULL_CONTEXT_TOKENS = 32_768
"""Tokens for which another GPU is taken; beyond that a shorter context is better."""

MIN_CONTEXT_TOKENS = 2_048
"""Tokens; with less a model is of no use on a GPU."""

USUAL_CALL_TOKENS = 1_000
"""Tokens of a chat's call, prompt and answer together, by which a cache is described."""

MAX_PARALLEL_CALLS = 16
"""Calls with a full context for which GPU memory is set aside, if there is as much."""

Q4_BITS = 4.85
"""Bits of a parameter in a Q4_K_M file."""

_NEEDS: Mapping[str, float] = {"fp8": 8.9, "awq": 7.5, "gptq": 7.5, "mxfp4": 8.0}
"""The compute capability that a quantisation needs on vLLM."""


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes by what they are for, on the ``device``; per GPU where there are several."""

    device: Literal["cpu", "gpu"]
    weights: int
    cache: int
    other: int
    available: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.other


@dataclass(frozen=True, slots=True)
class PlanOutcome:
    """What will run, or what comes nearest to it if it does not fit. ``reasons`` are sentences."""

    model: str
    hardware: str
    engine: str
    parameters: Mapping[str, Any]
    estimate: MemoryEstimate
    fits: bool
    reasons: tuple[str, ...]
    nearest: str = ""

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        return {**document, "estimate": {**document["estimate"], "total": self.estimate.total}}


def plan_model(
    model: Gguf | ModelWeights,
    hardware: Hardware,
    parameters: Mapping[str, Any] | None = None,
    *,
    name: str = "",
    budget: int | None = None,
    engine: str = "auto",
    beside: CompanionFiles = CompanionFiles(),  # noqa: B008  # frozen
) -> PlanOutcome:
    """Plan a model for a machine. ``budget``: bytes of memory that models may have, instead of a share of it;
    ``engine``: the one that was asked for. ``beside``: what a GGUF file is loaded with.
    """
    if isinstance(model, Gguf):
        return _gguf(model, hardware, parameters or {}, name or model.name, budget, beside)
    gpus = tuple(gpu for gpu in hardware.gpus if not gpu.shared)
    ours = model.ranks or model.draws or bool(model.sound)
    if gpus and engine != "transformers" and (not ours or engine == "vllm"):
        return _vllm(model, hardware, gpus, parameters or {}, name or model.name)
    if model.quantisation:
        return _needs_gguf(model, hardware, name or model.name)
    return _transformers(model, hardware, parameters or {}, name or model.name, budget)


def plan_other_engines(
    name: str, engine: str, hardware: Hardware, reason: str, memory: int = 0
) -> PlanOutcome:
    """For a model without files to plan from: ``memory`` bytes are all it takes here."""
    available = int(hardware.memory_bytes * MEMORY_SHARE)
    estimate = MemoryEstimate("cpu", 0, 0, memory, available)
    return PlanOutcome(name, describe(hardware), engine, {}, estimate, memory <= available, (reason,))


# --- llama.cpp ----------------------------------------------------------------------------------------------


def _gguf(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    name: str,
    budget: int | None,
    beside: CompanionFiles,
) -> PlanOutcome:
    settled = llamacpp.plan_gguf(
        file, hardware, parameters, embedding=llamacpp.is_embedding_model(file), beside=beside
    )
    metal = next((gpu for gpu in hardware.gpus if gpu.shared), None)
    available = llamacpp.memory_allowance(hardware) if budget is None else budget
    need = llamacpp.memory_need(file, settled)
    estimate = MemoryEstimate(
        "gpu" if metal else "cpu", need.weights, need.cache, need.compute + need.process, available
    )
    fits = estimate.total <= available
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="llamacpp",
        parameters=llamacpp.chosen_parameters(settled),
        estimate=estimate,
        fits=fits,
        reasons=tuple(_gguf_reasons(file, hardware, settled, estimate, metal)),
        nearest="" if fits else _nearest_gguf(file, hardware, parameters, settled, estimate),
    )


def _gguf_reasons(
    file: Gguf,
    hardware: Hardware,
    settled: llamacpp.LlamaCppPlan,
    estimate: MemoryEstimate,
    metal: Gpu | None,
) -> list[str]:
    billions = f", {file.parameters / 1e9:.2g} billion parameters" if file.parameters else ""
    reasons = [f"A GGUF file is for llama.cpp ({file.quantisation or file.architecture}{billions})."]
    if settled.embedding:
        reasons.append("It is an embedding model: a text is one batch of its context at most.")
    calls = "call" if settled.slots == 1 else "calls"
    trained = file.context_length
    less = f"; it was trained for {trained:,}" if trained > settled.context_length else ""
    reasons.append(
        f"{settled.slots} {calls} at a time with {settled.context_length:,} tokens each{less}: a key-value cache of "
        f"{_gb(estimate.cache)}."
    )
    if settled.projector:
        reasons.append(f"It sees with {Path(settled.projector).name}, which is loaded with it.")
    if settled.draft:
        reasons.append(f"{Path(settled.draft).name} guesses ahead for it, and has a cache of its own.")
    if metal is not None:
        reasons.append(f"All layers go to the GPU ({metal.name}), which shares the machine's memory.")
    else:
        threads = f"{settled.threads} thread{'s' if settled.threads > 1 else ''}"
        cores = f"{hardware.cores} core{'s' if hardware.cores > 1 else ''}"
        reasons.append(f"It computes on the CPU with {threads} on {cores}.")
    if hardware.gpus and metal is None:
        reasons.append(
            f"The build of llama.cpp that Portico installs does not use the {hardware.gpus[0].name}; safetensors of "
            "this model on vLLM would."
        )
    reasons.append(
        f"It takes about {_gb(estimate.total)} of the {_gb(estimate.available)} that models may have."
    )
    return reasons


def _nearest_gguf(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    now: llamacpp.LlamaCppPlan,
    estimate: MemoryEstimate,
) -> str:
    embedding = llamacpp.is_embedding_model(file)
    for context in (8_192, 4_096, llamacpp.MIN_CONTEXT_TOKENS):
        smaller = {**parameters, "slots": 1, "context_length": context}
        settled = llamacpp.plan_gguf(file, hardware, smaller, embedding=embedding)
        if (
            context < now.context_length * now.slots
            and llamacpp.memory_need(file, settled).total <= estimate.available
        ):
            return f"It fits with context_length {settled.context_length} and slots 1."
    quarter = int(file.parameters * Q4_BITS / 8)
    if quarter and quarter < file.file_size * 0.9:
        settled = llamacpp.plan_gguf(
            file, hardware, {"slots": 1, "context_length": 4_096}, embedding=embedding
        )
        if llamacpp.memory_need(replace(file, file_size=quarter), settled).total <= estimate.available:
            return f"A Q4_K_M file of the same model, about {_gb(quarter)}, fits."
    return _recommended(hardware)


# --- vLLM ---------------------------------------------------------------------------------------------------


def _vllm(
    model: ModelWeights, hardware: Hardware, gpus: tuple[Gpu, ...], parameters: Mapping[str, Any], name: str
) -> PlanOutcome:
    memory = min(gpu.memory_bytes for gpu in gpus)
    capability = min(gpu.capability for gpu in gpus)
    context_tokens = parameters.get("context_length")
    trained = model.context_length or 4_096
    wanted = context_tokens or min(trained, FULL_CONTEXT_TOKENS)
    counts = [n for n in (1, 2, 4, 8, 16) if n <= len(gpus) and (not model.heads or model.heads % n == 0)]
    count = next((n for n in counts if _tokens(model, memory, n) >= wanted), counts[-1])
    tokens = _tokens(model, memory, count)
    fits = tokens >= (context_tokens or min(trained, MIN_CONTEXT_TOKENS))
    context = context_tokens or min(trained, max(tokens // 256 * 256, MIN_CONTEXT_TOKENS))
    per_token = _per_token(model, count)
    cache = min(max(tokens, context), MAX_PARALLEL_CALLS * context) * per_token
    estimate = MemoryEstimate("gpu", model.size // count, cache, GPU_OVERHEAD_BYTES, int(memory * GPU_SHARE))
    share = min(GPU_SHARE, max(0.1, -(-estimate.total * 20 // memory) / 20))
    needs = _NEEDS.get(model.quantisation, 7.0)
    able = not capability or capability >= needs
    dtype = "bfloat16" if not capability or capability >= 8.0 else "float16"
    chosen: dict[str, Any] = {"context_length": context, "tensor_parallel": count, "dtype": dtype}
    chosen["memory_share"] = round(share, 2)
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="vllm",
        parameters=chosen,
        estimate=estimate,
        fits=fits and able,
        reasons=tuple(_vllm_reasons(model, gpus, chosen, estimate, able=able)),
        nearest="" if fits and able else _nearest_weights(model, hardware, estimate, context_tokens, tokens),
    )


def _tokens(model: ModelWeights, memory: int, count: int) -> int:
    """Tokens of context that fit beside the weights on each of ``count`` GPUs."""
    room = int(memory * GPU_SHARE) - GPU_OVERHEAD_BYTES - model.size // count
    if room < 0:
        return -1
    return room // max(1, _per_token(model, count))


def _per_token(model: ModelWeights, count: int) -> int:
    """Bytes of cache per token on one of ``count`` GPUs: heads are shared out, but not cut."""
    if model.encoder:
        return 0
    return model.cache_per_token * max(1, model.kv_heads // count) // max(1, model.kv_heads)


def _calls(cache: int, per_token: int, context: int) -> str:
    """How many calls a cache holds, for a sentence. How many are computed at a time is left to vLLM."""
    full, usual = cache // (per_token * context), cache // (per_token * min(context, USUAL_CALL_TOKENS))
    return f"{full:,} with a full context, or {usual:,} of {min(context, USUAL_CALL_TOKENS):,} tokens"


def _vllm_reasons(
    model: ModelWeights,
    gpus: tuple[Gpu, ...],
    chosen: Mapping[str, Any],
    estimate: MemoryEstimate,
    *,
    able: bool,
) -> list[str]:
    count = chosen["tensor_parallel"]
    form = model.quantisation or model.dtype
    reasons = [f"Safetensors ({model.architecture}, {form}) on an NVIDIA GPU are for vLLM."]
    if not able:
        reasons.append(
            f"{model.quantisation or 'vLLM'} needs compute capability {_NEEDS.get(model.quantisation, 7.0)}, but "
            f"the {gpus[0].name} has {gpus[0].capability}."
        )
    if count > 1:
        reasons.append(
            f"The weights ({_gb(model.size)}) and a full context want {count} GPUs: each takes a part of every layer."
        )
    elif len(gpus) > 1:
        reasons.append(f"One GPU is enough; the other {len(gpus) - 1} stay free for further models.")
    if chosen["dtype"] == "float16":
        reasons.append(f"The {gpus[0].name} does not compute in bfloat16, so it is float16.")
    per_token = _per_token(model, count)
    if per_token:
        less = f", fewer than the {model.context_length:,} it was trained for"
        reasons.append(
            f"{chosen['context_length']:,} tokens of context"
            f"{less if chosen['context_length'] < model.context_length else ''}; a key-value cache of "
            f"{_gb(estimate.cache)} holds {_calls(estimate.cache, per_token, chosen['context_length'])}."
        )
    where = "each GPU" if count > 1 else "the GPU"
    reasons.append(
        f"It takes about {_gb(estimate.total)} of {where}'s {_gb(int(gpus[0].memory_bytes))}, a share of "
        f"{chosen['memory_share']:.2f}."
    )
    return reasons


# --- transformers -------------------------------------------------------------------------------------------


def _transformers(
    model: ModelWeights, hardware: Hardware, parameters: Mapping[str, Any], name: str, budget: int | None
) -> PlanOutcome:
    settled = transformers.plan_transformers(model, hardware, parameters, budget)
    fits = settled.total <= settled.available
    estimate = MemoryEstimate(
        settled.device, settled.weights, settled.cache, settled.other, settled.available
    )
    takes = f"It takes about {_gb(estimate.total)} of the {_gb(estimate.available)} that models may have."
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="transformers",
        parameters=settled.parameters,
        estimate=estimate,
        fits=fits,
        reasons=(*transformers.transformers_reasons(model, hardware, settled), takes),
        nearest="" if fits else _nearest_gguf_of(model, hardware),
    )


# --- what comes nearest -------------------------------------------------------------------------------------


def _nearest_weights(
    model: ModelWeights, hardware: Hardware, estimate: MemoryEstimate, context_tokens: int | None, tokens: int
) -> str:
    if context_tokens and tokens >= MIN_CONTEXT_TOKENS:
        return f"It fits with context_length {tokens // 256 * 256}."
    quarter = int(model.parameters * Q4_BITS / 8)
    if (
        not model.quantisation
        and quarter // max(1, len(hardware.gpus)) + GPU_OVERHEAD_BYTES < estimate.available
    ):
        return f"A version with 4-bit weights (AWQ or GPTQ), about {_gb(quarter)}, fits."
    if quarter + GB < hardware.memory_bytes * MEMORY_SHARE:
        return f"A Q4_K_M GGUF of it, about {_gb(quarter)}, fits on llama.cpp, slowly, on the CPU."
    return _recommended(hardware)


def _needs_gguf(model: ModelWeights, hardware: Hardware, name: str) -> PlanOutcome:
    return PlanOutcome(
        model=name,
        hardware=describe(hardware),
        engine="vllm",
        parameters={},
        estimate=MemoryEstimate("gpu", model.size, 0, 0, 0),
        fits=False,
        reasons=(
            f"Safetensors ({model.architecture}, {model.quantisation or model.dtype}) in this form are for vLLM.",
            "vLLM needs an NVIDIA GPU, and this machine has none.",
        ),
        nearest=_nearest_gguf_of(model, hardware),
    )


def _nearest_gguf_of(model: ModelWeights, hardware: Hardware) -> str:
    quarter = int(model.parameters * Q4_BITS / 8)
    if quarter + GB < int(hardware.memory_bytes * MEMORY_SHARE):
        return f"A GGUF of the same model fits: Q4_K_M takes about {_gb(quarter)}."
    return _recommended(hardware)


def _recommended(hardware: Hardware) -> str:
    accelerated = any(gpu.shared for gpu in hardware.gpus)
    found = recommend(hardware, accelerated=accelerated)
    if found is None:
        return "No model of the list fits; SmolLM2-135M, which comes with Portico, needs half a gigabyte."
    return f"What fits here is {found.name} ({found.size_gb:g} GB): {found.source}."


def _gb(size: int) -> str:
    return f"{size / GB:.1f} GB" if size >= 0.1 * GB else f"{size / 1024**2:.0f} MB"


# Gives a model on vLLM the parameters of its plan, where its spec leaves them open. Blocks.


def fill_parameters(spec: ModelSpec, path: Path | None, hardware: Hardware) -> ModelSpec:
    """The spec with planned parameters. Without an NVIDIA GPU, where there is nothing to plan with, it is the same.

    Raises `InvalidRequest` for what cannot fit, with the nearest thing that would.
    """
    if path is None or not any(not gpu.shared for gpu in hardware.gpus):
        return spec
    model = weights.read_weights(path, spec.name)
    if not isinstance(model, ModelWeights):
        return spec
    made = plan_model(model, hardware, spec.parameters, name=spec.name, engine="vllm")
    if not made.fits:
        raise InvalidRequest(
            f"'{spec.name}' does not fit {made.hardware}. {made.reasons[-1]} {made.nearest}",
            code="does_not_fit",
            param="source",
        )
    return replace(spec, parameters={**made.parameters, **spec.parameters})
