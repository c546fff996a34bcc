"""PEFT adapters for engines that take the folder as it is and call an adapter by a model name of its own."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import uuid4

import orjson

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import AdapterScale
from portico_server.models.adapters import peft
from portico_server.models.adapters.peft import PeftAdapter

logger = logging.getLogger(__name__)


def check_adapter(
    engine: str, adapter: AdapterScale, base: Path | None, *, patterns: bool = False
) -> PeftAdapter:
    """Whether the engine can load it for the model in ``base``; ``patterns``: layers may differ in rank and alpha.

    Raises `InvalidRequest`.
    """
    if adapter.path.suffix == ".gguf":
        raise _bad(adapter, f"is a GGUF file, but '{engine}' takes the folder that PEFT wrote")
    peft_adapter = peft.read_peft(adapter.path)
    if peft_adapter.patterned and not patterns:
        raise _bad(
            adapter,
            f"has another rank or alpha for some layers (rank_pattern, alpha_pattern), which '{engine}' would ignore. "
            "llamacpp takes it",
        )
    shapes = _shapes(base) if base is not None else {}
    layers = max((_layer(name) for name in shapes), default=-1)
    for pair in peft_adapter.pairs:
        if 0 <= layers < _layer(pair.module):
            raise _bad(
                adapter,
                f"adapts '{pair.module}', but the base model has {layers + 1} layers. It was trained on another one",
            )
        shape = shapes.get(f"{pair.module}.weight")
        if shape is not None and shape != (pair.outputs, pair.inputs):
            raise _bad(
                adapter,
                f"does not fit: '{pair.module}' has {pair.inputs} inputs and {pair.outputs} outputs in it, {shape[1]} "
                f"and {shape[0]} in the base model. It was trained on another one",
            )
    return peft_adapter


def scale_adapter(adapter: AdapterScale) -> Path:
    """A PEFT folder with the adapter's effect multiplied by its scale: the same weights under another alpha."""
    if adapter.scale == 1.0:
        return adapter.path
    path = adapter.path / f"scaled-{adapter.scale:g}"
    if not path.is_dir():
        config = orjson.loads((adapter.path / peft.CONFIG).read_bytes())
        draft = adapter.path / f".{uuid4().hex}.new"
        try:
            draft.mkdir()
            config["lora_alpha"] *= adapter.scale
            (draft / peft.CONFIG).write_bytes(orjson.dumps(config))
            os.link(adapter.path / peft.WEIGHTS, draft / peft.WEIGHTS)
            draft.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return path


def usable_adapters(
    name: str, adapters: Sequence[AdapterScale], looks: Callable[[AdapterScale], object]
) -> list[AdapterScale]:
    """Those that ``looks`` raises nothing about; the others are logged."""
    adapter_scales = []
    for adapter in adapters:
        try:
            looks(adapter)
        except PorticoError as error:
            logger.error("the adapter %s of %s is left out: %s", adapter.name, name, error.message)
        else:
            adapter_scales.append(adapter)
    return adapter_scales


def linear_layers(base: Path) -> list[str]:
    """The modules of the model in ``base`` whose weights are a matrix; none where they cannot be told."""
    return [
        name.removesuffix(".weight")
        for name, shape in _shapes(base).items()
        if name.endswith(".weight") and len(shape) == 2
    ]


_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")


def _layer(module: str) -> int:
    """The number of the layer that a module or a tensor is in; -1 for one outside."""
    match = _LAYER.search(module)
    return int(match[1]) if match else -1


def _shapes(base: Path) -> dict[str, tuple[int, ...]]:
    """Of the model's tensors; none where they are kept in a way that is not understood."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(base.glob("*.safetensors")):
        try:
            tensors = peft.read_safetensors(path).tensors
        except PorticoError:
            continue  # starting the engine will say what is wrong with it
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
    return shapes


def _bad(adapter: AdapterScale, problem: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter '{adapter.name}' {problem}.", code="adapter_invalid", param="path")
