"""What decides how a model can run, read from a GGUF header or the configuration beside safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.models.gguf import Gguf, read_gguf
from portico_server.models.sources.file_choice import PIPELINE_INDEX, choose_files

_BYTES = {"float32": 4.0, "float16": 2.0, "bfloat16": 2.0, "float8_e4m3fn": 1.0}

_ENCODERS = ("bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "gte", "jina_bert")
"""Model types that turn a text into a vector and generate nothing."""


@dataclass(frozen=True, slots=True)
class ModelWeights:
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


def weights_from_config(name: str, config: Mapping[str, Any], size: int) -> ModelWeights:
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
    return ModelWeights(
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


def _sound(name: str, config: Mapping[str, Any], size: int) -> ModelWeights | None:
    """A model for sound: windows of a fixed length go through it, so that its size is what it takes."""
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


# What decides how a model that draws can run: the sizes of its parts, and the number format of their files.


HEADER_BYTES = 64 * 1024
"""Bytes of a safetensors file in which the format of its first tensors is found."""

_FORMAT = re.compile(rb'"dtype"\s*:\s*"(F32|F16|BF16|F8_[A-Z0-9]+)"')
_NAMES = {b"F32": "float32", b"F16": "float16", b"BF16": "bfloat16"}


def pipeline_weights(name: str, index: Mapping[str, Any], size: int, header: bytes) -> ModelWeights:
    """From the ``model_index.json``, the bytes of all weights, and the beginning of the largest file of them."""
    found = _FORMAT.search(header)
    return ModelWeights(
        name=name,
        architecture=str(index.get("_class_name", "")),
        size=size,
        context_length=0,
        heads=0,
        kv_heads=0,
        cache_per_token=0,
        dtype=_NAMES.get(found[1], "float8_e4m3fn") if found else "float32",
        draws=True,
    )


def read_pipeline(path: Path, name: str, index: Mapping[str, Any]) -> ModelWeights:
    """The same for a folder. Raises `InvalidRequest`. Blocks."""
    names = (item.relative_to(path).as_posix() for item in path.glob("*/*"))
    chosen = choose_files((PIPELINE_INDEX, *names), "", path).files
    files = {path / file: (path / file).stat().st_size for file in chosen if file.endswith(".safetensors")}
    with max(files, key=lambda item: files[item]).open("rb") as file:
        header = file.read(HEADER_BYTES)
    return pipeline_weights(name, index, sum(files.values()), header)


# Reads what a plan needs from a model's files: headers and configuration, never the weights. Blocks.


MAX_CONFIG_BYTES = 4 * 1024 * 1024
"""Bytes that a ``config.json`` may have."""


def read_weights(path: Path, name: str) -> Gguf | ModelWeights:
    """A GGUF file, or a folder with safetensors. Raises `InvalidRequest`, or `NotFound`."""
    if not path.is_dir():
        return read_gguf(path)
    index = path / PIPELINE_INDEX
    if index.is_file():
        with index.open("rb") as file:
            return read_pipeline(path, name, parse_config(file.read(MAX_CONFIG_BYTES + 1), name))
    config = path / "config.json"
    if not config.is_file():
        raise InvalidRequest(
            f"'{name}' has no config.json beside its weights, so nothing is known of it.", param="source"
        )
    with config.open("rb") as file:
        document = parse_config(file.read(MAX_CONFIG_BYTES + 1), name)
    return weights_from_config(
        name, document, sum(item.stat().st_size for item in path.glob("*.safetensors"))
    )


def parse_config(data: bytes, name: str) -> dict[str, object]:
    """A ``config.json``. Raises `InvalidRequest`."""
    try:
        document = orjson.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise InvalidRequest(f"The config.json of '{name}' is not a JSON object.", param="source")
    return document
