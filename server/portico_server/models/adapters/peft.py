"""Reads and validates LoRA adapters in PEFT's format: a folder with safetensors."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float32]


# Safetensors files: a validated header, and tensors read as NumPy arrays. Format:
# https://huggingface.co/docs/safetensors (eight bytes with the length of the header, a JSON header, raw
# little-endian numbers).


MAX_HEADER_BYTES = 32 * 1024 * 1024
"""Maximum size of the header of a safetensors file, in bytes."""

FLOAT_WIDTHS: Mapping[str, int] = {"F32": 4, "F16": 2, "BF16": 2}
"""Number of bytes per number in the supported tensor formats."""

_OTHER_WIDTHS: Mapping[str, int] = {
    "F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2, "I8": 1, "U8": 1, "BOOL": 1,
    "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """The position of a tensor in a file. ``start`` and ``end`` are counted in bytes from the beginning of the file."""

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
        """Return a tensor as float32, converted from its stored format. Blocks. Raises `InvalidRequest` for
        unsupported formats.
        """
        tensor = self.tensors[name]
        if tensor.dtype not in FLOAT_WIDTHS:
            raise _invalid_file(
                self.path, f"has '{name}' as {tensor.dtype}; expected {', '.join(FLOAT_WIDTHS)}"
            )
        with self.path.open("rb") as file:
            file.seek(tensor.start)
            data = file.read(tensor.end - tensor.start)
        return as_floats(data, tensor.dtype).reshape(tensor.shape)


def as_floats(data: bytes, dtype: str) -> Array:
    """Convert raw little-endian numbers to float32."""
    import numpy as np

    if dtype == "F32":
        return np.frombuffer(data, "<f4").astype(np.float32, copy=True)
    if dtype == "F16":
        return np.frombuffer(data, "<f2").astype(np.float32)
    # bfloat16 is the upper half of a float32.
    return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)


def pack_floats(array: Array, dtype: str) -> bytes:
    """Convert float32 to raw numbers, the reverse of `as_floats`. bfloat16 is rounded to the nearest value, ties
    to even.
    """
    import numpy as np

    if dtype == "F32":
        return array.astype("<f4").tobytes()
    if dtype == "F16":
        return array.astype("<f2").tobytes()
    bits = np.ascontiguousarray(array, "<f4").view(np.uint32)
    ndarray = bits + 0x7FFF + ((bits >> 16) & 1)
    return (ndarray >> 16).astype("<u2").tobytes()


def read_safetensors(path: Path) -> Safetensors:
    """Read the header of a safetensors file. Raises `NotFound`, or `InvalidRequest` for a damaged or truncated file."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise _invalid_file(
                    path, "has a header with an implausible length: it is damaged or has another format"
                )
            data = file.read(length)
    except FileNotFoundError as error:
        raise NotFound(f"The file {path} does not exist.", code="model_file_missing", param="path") from error
    except OSError as error:
        raise Unavailable(f"The file {path} cannot be read: {error.strerror or error}.") from error
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _invalid_file(path, f"has a header that is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise _invalid_file(path, "has a header that is not a JSON object")
    metadata = document.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        raise _invalid_file(path, "has metadata that is not a JSON object")
    begin = 8 + length
    tensors = {name: _tensor(path, name, value, begin, size) for name, value in document.items()}
    last = max((tensor.end for tensor in tensors.values()), default=begin)
    if last != size:
        raise _invalid_file(
            path, f"has {size} bytes, but its tensors end at {last}: it was truncated or changed"
        )
    return Safetensors(path, size, tensors, {str(key): str(value) for key, value in metadata.items()})


def _tensor(path: Path, name: str, value: Any, begin: int, size: int) -> Tensor:
    try:
        dtype, shape, (start, end) = str(value["dtype"]), tuple(value["shape"]), value["data_offsets"]
        is_whole = all(isinstance(number, int) and number >= 0 for number in (*shape, start, end))
    except (KeyError, TypeError, ValueError) as error:
        raise _invalid_file(path, f"describes the tensor '{name[:80]}' in an unsupported way") from error
    width = FLOAT_WIDTHS.get(dtype) or _OTHER_WIDTHS.get(dtype)
    if not is_whole or len(shape) > 8 or width is None:
        raise _invalid_file(path, f"describes the tensor '{name[:80]}' in an unsupported way")
    tensor = Tensor(dtype, shape, begin + start, begin + end)
    if tensor.end > size or end - start != tensor.elements * width:
        raise _invalid_file(
            path, f"has a truncated tensor '{name[:80]}', or one whose size differs from the header"
        )
    return tensor


def _invalid_file(path: Path, problem: str) -> InvalidRequest:
    return InvalidRequest(f"The file {path} {problem}.", code="model_file_invalid", param="path")


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

MAX_CONFIG_BYTES = 1024 * 1024
"""Maximum size of an ``adapter_config.json``, in bytes."""

_KEY = re.compile(r"base_model\.model\.(?P<module>[A-Za-z0-9_.]+)\.lora_(?P<side>[AB])\.weight")
_PATTERN = re.compile(r"\^?[A-Za-z0-9_.]+")

_UNSUPPORTED: Mapping[str, str] = {
    "use_dora": "DoRA",
    "lora_bias": "biases",
    "modules_to_save": "additional whole modules (modules_to_save)",
    "target_parameters": "adapted parameters (target_parameters)",
    "trainable_token_indices": "trained tokens (trainable_token_indices)",
    "alora_invocation_tokens": "activated LoRA (alora_invocation_tokens)",
    "use_qalora": "QA-LoRA",
    "layer_replication": "replicated layers (layer_replication)",
    "fan_in_fan_out": "transposed weights (fan_in_fan_out)",
    "megatron_config": "Megatron's layers",
}
"""Features of adapters that consist of more than two matrices per linear layer, which are not supported."""


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The two matrices of one linear layer: A has ``rank`` × ``inputs`` numbers, and B has ``outputs`` × ``rank``.

    ``scaling`` · B · A is added to the layer's weights.
    """

    module: str
    rank: int
    inputs: int
    outputs: int
    scaling: float
    a: str
    b: str


@dataclass(frozen=True, slots=True)
class PeftAdapter:
    """A LoRA adapter. ``base`` is the model that the adapter's configuration names, which is not verified."""

    folder: Path
    base: str
    rank: int
    alpha: float
    rslora: bool
    patterned: bool
    """True if some layers have a different rank or alpha."""
    pairs: tuple[LoraPair, ...]
    file: Safetensors

    @property
    def targets(self) -> tuple[str, ...]:
        """The names of the adapted layers, without their positions in the model."""
        return tuple(sorted({pair.module.rpartition(".")[2] for pair in self.pairs}))

    @property
    def highest_rank(self) -> int:
        return max(pair.rank for pair in self.pairs)


def read_peft(folder: Path) -> PeftAdapter:
    """Read the configuration of an adapter and the header of its weights. Blocks. Raises `InvalidRequest`, or
    `NotFound`.
    """
    if not folder.is_dir():
        raise NotFound(
            f"No adapter found at {folder}. Specify the folder that PEFT wrote, with {CONFIG} and {WEIGHTS}, "
            "or a .gguf file.",
            code="adapter_not_found",
            param="path",
        )
    weights = folder / WEIGHTS
    if not weights.is_file():
        if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
            raise _invalid_adapter(
                folder,
                "has its weights as a pickle, which can run code and is never loaded. Save them as "
                f"{WEIGHTS} (PEFT: safe_serialization=True)",
            )
        raise _invalid_adapter(folder, f"has no {WEIGHTS}")
    config = _config(folder)
    _only_lora(folder, config)
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_integer(rank) or not isinstance(alpha, int | float) or isinstance(alpha, bool) or alpha <= 0:
        raise _invalid_adapter(
            folder, "needs 'r' (a whole number above 0) and 'lora_alpha' (a number above 0)"
        )
    assert isinstance(rank, int)
    file = read_safetensors(weights)
    ranks = _patterns(folder, config, "rank_pattern")
    alphas = _patterns(folder, config, "alpha_pattern")
    rslora = config.get("use_rslora") is True
    pairs = []
    for module, sides in _modules(folder, file).items():
        own_rank = _value_of(ranks, module, rank)
        own_alpha = _value_of(alphas, module, alpha)
        scaling = own_alpha / (math.sqrt(own_rank) if rslora else own_rank)
        pairs.append(_pair(folder, file, module, sides, int(own_rank), scaling))
    return PeftAdapter(
        folder,
        str(config.get("base_model_name_or_path") or ""),
        rank,
        float(alpha),
        rslora,
        bool(ranks or alphas),
        tuple(pairs),
        file,
    )


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise _invalid_adapter(folder, f"has no {CONFIG}")
    with path.open("rb") as file:
        data = file.read(MAX_CONFIG_BYTES + 1)
    try:
        document = orjson.loads(data) if len(data) <= MAX_CONFIG_BYTES else None
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise _invalid_adapter(folder, f"has a {CONFIG} that is not a JSON object")
    return document


def _only_lora(folder: Path, config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise _invalid_adapter(folder, f"is of the kind {kind!r}; only LORA adapters are supported")
    for field, words in _UNSUPPORTED.items():
        if config.get(field):
            raise _invalid_adapter(
                folder,
                f"uses {words}, which is not supported. Train with plain LoRA, or merge the adapter into "
                "its model",
            )
    if config.get("bias") not in (None, "none"):
        raise _invalid_adapter(folder, "trains biases, which is not supported. Train with bias='none'")


def _modules(folder: Path, file: Safetensors) -> dict[str, dict[str, str]]:
    """Return the adapted modules, each with the names of its two tensors."""
    modules: dict[str, dict[str, str]] = {}
    for name in file.tensors:
        match = _KEY.fullmatch(name)
        if match is None:
            if "magnitude" in name:
                problem = "of DoRA"
            elif "embedding" in name or "embed_tokens" in name:
                problem = "of an adapted embedding, which is not supported"
            else:
                problem = "that is not half of a LoRA pair"
            raise _invalid_adapter(folder, f"has a tensor '{name[:120]}' {problem}")
        modules.setdefault(match["module"], {})[match["side"]] = name
    if not modules:
        raise _invalid_adapter(folder, "has no tensors")
    return modules


def _pair(
    folder: Path, file: Safetensors, module: str, sides: Mapping[str, str], rank: int, scaling: float
) -> LoraPair:
    if set(sides) != {"A", "B"}:
        raise _invalid_adapter(folder, f"has only one of the two matrices of '{module}'")
    a, b = file.tensors[sides["A"]], file.tensors[sides["B"]]
    if a.dtype not in FLOAT_WIDTHS or b.dtype not in FLOAT_WIDTHS:
        raise _invalid_adapter(folder, f"has '{module}' as {a.dtype}; expected {', '.join(FLOAT_WIDTHS)}")
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise _invalid_adapter(folder, f"adapts '{module}', which is not a linear layer")
    if a.shape[0] != rank or b.shape[1] != rank:
        raise _invalid_adapter(
            folder,
            f"has the matrices {list(a.shape)} and {list(b.shape)} for '{module}', but its configuration "
            f"specifies rank {rank}",
        )
    return LoraPair(module, rank, a.shape[1], b.shape[0], scaling, sides["A"], sides["B"])


def _patterns(folder: Path, config: Mapping[str, Any], field: str) -> dict[str, float]:
    patterns = config.get(field) or {}
    if not isinstance(patterns, dict):
        raise _invalid_adapter(folder, f"has a '{field}' that is not a JSON object")
    for name, value in patterns.items():
        if not _PATTERN.fullmatch(name):
            raise _invalid_adapter(
                folder, f"has the pattern '{name[:80]}' in '{field}': only layer names are supported"
            )
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise _invalid_adapter(
                folder, f"has {value!r} for '{name[:80]}' in '{field}'; expected a number above 0"
            )
    return patterns


def _value_of(patterns: Mapping[str, float], module: str, usual: float) -> float:
    """Return the value of the first pattern that equals the module's full name or its last parts, otherwise
    ``usual``.
    """
    for name, value in patterns.items():
        bare = name.removeprefix("^")
        if module == bare or (bare == name and module.endswith(f".{bare}")):
            return value
    return usual


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _invalid_adapter(folder: Path, problem: str) -> InvalidRequest:
    return InvalidRequest(f"The adapter {folder} {problem}.", code="adapter_invalid", param="path")
