"""The parts of a home folder that a backup contains, and the names of the archive's entries."""

from __future__ import annotations

import re
from typing import Final

FORMAT: Final = "portico-backup"

VERSION: Final = 1
"""Version of the archive format. Increment it whenever older versions of Portico cannot read new archives."""

DATABASE: Final = "portico.db"

BLOBS: Final = "blobs"
ARTIFACTS: Final = "artifacts"
"""Folder of artifacts. A backup includes the blobs and artifacts that the database refers to, each below the first two
digits of its digest.
"""

FOLDERS: Final = ("adapters", "finetuned")
"""Folders that are included as a whole, because their contents cannot be downloaded or created again."""

MODELS: Final = "models"
"""Folder of model files, included only on request, because they can be downloaded again."""

DERIVED: Final = (
    "indexes",
    "sources",
    "environments",
    "unpacked",
    "logs",
    "finetune",
    "jobs",
    "prompts",
    "cache",
)
"""Folders that are never included. Their contents are rebuilt or downloaded again, or are temporary files of training,
which restarts, and of scheduler jobs.
"""

_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")

_DIGEST = re.compile(r"(blobs/[0-9a-f]{2}/[0-9a-f]{62}|artifacts/[0-9a-f]{2}/[0-9a-f]{64})")


def blob(sha256: str) -> str:
    """Return the entry name of a file that was uploaded or read from a source."""
    return f"{BLOBS}/{sha256[:2]}/{sha256[2:]}"


def artifact(sha256: str) -> str:
    """Return the entry name of an artifact."""
    return f"{ARTIFACTS}/{sha256[:2]}/{sha256}"


def belongs(name: str) -> bool:
    """Return whether an archive may contain an entry of this name, so that every entry is unpacked to its place in the
    home.
    """
    if name == DATABASE or _DIGEST.fullmatch(name):
        return True
    top, *parts = name.split("/")
    return (
        top in (*FOLDERS, MODELS)
        and 0 < len(parts) <= 32
        and len(name) <= 4_096
        and all(_PART.fullmatch(part) for part in parts)
    )
