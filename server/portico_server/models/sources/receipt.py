"""The receipt of a finished download: its files with their sizes and hashes, and their commit."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Any

from portico_server.core.dataclass import dataclass

_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class ReceiptFile:
    """One file: its size in bytes and its SHA-256 in hex, empty if the source does not provide it."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class DownloadReceipt:
    """The record of a download.

    ``path`` is the path to open, relative to the source's folder (``.`` is the folder itself).
    """

    path: str
    revision: str
    files: Mapping[str, ReceiptFile] = field(default_factory=dict)


def read_receipt(folder: Path, file: str) -> Path | None:
    """Return the path that was fetched for ``file`` (empty for Portico's choice), if all its files still exist."""
    entry = _entries(folder).get(file)
    if not isinstance(entry, dict):
        return None
    path, files = entry.get("path"), entry.get("files")
    if not isinstance(path, str) or not isinstance(files, dict) or not files:
        return None
    for name, recorded_file in files.items():
        try:
            if (folder / name).stat().st_size != recorded_file["size"]:
                return None
        except (OSError, KeyError, TypeError):
            return None
    return folder / path


def receipt_of(folder: Path, file: str) -> DownloadReceipt | None:
    """Return the receipt of a fetch of ``file`` (empty for Portico's choice), if all its files still exist."""
    if read_receipt(folder, file) is None:
        return None
    entry = _entries(folder)[file]
    files = {name: ReceiptFile(**recorded_file) for name, recorded_file in entry["files"].items()}
    return DownloadReceipt(entry["path"], str(entry.get("revision") or ""), files)


def write_receipt(folder: Path, file: str, receipt: DownloadReceipt) -> Path:
    """Record a finished fetch atomically, and return the path to open. The caller holds the folder's lock."""
    entries = _entries(folder)
    entries[file] = asdict(receipt)
    fresh = folder / f".{_NAME}.new"
    fresh.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    os.replace(fresh, folder / _NAME)
    return folder / receipt.path


def drop_partial(folder: Path, receipt: DownloadReceipt) -> None:
    """Delete what unfinished fetches from any hub have left of files that are now complete."""
    for name in receipt.files:
        target = folder / name
        for path in target.parent.glob(f".{glob.escape(target.name)}.*"):
            if path.suffix in (".part", ".shared"):
                path.unlink(missing_ok=True)


def _entries(folder: Path) -> dict[str, Any]:
    # A damaged receipt counts as missing: the files are verified or fetched again.
    try:
        entries = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
