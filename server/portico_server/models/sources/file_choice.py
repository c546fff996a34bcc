"""Chooses the files of a repository that make up the model. Pure functions of file names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, NotFound, nearest
from portico_server.models.gguf import SHARD

QUANTISATIONS = (
    "Q4_K_M", "Q4_K_S", "Q4_K_XL", "Q4_K_L", "Q4_K", "IQ4_XS", "IQ4_NL", "Q4_0", "Q4_1", "MXFP4",
    "Q5_K_M", "Q5_K_S", "Q5_K_L", "Q5_K_XL", "Q5_0", "Q5_1", "Q6_K", "Q6_K_L", "Q6_K_XL", "Q8_0", "Q8_K_XL",
    "Q3_K_L", "Q3_K_M", "Q3_K_XL", "Q3_K_S", "IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS",
    "BF16", "F16", "FP16", "F32", "Q2_K", "Q2_K_L", "Q2_K_XL", "IQ2_M",
)  # fmt: skip
"""Order of preference if a repository offers several: 4 bits keep most of the quality in a third of the memory."""

_QUANTISATION = re.compile(
    r"(?:^|[-._/])(I?Q\d(?:_[0-9A-Z]+)*|BF16|FP?16|F32|MXFP4)(?=[-._/]|$)", re.IGNORECASE
)
_MODULE = re.compile(r"^\d+_[A-Za-z]+/config\.json$")
PIPELINE_INDEX = "model_index.json"
"""Index file of a repository with an image model, whose parts are in one folder each."""

_PLAIN = re.compile(r"(?P<stem>[^.]+)(?P<variant>\.[A-Za-z0-9_]+)?(?P<shard>-\d{5}-of-\d{5})?\.safetensors")
_VARIANTS = ("", ".fp16", ".bf16")
"""Suffixes of weights that exist in several number formats, in order of preference."""

_CONFIGURATION = (".json", ".model", ".txt", ".jinja", ".tiktoken")


@dataclass(frozen=True, slots=True)
class FileChoice:
    """The files of a model.

    ``path`` is the path that an engine opens (``.`` for the whole folder); ``files`` are the required files.
    """

    path: str
    files: tuple[str, ...]


def choose_files(names: Iterable[str], wanted_file: str, source: object) -> FileChoice:
    """Choose a model's files by their names.

    The choice is ``wanted_file`` if it is set, otherwise the parts of an image model, otherwise the preferred GGUF
    file, otherwise all safetensors files.

    Raise `NotFound` with the nearest names, or `InvalidRequest` if no engine can open the files.
    """
    known_files = sorted(name for name in names if _relative(name))
    if wanted_file:
        if wanted_file not in known_files:
            hint = nearest(wanted_file, known_files) or _sample(known_files)
            raise NotFound(f"'{source}' has no file '{wanted_file}'.{hint}", param="source")
        return FileChoice(wanted_file, _shards(wanted_file, known_files, source))
    if PIPELINE_INDEX in known_files:
        return FileChoice(".", _parts(known_files, source))
    models = [name for name in known_files if _is_model(name)]
    if models:
        best = min(models, key=lambda name: (_rank(name), name))
        return FileChoice(best, _shards(best, known_files, source))
    weights = [name for name in known_files if name.endswith(".safetensors") and "/" not in name]
    if weights:
        return FileChoice(".", _folder(known_files, weights))
    is_pickled = any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in known_files)
    reason = " Portico never opens pickled weights, because they can run code." if is_pickled else ""
    raise InvalidRequest(
        f"'{source}' contains neither a GGUF nor a safetensors model.{reason} Look for a repository of the "
        "same model whose name ends in '-GGUF'.",
        code="model_file_invalid",
        param="source",
    )


def _is_model(name: str) -> bool:
    """Return whether a GGUF file is a model: not a projector, an importance matrix or a later part of a split model."""
    low = PurePosixPath(name).name.lower()
    shard = SHARD.match(name)
    first = shard is None or int(shard["number"]) == 1
    return (
        low.endswith(".gguf") and first and not low.startswith(("mmproj", "imatrix")) and "mmproj" not in low
    )


def _rank(name: str) -> int:
    quantisations = {item.upper() for item in _QUANTISATION.findall(name.removesuffix(".gguf"))}
    return min(
        (QUANTISATIONS.index(item) for item in quantisations if item in QUANTISATIONS),
        default=len(QUANTISATIONS),
    )


def _shards(name: str, known_files: list[str], source: object) -> tuple[str, ...]:
    shard = SHARD.match(name)
    if shard is None:
        return (name,)
    parts = tuple(
        f"{shard['stem']}-{number:05d}-of-{shard['count']}{name[-5:]}"
        for number in range(1, int(shard["count"]) + 1)
    )
    missing = [part for part in parts if part not in known_files]
    if missing:
        raise NotFound(
            f"'{source}' is split into {len(parts)} files, but '{missing[0]}' is missing.", param="source"
        )
    return parts


def _folder(known_files: list[str], weights: list[str]) -> tuple[str, ...]:
    # Some repositories contain the same weights twice, the second time in the vendor's own layout.
    plain = [name for name in weights if not name.startswith("consolidated")]
    other_files = [
        name
        for name in known_files
        if ("/" not in name and name.endswith(_CONFIGURATION) and not name.startswith("consolidated"))
        or _MODULE.match(name)
    ]
    return tuple(sorted({*(plain or weights), *other_files}))


def _parts(known_files: list[str], source: object) -> tuple[str, ...]:
    """Return the files of an image model's parts, without copies of the same weights in other formats or under other
    names.
    """
    folders: dict[str, list[str]] = {}
    for name in known_files:
        folder, slash, file = name.partition("/")
        if slash and "/" not in file:
            folders.setdefault(folder, []).append(file)
    kept_files = [PIPELINE_INDEX]
    for folder, files in folders.items():
        if not any(file.endswith(".json") for file in files):
            continue  # images on the model's web page, not parts of the model
        kept_files += [f"{folder}/{file}" for file in files if file.endswith(_CONFIGURATION)]
        kept_files += [f"{folder}/{file}" for file in _one_variant(files)]
    if not any(name.endswith(".safetensors") for name in kept_files):
        raise InvalidRequest(
            f"'{source}' contains a model in parts, but none of its weights are safetensors. Portico never "
            "opens pickled weights, because they can run code. Look for another repository of the same model.",
            code="model_file_invalid",
            param="source",
        )
    return tuple(sorted(kept_files))


def _one_variant(files: list[str]) -> list[str]:
    variant_matches = [(file, match) for file in files if (match := _PLAIN.fullmatch(file)) is not None]
    for variant in _VARIANTS:
        variant_files = [file for file, match in variant_matches if (match["variant"] or "") == variant]
        if variant_files:
            return variant_files
    return [file for file, _match in variant_matches]


def _relative(name: str) -> bool:
    """Return whether a file name from a hub stays inside the target folder."""
    path = PurePosixPath(name)
    return (
        bool(name)
        and not path.is_absolute()
        and ".." not in path.parts
        and "\\" not in name
        and "\0" not in name
    )


def _sample(known_files: list[str]) -> str:
    models = [name for name in known_files if name.endswith((".gguf", ".safetensors"))]
    return f" There are {', '.join(models[:5])}." if models else ""
