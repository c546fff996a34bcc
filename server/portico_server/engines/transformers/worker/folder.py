"""What a model's folder says about itself: its task, its limits, its pooling. Reads small files only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import pipeline
from .refusal import Unfit

SIZE = 16 * 1024 * 1024
"""Bytes that a configuration file may have."""

_MODES = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}

_SPEAK = ("VitsModel", "MusicgenForConditionalGeneration")

_SEES = ("vision_config", "vision_tower", "mm_vision_tower")


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with ``config.json`` and safetensors, or the parts of a model that draws, whose index is ``config``.
    Lengths in tokens, 0 where nothing is said.

    ``task`` is ``chat``, ``embedding``, ``rerank``, ``speech`` or ``transcription``; ``sees`` says whether a chat
    model takes images.
    """

    path: Path
    config: Mapping[str, Any]
    task: str
    sees: bool
    context_length: int
    hidden_size: int
    changes: bool = False
    """Whether a model that draws is likely to change pictures too."""

    @property
    def architecture(self) -> str:
        """The name of its class in transformers, empty where the configuration does not say."""
        return str((self.config.get("architectures") or ("",))[0])

    @property
    def vocabulary(self) -> int:
        """How many tokens the model knows."""
        return _number(_text(self.config), "vocab_size")


def read(path: Path) -> Folder:
    """Look at a folder. Raises `Unfit` with a sentence."""
    index = document(path / pipeline.INDEX)
    if index is not None:
        return Folder(path, index, "image", False, 0, 0, pipeline.changes(index))
    config = document(path / "config.json")
    if config is None:
        raise Unfit(f"{path} has no config.json, so it is no folder that transformers can load.")
    text = _text(config)
    task = _task(path, config)
    return Folder(
        path,
        config,
        task,
        task == "chat" and any(name in config for name in _SEES),
        _context(path, text, task),
        _number(text, "hidden_size", "n_embd", "d_model", "dim"),
    )


def pools_by_mean(path: Path) -> bool:
    """Whether an embedding model's vector is the mean of those of its tokens. Raises `Unfit`."""
    modules = rows(path / "modules.json") or []
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
    if "Pooling" not in kinds:
        return True
    return pooling_of(path / Path(str(kinds["Pooling"].get("path", ""))).name) == ["mean"]


def pooling_of(at: Path) -> list[str]:
    """The ways of pooling that a module of sentence-transformers asks for. Raises `Unfit`."""
    config = document(at / "config.json") or {}
    said = config.get("pooling_mode")
    modes = (
        [said] if isinstance(said, str) else [mode for key, mode in _MODES.items() if config.get(key) is True]
    )
    return ["last" if mode == "lasttoken" else mode for mode in modes]


def check_weights(path: Path) -> None:
    """Raise `Unfit` unless the weights are safetensors: a pickle can run anything when it is read."""
    index = document(path / pipeline.INDEX)
    if index is not None:
        pipeline.check(path, index)
        return
    if any(path.glob("*.safetensors")):
        return
    pickles = sorted(item.name for pattern in pipeline.PICKLES for item in path.glob(pattern))
    if pickles:
        raise Unfit(
            f"The weights in {path} are a pickle ({pickles[0]}), which can run code when it is read. Use a version of "
            "the model with safetensors."
        )
    raise Unfit(f"There are no weights in {path}: a model.safetensors is missing.")


def document(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file, ``None`` if there is no file. Raises `Unfit` for anything else."""
    try:
        with path.open("rb") as file:
            data = file.read(SIZE + 1)
    except OSError:
        return None
    try:
        found = json.loads(data) if len(data) <= SIZE else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Unfit(f"{path} is not a JSON object.")
    return found


def rows(path: Path) -> list[dict[str, Any]] | None:
    """A JSON list of objects from a file, ``None`` if there is no file. Raises `Unfit`."""
    try:
        found = json.loads(path.read_bytes()[:SIZE])
    except OSError:
        return None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise Unfit(f"{path} is not a list of JSON objects.")
    return found


def _task(path: Path, config: Mapping[str, Any]) -> str:
    names = [str(name) for name in config.get("architectures") or ()]
    if any(name.endswith("ForSequenceClassification") for name in names):
        return "rerank"
    if (path / "modules.json").is_file():
        return "embedding"
    if any(name in _SPEAK for name in names):
        return "speech"
    if any(name == "WhisperForConditionalGeneration" or name.endswith("ForCTC") for name in names):
        return "transcription"
    if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
        return "chat"
    # A bare encoder: what it gives is vectors.
    return "embedding" if names else "chat"


def _context(path: Path, text: Mapping[str, Any], task: str) -> int:
    most = _number(text, "max_position_embeddings", "n_positions", "max_sequence_length")
    if text.get("model_type") in ("roberta", "xlm-roberta", "camembert") and most > 2:
        most -= 2  # its positions begin after that of the padding
    said = [most]
    if task != "chat":
        said.append(_number(document(path / "tokenizer_config.json") or {}, "model_max_length"))
        said.append(_number(document(path / "sentence_bert_config.json") or {}, "max_seq_length"))
    return min((number for number in said if 0 < number < 10**8), default=0)


def _text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, Mapping) else config


def _number(values: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = values.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return int(min(value, 10**9))
    return 0
