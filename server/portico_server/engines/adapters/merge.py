"""An adapter folded into its model: a folder of safetensors that needs the adapter no more. Blocks.

Source: Hu et al. 2021, section 4.1: W = W₀ + scaling · B · A.
"""

from __future__ import annotations

import errno
import os
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from portico_server.core.errors import Conflict, InvalidRequest, Unavailable
from portico_server.engines.adapters import peft, safetensors
from portico_server.engines.adapters.peft import Pair, Peft
from portico_server.engines.adapters.safetensors import Safetensors

if TYPE_CHECKING:
    from portico_server.engines.adapters.safetensors import Array

_CHUNK = 8 * 1024 * 1024

_LEFT_OUT = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
"""Ends of files that hold weights: those that are not read here would not agree with the result."""


def merge(base: Path, adapter: Path, target: Path, *, scale: float = 1.0) -> None:
    """Write the model in the folder ``base`` with a PEFT adapter folded in to the new folder ``target``, whole or not
    at all. Numbers keep the format that they have in ``base``; one tensor at a time is in memory.

    Raises `InvalidRequest` if the adapter does not fit or the model is quantised, `Conflict` if ``target`` is there,
    `Unavailable` if the disk is full.
    """
    found = peft.read(adapter)
    if target.exists():
        raise Conflict(f"There is a {target} already. Choose another place, or remove it.", param="target")
    shards = [safetensors.read(path) for path in sorted(base.glob("*.safetensors"))]
    pairs = {_weight(shards, found, pair): pair for pair in found.pairs}
    draft = target.with_name(f".{target.name}.{uuid4().hex}.new")
    try:
        draft.mkdir(parents=True)
        for path in base.iterdir():
            if path.is_file() and path.suffix not in _LEFT_OUT:
                shutil.copyfile(path, draft / path.name)
        for shard in shards:
            _write(shard, found, pairs, draft / shard.path.name, scale)
        draft.rename(target)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else error.strerror or str(error)
        raise Unavailable(
            f"The merged model cannot be written to {target}: {reason}.",
            code="disk_full" if full else "unavailable",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _weight(shards: list[Safetensors], adapter: Peft, pair: Pair) -> str:
    """The name of the tensor that a pair is added to."""
    name = f"{pair.module}.weight"
    tensor = next((shard.tensors[name] for shard in shards if name in shard.tensors), None)
    if tensor is None:
        raise InvalidRequest(
            f"The adapter {adapter.folder} adapts '{pair.module}', which the model does not have as plain weights. "
            "Merge it into the original model, which is not quantised.",
            code="adapter_invalid",
            param="base",
        )
    if tensor.dtype not in safetensors.WIDTHS or tensor.shape != (pair.outputs, pair.inputs):
        raise InvalidRequest(
            f"The adapter {adapter.folder} does not fit: '{name}' is {list(tensor.shape)} of {tensor.dtype} in the "
            f"model, and {[pair.outputs, pair.inputs]} in it.",
            code="adapter_invalid",
            param="base",
        )
    return name


def _write(shard: Safetensors, adapter: Peft, pairs: dict[str, Pair], path: Path, scale: float) -> None:
    """A file with the same tensors in the same order and format."""
    with shard.path.open("rb") as source, path.open("wb") as made:
        (length,) = struct.unpack("<Q", source.read(8))
        made.write(struct.pack("<Q", length) + source.read(length))
        made.truncate(shard.size)
        for name, tensor in shard.tensors.items():
            made.seek(tensor.start)
            pair = pairs.get(name)
            if pair is not None:
                merged = shard.array(name) + _delta(adapter, pair, scale)
                made.write(safetensors.packed(merged, tensor.dtype))
                continue
            source.seek(tensor.start)
            left = tensor.end - tensor.start
            while left:
                data = source.read(min(left, _CHUNK))
                made.write(data)
                left -= len(data)
        made.flush()
        os.fsync(made.fileno())


def _delta(adapter: Peft, pair: Pair, scale: float) -> Array:
    import numpy as np

    a, b = adapter.file.array(pair.a), adapter.file.array(pair.b)
    delta: Array = np.float32(scale * pair.scaling) * (b @ a)
    return delta
