"""The header of a GGUF file, read with the standard library and within limits.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little-endian).
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, Unavailable

Scalar = int | float | bool | str

MAGIC = b"GGUF"

SHARD = re.compile(r"^(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
"""File name pattern of one part of a model that is split into several files."""

FILE_CUT_CODE = "model_file_cut"
"""Error code for a file that ends within its header."""

_MAX_ENTRIES = 65_536
_MAX_TENSORS = 1_048_576
_MAX_STRING = 16 * 1024 * 1024
_MAX_STRING_BYTES = 64 * 1024
_MAX_ITEMS = 16_777_216
_KEPT_ITEMS = 4096
_MAX_DEPTH = 3

_STRING, _ARRAY = 8, 9
_FORMATS: dict[int, struct.Struct] = {
    kind: struct.Struct(f"<{code}")
    for kind, code in {
        0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
    }.items()
}  # fmt: skip
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")

# ggml type -> (name, elements per block, bytes per block)
_TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110), 12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136), 24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8),
    28: ("F64", 1, 8), 29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66), 39: ("MXFP4", 32, 17),
}  # fmt: skip

# general.file_type, as llama.cpp numbers it
_FILE_TYPES: dict[int, str] = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
    12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
    19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
    26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
    36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4",
}  # fmt: skip

_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "olmo2": 4}
"""For each architecture, n: every n-th layer keeps every token; the other layers keep a sliding window
(``set_swa_pattern`` in llama.cpp's ``src/llama-model.cpp``).
"""

_POOLING = {0: "none", 1: "mean", 2: "cls", 3: "last", 4: "rank"}


@dataclass(frozen=True, slots=True)
class Gguf:
    """A GGUF header. Counts are 0 and names are empty if the file does not specify them."""

    architecture: str
    name: str
    kind: str
    """``model``, ``adapter``, ``mmproj`` …"""
    context_length: int
    """Number of tokens for which the model was trained."""
    embedding_length: int
    """Width of a hidden state, and dimension of an embedding."""
    block_count: int
    head_count: int
    head_count_kv: int
    vocabulary: int
    chat_template: bool
    pooling: str
    """``none``, ``mean``, ``cls``, ``last`` or ``rank``; empty for a generative model."""
    quantisation: str
    parameters: int
    tensors: int
    split_count: int
    """Number of files into which the model is split; 1 for a single file."""
    end_offset: int
    """Minimum size of a complete file, in bytes: the end of the last tensor."""
    file_size: int
    values: Mapping[str, Scalar]
    """Every scalar and short string of the header, by key."""
    layer_heads: tuple[int, ...] = ()
    """Number of key-value heads of each layer, if the layers differ; 0 for a layer without a cache."""

    @property
    def truncated(self) -> bool:
        """Return whether the file ends before its last tensor."""
        return self.file_size < self.end_offset

    @property
    def kv_bytes_per_token(self) -> int:
        """Return the bytes of one token of context in a 16-bit key-value cache.

        Counts only the layers that keep every token.
        """
        return sum(self._heads_that_keep()) * self._head_bytes

    @property
    def window_tokens(self) -> int:
        """Return how many tokens layers with a sliding window keep; 0 for a model without such layers."""
        window = self._number("attention.sliding_window")
        return window if window and self._full_every() > 1 else 0

    @property
    def window_bytes_per_token(self) -> int:
        """Return the bytes of one token in the cache of the layers with a sliding window."""
        if not self.window_tokens:
            return 0
        return sum(self._heads()) * self._head_bytes - self.kv_bytes_per_token

    @property
    def state_bytes(self) -> int:
        """Return the bytes that each call needs for the 32-bit states of layers without a cache (Mamba, linear
        attention).
        """
        inner, depth = self._number("ssm.inner_size"), self._number("ssm.state_size")
        mixed_width = inner + 2 * self._number("ssm.group_count") * depth
        layer = inner * depth + max(0, self._number("ssm.conv_kernel") - 1) * mixed_width
        return 4 * layer * max(0, self.block_count - sum(1 for heads in self._heads_that_keep() if heads))

    def _number(self, key: str) -> int:
        value = self.values.get(f"{self.architecture}.{key}")
        return value if isinstance(value, int) and value > 0 else 0

    @property
    def _head_bytes(self) -> int:
        if not self.head_count:
            return 0
        latent = self._number("attention.kv_lora_rank")
        if latent and self.head_count_kv == 1:  # the cache has one small vector instead of keys and values
            return 2 * (latent + self._number("rope.dimension_count"))
        width = self.embedding_length // self.head_count
        return 2 * sum(self._number(f"attention.{part}_length") or width for part in ("key", "value"))

    def _heads(self) -> tuple[int, ...]:
        """Return the number of key-value heads of each layer that has its own cache."""
        heads = self.layer_heads or (self.head_count_kv,) * self.block_count
        return heads[: len(heads) - self._number("attention.shared_kv_layers")]

    def _full_every(self) -> int:
        return self._number("attention.sliding_window_pattern") or _FULL_EVERY.get(self.architecture, 1)

    def _heads_that_keep(self) -> tuple[int, ...]:
        heads = self._heads()
        interval = self._number("full_attention_interval")
        if not interval and self._number("attention.sliding_window"):
            interval = self._full_every()
        return heads[interval - 1 :: interval] if interval > 1 and not self.layer_heads else heads


def read_gguf(path: Path) -> Gguf:
    """Read a header. Raise `NotFound`, or `InvalidRequest` if a file is not GGUF or is damaged.

    A file that is truncated after its header is still read, with ``truncated`` set.
    """
    try:
        file_state = path.stat()
        return _read(path, file_state.st_size, file_state.st_mtime_ns)
    except FileNotFoundError as error:
        raise NotFound(
            f"The model file {path} does not exist.", code="model_file_missing", param="source"
        ) from error
    except OSError as error:
        raise Unavailable(f"The model file {path} cannot be read: {error.strerror or error}.") from error


@lru_cache(maxsize=32)
def _read(path: Path, size: int, _modified_ns: int) -> Gguf:
    """Read each version of a file only once. A large vocabulary takes 0.1 s, and a model's start reads its header
    several times.
    """
    with path.open("rb", buffering=1024 * 1024) as file:
        return _Reader(file, path, size).read()


def parts(path: Path) -> tuple[Path, ...]:
    """Return the files of a split model to which ``path`` belongs, or ``path`` alone if the model is not split."""
    match = SHARD.match(path.name)
    if match is None:
        return (path,)
    return tuple(
        path.with_name(f"{match['stem']}-{number:05d}-of-{match['count']}{path.suffix}")
        for number in range(1, int(match["count"]) + 1)
    )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the dimensions of a file's tensors by name, innermost first. Raises the same errors as `read_gguf`."""
    size = read_gguf(path).file_size
    with path.open("rb", buffering=1024 * 1024) as file:
        reader = _Reader(file, path, size)
        reader.read()
        return reader.shapes


def read_header(data: bytes, path: Path, size: int) -> Gguf:
    """Read a header from the first bytes of a file of ``size`` bytes.

    Raise `InvalidRequest`, with the code `FILE_CUT_CODE` if ``data`` is too short.
    """
    return _Reader(io.BytesIO(data), path, size).read()


class _Reader:
    """A cursor over one file that rejects values that no real model has."""

    def __init__(self, file: BinaryIO, path: Path, size: int) -> None:
        self._file = file
        self._path = path
        self._size = size
        self._items = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Shapes of the tensors by name, once they are read."""

    def read(self) -> Gguf:
        if self._take(4) != MAGIC:
            raise self._bad("does not begin with 'GGUF'. Use a GGUF file, or a folder with safetensors")
        version = self._u32()
        if version not in (2, 3):
            raise self._bad(
                f"has GGUF version {version}, but 2 or 3 (little-endian) is expected; convert it again"
            )
        tensor_count, entry_count = self._u64(), self._u64()
        if tensor_count > _MAX_TENSORS or entry_count > _MAX_ENTRIES:
            raise self._bad(f"claims {tensor_count} tensors and {entry_count} header entries: it is damaged")
        values: dict[str, Scalar] = {}
        arrays: dict[str, tuple[int, tuple[Scalar, ...]]] = {}
        for _ in range(entry_count):
            key = self._string(_MAX_STRING_BYTES)
            kind = self._u32()
            if kind == _ARRAY:
                arrays[key] = self._array(1)
            else:
                value = self._value(kind)
                if value is not None:
                    values[key] = value
                elif key == "tokenizer.chat_template":
                    values[key] = "…"  # too long to keep, and only its presence matters
        return self._summary(tensor_count, values, arrays)

    def _summary(
        self,
        tensor_count: int,
        values: dict[str, Scalar],
        arrays: dict[str, tuple[int, tuple[Scalar, ...]]],
    ) -> Gguf:
        parameters, end, types = self._tensors(tensor_count, values)
        architecture = str(values.get("general.architecture", ""))

        def number(key: str) -> int:
            value = values.get(f"{architecture}.{key}")
            if value is None:  # some models have a value per layer; the largest value is used
                items = arrays.get(f"{architecture}.{key}", (0, ()))[1]
                value = max((item for item in items if isinstance(item, int)), default=0)
            return value if isinstance(value, int) else 0

        pooling = values.get(f"{architecture}.pooling_type")
        file_type = values.get("general.file_type")
        heads = number("attention.head_count")
        return Gguf(
            architecture=architecture,
            name=str(values.get("general.name", "")),
            kind=str(values.get("general.type", "model")),
            context_length=number("context_length"),
            embedding_length=number("embedding_length"),
            block_count=number("block_count"),
            head_count=heads,
            head_count_kv=number("attention.head_count_kv") or heads,
            vocabulary=arrays.get("tokenizer.ggml.tokens", (0, ()))[0],
            chat_template="tokenizer.chat_template" in values,
            pooling=_POOLING.get(pooling, "") if isinstance(pooling, int) else "",
            quantisation=(_FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "")
            or max(types, key=lambda name: types[name], default=""),
            parameters=parameters,
            tensors=tensor_count,
            split_count=max(1, int(values.get("split.count", 1) or 1)),
            end_offset=end,
            file_size=self._size,
            values=values,
            layer_heads=tuple(
                item
                for item in arrays.get(f"{architecture}.attention.head_count_kv", (0, ()))[1]
                if isinstance(item, int)
            ),
        )

    def _tensors(self, count: int, values: Mapping[str, Scalar]) -> tuple[int, int, dict[str, int]]:
        """Return the number of parameters, the end of the last tensor in the file, and the number of elements of each
        type.
        """
        parameters, last = 0, 0
        types: dict[str, int] = {}
        for _ in range(count):
            tensor_name = self._string(_MAX_STRING_BYTES)
            dimensions = self._u32()
            if dimensions > 4:
                raise self._bad(f"has a tensor of {dimensions} dimensions: it is damaged")
            elements = 1
            shape = self.shapes[tensor_name] = tuple(self._u64() for _ in range(dimensions))
            for length in shape:
                elements *= length
            kind, offset = self._u32(), self._u64()
            if elements > 1 << 48 or offset > 1 << 56:
                raise self._bad("has a tensor larger than any machine's memory: it is damaged")
            # The size of a tensor whose type is newer than this table is unknown, but its offset is still
            # checked.
            name, block, size = _TENSOR_TYPES.get(kind, (f"type {kind}", 1, 0))
            parameters += elements
            types[name] = types.get(name, 0) + elements
            last = max(last, offset + -(-elements // block) * size)
        alignment = values.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
            raise self._bad(f"has the alignment {alignment}: it is damaged")
        start = -(-self._file.tell() // alignment) * alignment
        return parameters, start + last if count else self._file.tell(), types

    def _value(self, kind: int) -> Scalar | None:
        """Return a scalar, or None for a string that is too long to keep."""
        if kind == _STRING:
            length = self._u64()
            if length > _MAX_STRING_BYTES:
                self._skip(length, _MAX_STRING)
                return None
            return self._take(length).decode("utf-8", "replace")
        layout = _FORMATS.get(kind)
        if layout is None:
            raise self._bad(f"has a header value of the unknown type {kind}: it is damaged or too new")
        value: Scalar = layout.unpack(self._take(layout.size))[0]
        return value

    def _array(self, depth: int) -> tuple[int, tuple[Scalar, ...]]:
        """Return the array's length, and its values if it is a short array of numbers; skip all other values."""
        kind, count = self._u32(), self._u64()
        self._items += count
        if self._items > _MAX_ITEMS or depth > _MAX_DEPTH:
            raise self._bad(f"has a header array of {count} values: it is damaged")
        if kind == _ARRAY:
            for _ in range(count):
                self._array(depth + 1)
            return count, ()
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._u64(), _MAX_STRING)
            return count, ()
        layout = _FORMATS.get(kind)
        if layout is None:
            raise self._bad(f"has a header array of the unknown type {kind}: it is damaged or too new")
        if count > _KEPT_ITEMS:
            self._skip(count * layout.size, self._size)
            return count, ()
        data = self._take(count * layout.size)
        return count, tuple(item for (item,) in layout.iter_unpack(data))

    def _string(self, limit: int) -> str:
        length = self._u64()
        if length > limit:
            raise self._bad(f"has a name of {length} bytes: it is damaged")
        return self._take(length).decode("utf-8", "replace")

    def _u32(self) -> int:
        return int(_U32.unpack(self._take(4))[0])

    def _u64(self) -> int:
        return int(_U64.unpack(self._take(8))[0])

    def _take(self, count: int) -> bytes:
        data = self._file.read(count)
        if len(data) < count:
            raise self._cut()
        return data

    def _skip(self, count: int, limit: int) -> None:
        if count > limit:
            raise self._bad(f"has a header value of {count} bytes: it is damaged")
        if count <= 256:  # for the many short tokens, reading from the buffer is cheaper than seeking
            self._take(count)
        elif self._file.seek(count, 1) > self._size:
            raise self._cut()

    def _cut(self) -> InvalidRequest:
        error = self._bad("ends in the middle of its header: it is truncated. Fetch it again")
        error.code = FILE_CUT_CODE
        return error

    def _bad(self, problem: str) -> InvalidRequest:
        return InvalidRequest(
            f"The model file {self._path} {problem}.", code="model_file_invalid", param="source"
        )
