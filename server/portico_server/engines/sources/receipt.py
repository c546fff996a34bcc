"""What a finished fetch left behind: which files, how large, with which hash, from which commit."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NAME = "fetched.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """One file: its size in bytes and its SHA-256 in hex, empty where the source names none."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """``path`` is what to open, relative to the source's folder (``.`` is the folder itself)."""

    path: str
    revision: str
    files: dict[str, Kept] = field(default_factory=dict)


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


def write_receipt(folder: Path, file: str, receipt: Receipt) -> Path:
    """Record a finished fetch, atomically, and return what to open. The caller holds the folder's lock."""
    entries = _entries(folder)
    entries[file] = asdict(receipt)
    fresh = folder / f".{_NAME}.new"
    fresh.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    os.replace(fresh, folder / _NAME)
    return folder / receipt.path


def _entries(folder: Path) -> dict[str, Any]:
    # A damaged record is as good as none: the files are looked at again, or fetched again.
    try:
        entries = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
