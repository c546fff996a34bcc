"""Facts that decide how a model can run, read from a GGUF header or the configuration next to safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0}

MAX_LAYERS = 10_000
MAX_WIDTH = 1_000_000
MAX_CONTEXT_TOKENS = 2**30
"""A context above every real model's, in tokens: a configuration with a larger value is wrong."""

_EVERY_NTH_FULL: Mapping[str, int] = {
    "gemma2": 2,
    "gemma3": 6,
    "gemma3_text": 6,
    "gemma3n_text": 5,
    "gemma4_text": 6,
    "cohere2": 4,
    "gpt_oss": 2,
    "exaone4": 4,
    "olmo3": 4,
    "qwen3_next": 4,
    "qwen3_5_text": 4,
    "qwen3_5_moe_text": 4,
}
"""For each ``model_type``, n: every n-th layer keeps every token, if the configuration does not list its layers."""

_WINDOW_ALONE = ("mistral", "mixtral", "phi3")
"""Model types in which all layers have the sliding window, if the configuration specifies a window."""

_ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "gte", "jina_bert")
"""Model types that embed text and do not generate text."""


@dataclass(frozen=True, slots=True)
class ModelWeights:
    """The facts about a model stored as safetensors. Sizes are in bytes; counts are 0 if the configuration omits them.

    ``cache_per_token`` is the size of the 16-bit key-value cache per token of context, in the layers that keep every
    token; ``window_per_token`` is the size in layers that keep only the last ``window`` tokens of a call.
    ``state_bytes`` is the memory of each call in layers without a cache (linear attention). ``quantisation`` is empty
    for plain weights in the number format ``dtype``. ``encoder`` is set for a model that only embeds, ``ranks`` for a
    model that scores pairs of texts, ``draws`` for an image model; ``sound`` is the task of an audio-only model.
    """

    name: str
    architecture: str
    size: int
    context_length: int
    heads: int
    kv_heads: int
    cache_per_token: int
    dtype: str
    quantisation: str = ""
    encoder: bool = False
    ranks: bool = False
    draws: bool = False
    sound: Literal["", "speech", "transcription"] = ""
    window: int = 0
    window_per_token: int = 0
    state_bytes: int = 0

    def cache_bytes(self, tokens: int, *, windows: bool = True) -> int:
        """Return the bytes of the 16-bit cache of one call with ``tokens`` tokens.

        ``windows``: the engine frees tokens outside a sliding window.
        """
        return (
            tokens * self.cache_per_token
            + (min(tokens, self.window) if windows else tokens) * self.window_per_token
            + (self.state_bytes if tokens else 0)
        )

    def running_bytes(self, dtype: str) -> int:
        """Return the bytes of the weights when they run in the number format ``dtype``."""
        if self.quantisation:
            return self.size
        return int(self.size * _BYTES.get(dtype, 2.0) / _BYTES.get(self.dtype, 2.0))

    @property
    def form(self) -> str:
        """Return the storage format of the weights, as words for a sentence."""
        return self.quantisation or self.dtype

    @property
    def parameters(self) -> int:
        """Return the approximate number of parameters, estimated from size and format."""
        per_parameter = {"awq": 0.6, "gptq": 0.6, "bitsandbytes": 0.6, "mxfp4": 0.55, "fp8": 1.0}
        return int(self.size / per_parameter.get(self.quantisation, _BYTES.get(self.dtype, 2.0)))


def weights_from_config(name: str, config: Mapping[str, Any], size: int) -> ModelWeights:
    """Read a ``config.json`` in transformers' format; ``size`` is the size of the weights on disk.

    Raise `InvalidRequest` if it does not describe a model.
    """
    model_weights = _sound(name, config, size)
    if model_weights is not None:
        return model_weights
    text = config.get("text_config")  # of a model with image input: the part for text decides
    inner = {**config, **text} if isinstance(text, Mapping) else config
    layers, heads = (
        _number(inner, "num_hidden_layers", "n_layer"),
        _number(inner, "num_attention_heads", "n_head"),
    )
    hidden = _number(inner, "hidden_size", "n_embd")
    if not layers or not hidden:
        raise InvalidRequest(
            f"The config.json of '{name}' does not specify the number of layers and their width, so it does "
            "not describe a language model that Portico can plan.",
            param="source",
        )
    kv_heads = _number(inner, "num_key_value_heads") or heads
    width = _number(inner, "head_dim") or (hidden // heads if heads else 0)
    context = _number(inner, "max_position_embeddings", "n_positions")
    for quantity, number, limit in (
        ("layers", layers, MAX_LAYERS),
        ("numbers in a hidden state", hidden, MAX_WIDTH),
        ("heads", max(heads, kv_heads), MAX_WIDTH),
        ("numbers in a head", width, MAX_WIDTH),
        ("tokens of context", context, MAX_CONTEXT_TOKENS),
    ):
        if number > limit:
            raise InvalidRequest(
                f"The config.json of '{name}' specifies {number:,} {quantity}; no model has more than "
                f"{limit:,}. It is damaged: fetch it again, or correct it.",
                code="model_file_invalid",
                param="source",
            )
    # multi-head latent attention keeps one small vector instead of keys and values
    latent = _number(inner, "kv_lora_rank")
    per_layer = latent + _number(inner, "qk_rope_head_dim") if latent else 2 * kv_heads * width
    full, local, states = _layer_counts(inner, layers)
    wide = 2 * (_number(inner, "num_global_key_value_heads") or kv_heads) * _number(inner, "global_head_dim")
    quantization = config.get("quantization_config")
    method = str(quantization.get("quant_method", "")) if isinstance(quantization, Mapping) else ""
    kind = str(inner.get("model_type", ""))
    return ModelWeights(
        name=name,
        architecture=str((config.get("architectures") or [kind])[0]),
        size=size,
        context_length=context,
        heads=heads,
        kv_heads=1 if latent else kv_heads,
        cache_per_token=full * (wide or per_layer) * 2,
        window=_number(inner, "sliding_window", "attention_chunk_size") if local else 0,
        window_per_token=local * per_layer * 2,
        state_bytes=states * _state_bytes(inner),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or inner.get("torch_dtype") or "float32"),
        quantisation=method,
        encoder=kind.replace("-", "_") in {item.replace("-", "_") for item in _ENCODERS},
        ranks=any(
            str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()
        ),
    )


