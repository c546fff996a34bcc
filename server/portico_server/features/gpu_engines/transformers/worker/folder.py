"""Reads from a model's folder what the model is and how to load it. Reads only small files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UnusableModel

# A folder that diffusers loads. Its ``model_index.json`` names the parts; each part has its own folder. Only
# small files are read. Source: https://huggingface.co/docs/diffusers/using-diffusers/loading.


PIPELINE_INDEX = "model_index.json"

PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_CHANGES = (
    "StableDiffusion",
    "Flux",
    "QwenImage",
    "ZImage",
    "Kolors",
    "Kandinsky",
    "LatentConsistency",
    "IF",
)
"""Prefixes of pipeline classes that can probably also edit images. Only loading the pipeline makes this certain."""

_VARIANTS = ("fp16", "bf16")
"""Weight variants that a folder can contain instead of the plain weights."""


def can_edit(index: Mapping[str, Any]) -> bool:
    """Return whether an image model can probably also edit images."""
    return str(index.get("_class_name", "")).startswith(_CHANGES)


def pipeline_parts(path: Path, index: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the folder name and class of each part in the index. Raise `UnusableModel` if a part needs custom code."""
    name = index.get("_class_name")
    if not isinstance(name, str) or not name.endswith("Pipeline"):
        raise UnusableModel(
            f"{path / PIPELINE_INDEX} specifies a custom pipeline, which is code that Portico does not run. "
            "Use a model whose pipeline diffusers supports."
        )
    for part, entry in index.items():
        if part.startswith("_") or not isinstance(entry, list):
            continue
        library, kind = (*entry, None, None)[:2]
        if library is None or kind is None:
            continue
        if not all(isinstance(word, str) and _PLAIN.fullmatch(word) for word in (part, library, kind)):
            raise UnusableModel(f"{path / PIPELINE_INDEX} names an invalid part: {part[:60]}.")
        if (path / part / f"{library}.py").exists():
            raise UnusableModel(
                f"The part '{part}' of {path} needs its own Python code, which Portico does not run. Use a "
                "model whose parts diffusers supports."
            )
        yield part, kind


def check_pipeline(path: Path, index: Mapping[str, Any]) -> None:
    """Raise `UnusableModel` unless all weights are safetensors: loading a pickle can run any code."""
    weight_count = 0
    for part, _kind in pipeline_parts(path, index):
        folder = path / part
        if any(folder.glob("*.safetensors")):
            weight_count += 1
            continue
        pickles = sorted(item.name for pattern in PICKLE_PATTERNS for item in folder.glob(pattern))
        if pickles:
            raise UnusableModel(
                f"The weights in {folder} are a pickle ({pickles[0]}), which can run code when it is loaded. "
                "Use a version of the model with safetensors."
            )
    if not weight_count:
        raise UnusableModel(f"{path} contains no weights: its parts have no safetensors.")


def weights_variant(path: Path, index: Mapping[str, Any]) -> str | None:
    """Return the variant of the weights, such as ``fp16``, if the folder contains no plain weights."""
    for word in _VARIANTS:
        for part, _kind in pipeline_parts(path, index):
            names = [item.name for item in (path / part).glob("*.safetensors")]
            if names and all(f".{word}." in name or f".{word}-" in name for name in names):
                return word
    return None


MAX_CONFIG_BYTES = 16 * 1024 * 1024
"""Maximum size of a configuration file, in bytes."""

COLBERT_METADATA = "artifact.metadata"
"""File that ColBERT writes next to its weights."""

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}

_SPEAK = ("VitsModel", "MusicgenForConditionalGeneration")

_SEES = ("vision_config", "vision_tower", "mm_vision_tower")


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with ``config.json`` and safetensors, or the parts of an image model, whose index is ``config``.

    Lengths are in tokens, 0 if unknown. ``task`` is ``chat``, ``embedding``, ``rerank``, ``speech`` or
    ``transcription``; ``sees`` is whether a chat model accepts images.
    """

    path: Path
    config: Mapping[str, Any]
    task: str
    sees: bool
    context_length: int
    hidden_size: int
    changes: bool = False
    """True if an image model can probably also edit images."""

    @property
    def architecture(self) -> str:
        """Return the model's class in transformers, or an empty string if the configuration does not name it."""
        return str((self.config.get("architectures") or ("",))[0])

    @property
    def vocabulary(self) -> int:
        """Return the size of the model's vocabulary."""
        return _number(_text(self.config), "vocab_size")


