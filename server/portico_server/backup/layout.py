"""The parts of a home folder that a backup contains, and the names of its archive."""

from __future__ import annotations

import re
from typing import Final

FORMAT: Final = "portico-backup"

VERSION: Final = 1
"""Incremented whenever an older Portico cannot read what a newer version writes."""

DATABASE: Final = "portico.db"

BLOBS: Final = "blobs"
ARTIFACTS: Final = "artifacts"
"""Blobs and artifacts are selected by the references of the database, and stored under the first two digits of the
digest.
"""

FOLDERS: Final = ("adapters", "finetuned")
"""Folders that are kept whole, because their contents cannot be fetched or made again."""

MODELS: Final = "models"
"""Included on request only, because model files can be fetched again."""

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
"""Never included: rebuilt or fetched again, or the scratch space of training, which starts again, and of scheduler
jobs.
"""

STAGING: Final = "backup-staging"
"""Folder of a backup while it is sent. The next backup and the next daemon remove the leftovers of a killed backup."""

LOCK: Final = "backup.lock"

RESTORING: Final = ".restoring"
"""Folder in the target home where an archive is unpacked; nothing else is touched before the whole archive is
checked.
"""

PLAN: Final = ".restoring.json"
"""File that lists the entries of the home to replace. It exists from the moment that a restore can only go forward."""

PLAN_DRAFT: Final = f"{PLAN}.new"

ASIDE_PREFIX: Final = "before-restore-"
"""Prefix of the folder with the replaced contents of a home; the time follows."""

TRANSIENT: Final = (STAGING, LOCK, RESTORING, PLAN, PLAN_DRAFT, "daemon.lock", "daemon.json", "lost+found")

_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")

_DIGEST = re.compile(r"(blobs/[0-9a-f]{2}/[0-9a-f]{62}|artifacts/[0-9a-f]{2}/[0-9a-f]{64})")


def blob(sha256: str) -> str:
    """Return the entry name of an uploaded or followed file."""
    return f"{BLOBS}/{sha256[:2]}/{sha256[2:]}"


def artifact(sha256: str) -> str:
    """Return the entry name of an artifact."""
    return f"{ARTIFACTS}/{sha256[:2]}/{sha256}"


def belongs(name: str) -> bool:
    """Return whether an archive may contain an entry of this name, which must lead to its place inside a home."""
    if name == DATABASE or _DIGEST.fullmatch(name):
        return True
    top, *parts = name.split("/")
    return (
        top in (*FOLDERS, MODELS)
        and 0 < len(parts) <= 32
        and len(name) <= 4_096
        and all(_PART.fullmatch(part) for part in parts)
    )