def _layer_counts(config: Mapping[str, Any], layers: int) -> tuple[int, int, int]:
    """Return how many layers keep every token, how many a sliding window, and how many a state of fixed size."""
    # In some models, the last layers use the cache of earlier layers.
    own_layers = max(0, layers - _number(config, "num_kv_shared_layers"))
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, list) and kinds:
        texts = [str(kind) for kind in kinds[:own_layers]]
        local = sum("sliding" in kind or "chunked" in kind for kind in texts)
        full = sum("full" in kind or kind in ("attention", "hybrid") for kind in texts)
        return full, local, len(texts) - full - local
    pattern = config.get("hybrid_override_pattern")
    if isinstance(
        pattern, str
    ):  # Nemotron-H: M is Mamba, * attention, and - a layer without a cache or state
        return pattern.count("*"), 0, pattern.count("M")
    kind = str(config.get("model_type", ""))
    period = _number(config, "attn_layer_period", "full_attention_interval")
    if period or (kind in _EVERY_NTH_FULL and not config.get("sliding_window")):
        full = own_layers // (period or _EVERY_NTH_FULL.get(kind, 1))
        return full, 0, own_layers - full
    if not _number(config, "sliding_window") or config.get("use_sliding_window") is False:
        return own_layers, 0, 0
    interval = _number(config, "sliding_window_pattern", "_sliding_window_pattern") or _EVERY_NTH_FULL.get(
        kind, 0
    )
    if interval > 1:
        return own_layers // interval, own_layers - own_layers // interval, 0
    return (0, own_layers, 0) if kind in _WINDOW_ALONE else (own_layers, 0, 0)


def _state_bytes(config: Mapping[str, Any]) -> int:
    """Return the bytes that one call needs in a layer with linear attention or Mamba.

    They are for the layer's 32-bit state and the state of its convolution.
    """
    heads = _number(config, "linear_num_value_heads")
    if heads:
        value, key = _number(config, "linear_value_head_dim"), _number(config, "linear_key_head_dim")
        mixed_width = 2 * _number(config, "linear_num_key_heads") * key + heads * value
        return heads * value * key * 4 + mixed_width * (_number(config, "linear_conv_kernel_dim") or 4) * 2
    inner = _number(config, "mamba_n_heads", "mamba_num_heads") * _number(
        config, "mamba_d_head", "mamba_head_dim"
    )
    inner = inner or _number(config, "hidden_size") * (_number(config, "mamba_expand") or 2)
    depth = _number(config, "mamba_d_state", "ssm_state_size") or 16
    return inner * depth * 4 + inner * (_number(config, "mamba_d_conv", "conv_kernel") or 4) * 2


def _sound(name: str, config: Mapping[str, Any], size: int) -> ModelWeights | None:
    """Return the audio model that the configuration describes, or ``None`` if it describes another kind of model.

    Audio models process windows of a fixed length, so their memory depends only on their size.
    """
    architecture = str((config.get("architectures") or ("",))[0])
    task: Literal["speech", "transcription"]
    if architecture == "WhisperForConditionalGeneration" or architecture.endswith("ForCTC"):
        task = "transcription"
    elif architecture in ("VitsModel", "MusicgenForConditionalGeneration"):
        task = "speech"
    else:
        return None
    return ModelWeights(
        name=name,
        architecture=architecture,
        size=size,
        context_length=_number(config, "max_target_positions"),
        heads=_number(config, "decoder_attention_heads"),
        kv_heads=_number(config, "decoder_attention_heads"),
        cache_per_token=0,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
        sound=task,
    )


def _number(values: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = values.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return 0
