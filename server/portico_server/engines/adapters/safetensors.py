"""Safetensors files: the header, checked, and tensors as NumPy arrays.

Format: https://huggingface.co/docs/safetensors (eight bytes of length, a JSON header, raw little-endian numbers).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from portico_server.core.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

HEADER_LIMIT = 32 * 1024 * 1024
"""Bytes that a header may have."""

WIDTHS: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
"""Bytes of one number in the formats that are read as tensors."""

_OTHER_WIDTHS: Mapping[str, int] = {
    "F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where a tensor lies: ``start`` and ``end`` are bytes from the beginning of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True, slots=True)
class Safetensors:
    """A file's tensors by name, in the order of the header, and its metadata."""

    path: Path
    size: int
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def array(self, name: str) -> Array:
        """A tensor as float32, whatever it is kept as. Blocks. Raises `InvalidRequest` for other formats."""
        tensor = self.tensors[name]
        if tensor.dtype not in WIDTHS:
            raise _bad(self.path, f"has '{name}' as {tensor.dtype}; expected {', '.join(WIDTHS)}")
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.end - tensor.start)
        return floats(data, tensor.dtype).reshape(tensor.shape)


def floats(data: bytes, dtype: str) -> Array:
    """Raw little-endian numbers as float32."""
    import numpy as np

    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32, copy=True)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    # bfloat16 is the upper half of a float32.
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def packed(array: Array, dtype: str) -> bytes:
    """The reverse of `floats`; bfloat16 is rounded to the nearest, ties to even."""
    import numpy as np

    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    bits = np.ascontiguousarray(array, "<f4").view(np.uint32)
    rounded = bits + 0x7FFF + ((bits >> 16) & 1)
    return (rounded >> 16).astype("<u2").tobytes()


def read(path: Path) -> Safetensors:
    """Read a header. Raises `NotFound`, or `InvalidRequest` for a file that is damaged or cut short."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise _bad(path, "has no header of a credible length: it is damaged or of another kind")
            data = file.read(length)
    except FileNotFoundError as error:
        raise NotFound(f"There is no file {path}.", code="model_file_missing", param="path") from error
    except OSError as error:
        raise Unavailable(f"The file {path} cannot be read: {error.strerror or error}.") from error
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _bad(path, f"has a header that is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _bad(path, "has a header that is not a JSON object")
    metadata = document.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _bad(path, "has metadata that is not a JSON object")
    begin = 8 + length
    tensors = {name: _tensor(path, name, value, begin, size) for name, value in document.items()}
    last = max((tensor.end for tensor in tensors.values()), default=begin)
    if last != size:
        raise _bad(path, f"has {size} bytes, but its tensors end at {last}: it was cut short or changed")
    return Safetensors(path, size, tensors, {str(key): str(value) for key, value in metadata.items()})


def _tensor(path: Path, name: str, value: Any, begin: int, size: int) -> Tensor:
    try:
        dtype, shape, (start, end) = str(value["dtype"]), tuple(value["shape"]), value["data_offsets"]
        whole = all(isinstance(number, int) and number >= 0 for number in (*shape, start, end))
    except (KeyError, TypeError, ValueError) as error:
        raise _bad(path, f"describes the tensor '{name[:80]}' in a way that is not understood") from error
    width = WIDTHS.get(dtype) or _OTHER_WIDTHS.get(dtype)
    if not whole or len(shape) > 8 or width is None:
        raise _bad(path, f"describes the tensor '{name[:80]}' in a way that is not understood")
    found = Tensor(dtype, shape, begin + start, begin + end)
    if found.end > size or end - start != found.elements * width:
        raise _bad(path, f"has the tensor '{name[:80]}' cut short or of another size than it says")
    return found


def _bad(path: Path, what: str) -> InvalidRequest:
    return InvalidRequest(f"The file {path} {what}.", code="model_file_invalid", param="path")