def read_folder(path: Path) -> ModelFolder:
    """Inspect a folder. Raise `UnusableModel` with a one-sentence message."""
    index = read_document(path / PIPELINE_INDEX)
    if index is not None:
        return ModelFolder(path, index, "image", False, 0, 0, can_edit(index))
    config = read_document(path / "config.json")
    if config is None:
        raise UnusableModel(f"{path} has no config.json, so it is not a folder that transformers can load.")
    text = _text(config)
    task = _task(path, config)
    return ModelFolder(
        path,
        config,
        task,
        task == "chat" and any(name in config for name in _SEES),
        _context(path, text, task),
        _number(text, "hidden_size", "n_embd", "d_model", "dim"),
    )


def pools_by_mean(path: Path) -> bool:
    """Return whether an embedding model's vector is the mean of its token vectors. Raise `UnusableModel`."""
    modules = read_rows(path / "modules.json") or []
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
    if "Pooling" not in kinds:
        return True
    return pooling_of(path / Path(str(kinds["Pooling"].get("path", ""))).name) == ["mean"]


def pooling_of(at: Path) -> list[str]:
    """Return the pooling modes that a module of sentence-transformers specifies. Raise `UnusableModel`."""
    config = read_document(at / "config.json") or {}
    lengths = config.get("pooling_mode")
    modes = (
        [lengths]
        if isinstance(lengths, str)
        else [mode for key, mode in _MODES.items() if config.get(key) is True]
    )
    return ["last" if mode == "lasttoken" else mode for mode in modes]


def check_weights(path: Path) -> None:
    """Raise `UnusableModel` unless the weights are safetensors: loading a pickle can run any code."""
    index = read_document(path / PIPELINE_INDEX)
    if index is not None:
        check_pipeline(path, index)
        return
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(item.name for pattern in PICKLE_PATTERNS for item in path.glob(pattern))
    if pickles:
        raise UnusableModel(
            f"The weights in {path} are a pickle ({pickles[0]}), which can run code when it is loaded. Use a "
            "version of the model with safetensors."
        )
    raise UnusableModel(f"{path} contains no weights: model.safetensors is missing.")


def read_document(path: Path) -> dict[str, Any] | None:
    """Return a JSON object from a file, or ``None`` if the file does not exist. Raise `UnusableModel` if the file
    contains anything else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError:
        return None
    try:
        document = json.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise UnusableModel(f"{path} is not a JSON object.")
    return document


def read_rows(path: Path) -> list[dict[str, Any]] | None:
    """Return a JSON list of objects from a file, or ``None`` if the file does not exist.

    Raise `UnusableModel` if the file contains anything else.
    """
    try:
        rows = json.loads(path.read_bytes()[:MAX_CONFIG_BYTES])
    except OSError:
        return None
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UnusableModel(f"{path} is not a list of JSON objects.")
    return rows


def module_kinds(path: Path) -> dict[str, list[str]]:
    """Return the folders of the modules of sentence-transformers and its derivatives, by kind. Raise
    `UnusableModel`.
    """
    kinds: dict[str, list[str]] = {}
    for module in read_rows(path / "modules.json") or []:
        kind = str(module.get("type", "")).rpartition(".")[2]
        kinds.setdefault(kind, []).append(str(module.get("path", "")))
    return kinds


def reranks_by(path: Path, config: Mapping[str, Any]) -> str:
    """Return how a model ranks texts, or an empty string if its folder does not specify it.

    The kinds are ``pairs`` (a cross-encoder), ``tokens`` (late interaction) and ``words`` (learned sparse vectors).
    """
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "pairs"
    kinds = module_kinds(path)
    if "SpladePooling" in kinds:
        return "words"
    late = (path / COLBERT_METADATA).is_file() or "HF_ColBERT" in names
    return "tokens" if late or ("Dense" in kinds and "Pooling" not in kinds) else ""


def _task(path: Path, config: Mapping[str, Any]) -> str:
    names = [str(name) for name in config.get("architectures") or ()]
    if reranks_by(path, config):
        return "rerank"
    if (path / "modules.json").is_file():
        return "embedding"
    if any(name in _SPEAK for name in names):
        return "speech"
    if any(name == "WhisperForConditionalGeneration" or name.endswith("ForCTC") for name in names):
        return "transcription"
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        return "chat"
    # A bare encoder, whose output is vectors.
    return "embedding" if names else "chat"


def _context(path: Path, text: Mapping[str, Any], task: str) -> int:
    limit = _number(text, "max_position_embeddings", "n_positions", "max_sequence_length")
    if text.get("model_type") in ("roberta", "xlm-roberta", "camembert") and limit > 2:
        limit -= 2  # RoBERTa numbers positions from after the padding's position
    lengths = [limit]
    if task != "chat":
        lengths.append(_number(read_document(path / "tokenizer_config.json") or {}, "model_max_length"))
        lengths.append(_number(read_document(path / "sentence_bert_config.json") or {}, "max_seq_length"))
    return min((number for number in lengths if 0 < number < 10**8), default=0)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def _number(values: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return int(min(value, 10**9))
    return 0
