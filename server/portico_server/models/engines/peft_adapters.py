"""PEFT adapters for engines that load the folder unchanged and serve each adapter under its own model name."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
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
    """Check that the engine can load the adapter for the model in ``base``.

    ``patterns``: the engine supports layers that differ in rank and alpha. Raise `InvalidRequest` if the adapter does
    not fit.
    """
    if adapter.path.suffix == ".gguf":
        raise _bad(adapter, f"is a GGUF file, but '{engine}' needs the folder that PEFT wrote")
    peft_adapter = peft.read_peft(adapter.path)
    if peft_adapter.patterned and not patterns:
        raise _bad(
            adapter,
            f"has a different rank or alpha for some layers (rank_pattern, alpha_pattern), which '{engine}' "
            "would ignore. llamacpp supports such adapters",
        )
    shapes = _shapes(base) if base is not None else {}
    layers = max((_layer(name) for name in shapes), default=-1)
    for pair in peft_adapter.pairs:
        if 0 <= layers < _layer(pair.module):
            raise _bad(
                adapter,
                f"adapts '{pair.module}', but the base model has {layers + 1} layers. It was trained on "
                "another model",
            )
        shape = shapes.get(f"{pair.module}.weight")
        if shape is not None and shape != (pair.outputs, pair.inputs):
            raise _bad(
                adapter,
                f"does not fit: '{pair.module}' has {pair.inputs} inputs and {pair.outputs} outputs in the "
                f"adapter, {shape[1]} and {shape[0]} in the base model. It was trained on another model",
            )
    return peft_adapter


def scale_adapter(adapter: AdapterScale) -> Path:
    """Return a PEFT folder with the adapter's effect multiplied by its scale: the same weights with another alpha."""
    if adapter.scale == 1.0:
        return adapter.path
    config = orjson.loads((adapter.path / peft.CONFIG).read_bytes())
    config["lora_alpha"] *= adapter.scale
    return write_variant(adapter, f"scaled-{adapter.scale:g}", config)


def write_variant(adapter: AdapterScale, name: str, config: Mapping[str, Any]) -> Path:
    """Return the folder ``name`` in the adapter's, with the same weights and another configuration. An existing folder
    is returned unchanged.
    """
    path = adapter.path / name
    if path.is_dir():
        return path
    draft = adapter.path / f".{uuid4().hex}.new"
    try:
        draft.mkdir()
        (draft / peft.CONFIG).write_bytes(orjson.dumps(config))
        os.link(adapter.path / peft.WEIGHTS, draft / peft.WEIGHTS)
        draft.rename(path)
    except OSError:
        # Another process may have written the folder meanwhile.
        if not path.is_dir():
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return path


def usable_adapters(
    name: str, adapters: Sequence[AdapterScale], looks: Callable[[AdapterScale], object]
) -> list[AdapterScale]:
    """Return the adapters that ``looks`` accepts without an exception; log the others."""
    adapter_scales = []
    for adapter in adapters:
        try:
            looks(adapter)
        except PorticoError as error:
            logger.error("skipping the adapter %s of %s: %s", adapter.name, name, error.message)
        else:
            adapter_scales.append(adapter)
    return adapter_scales


def linear_layers(base: Path) -> list[str]:
    """Return the names of the modules in ``base`` whose weights are matrices; empty if they cannot be determined."""
    return [
        name.removesuffix(".weight")
        for name, shape in _shapes(base).items()
        if name.endswith(".weight") and len(shape) == 2
    ]


_LAYER = re.compile(r"(?:^|\.)layers\.(\d{1,6})\.")


def _layer(module: str) -> int:
    """Return the index of the layer that contains a module or tensor, or -1 if it is outside the layers."""
    match = _LAYER.search(module)
    return int(match[1]) if match else -1


def _shapes(base: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the model's tensors by name; empty if their storage format is not supported."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(base.glob("*.safetensors")):
        try:
            tensors = peft.read_safetensors(path).tensors
        except PorticoError:
            continue  # starting the engine reports what is wrong with the file
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
    return shapes


def _bad(adapter: AdapterScale, problem: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter '{adapter.name}' {problem}.", code="adapter_invalid", param="path")
