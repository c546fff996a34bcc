"""What decides how a model can run, read from a GGUF header or from the ``config.json`` beside safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from portico_server.core.errors import InvalidRequest

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0}

_ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "gte", "jina_bert")
"""Model types that turn a text into a vector and generate nothing."""


@dataclass(frozen=True, slots=True)
class Weights:
    """A model as safetensors. Sizes in bytes, counts 0 where the configuration does not say.

    ``cache_per_token`` is its 16-bit key-value cache for one token of context; ``quantisation`` is empty for plain
    weights of the number format ``dtype``; ``encoder`` for a model that only embeds, ``ranks``
    for one that scores pairs of texts, ``draws`` for one that makes pictures; ``sound`` is what a model
    does with sound, if that is all it does.
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

    @property
    def parameters(self) -> int:
        """About how many it has, judged by size and format."""
        per_parameter = {"awq": 0.6, "gptq": 0.6, "bitsandbytes": 0.6, "mxfp4": 0.55, "fp8": 1.0}
        return int(self.size / per_parameter.get(self.quantisation, _BYTES.get(self.dtype, 2.0)))


def from_config(name: str, config: Mapping[str, Any], size: int) -> Weights:
    """Read a ``config.json`` as transformers writes it; ``size`` is what the weights take on disk.

    Raises `InvalidRequest` if it describes no model.
    """
    heard = _sound(name, config, size)
    if heard is not None:
        return heard
    text = config.get("text_config")  # of a model that sees: its language part decides
    inner = {**config, **text} if isinstance(text, Mapping) else config
    layers, heads = (
        _number(inner, "num_hidden_layers", "n_layer"),
        _number(inner, "num_attention_heads", "n_head"),
    )
    hidden = _number(inner, "hidden_size", "n_embd")
    if not layers or not hidden:
        raise InvalidRequest(
            f"The config.json of '{name}' says neither how many layers nor how wide: it describes no language model "
            "that can be planned for.",
            param="source",
        )
    kv_heads = _number(inner, "num_key_value_heads") or heads
    width = _number(inner, "head_dim") or (hidden // heads if heads else 0)
    latent = _number(inner, "kv_lora_rank")  # multi-head latent attention keeps one small vector instead
    per_layer = latent + _number(inner, "qk_rope_head_dim") if latent else 2 * kv_heads * width
    quantised = config.get("quantization_config")
    method = str(quantised.get("quant_method", "")) if isinstance(quantised, Mapping) else ""
    kind = str(inner.get("model_type", ""))
    return Weights(
        name=name,
        architecture=str((config.get("architectures") or [kind])[0]),
        size=size,
        context_length=_number(inner, "max_position_embeddings", "n_positions"),
        heads=heads,
        kv_heads=1 if latent else kv_heads,
        cache_per_token=layers * per_layer * 2,
        dtype=str(config.get("dtype") or config.get("torch_dtype") or inner.get("torch_dtype") or "float32"),
        quantisation=method,
        encoder=kind.replace("-", "_") in {item.replace("-", "_") for item in _ENCODERS},
        ranks=any(
            str(name).endswith("ForSequenceClassification") for name in config.get("architectures") or ()
        ),
    )


def _sound(name: str, config: Mapping[str, Any], size: int) -> Weights | None:
    """A model for sound: windows of a fixed length go through it, so that its size is what it takes."""
    architecture = str((config.get("architectures") or ("",))[0])
    task: Literal["speech", "transcription"]
    if architecture == "WhisperForConditionalGeneration" or architecture.endswith("ForCTC"):
        task = "transcription"
    elif architecture in ("VitsModel", "MusicgenForConditionalGeneration"):
        task = "speech"
    else:
        return None
    return Weights(
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
