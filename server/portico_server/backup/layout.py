"""What of a home folder a backup holds, and how an archive of it is told apart."""

from __future__ import annotations

import re
from typing import Final

FORMAT: Final = "portico-backup"

VERSION: Final = 1
"""Raised whenever an older Portico could not read what a newer one writes."""

DATABASE: Final = "portico.db"

BLOBS: Final = "blobs"
ARTIFACTS: Final = "artifacts"
"""These two by what the database refers to, under the first two characters of the digest."""

FOLDERS: Final = ("adapters", "finetuned")
"""Kept whole: what they hold cannot be fetched or made again."""

MODELS: Final = "models"
"""On request: model files can be fetched again."""

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
"""Never: rebuilt, fetched again, or the scratch of trainings, which begin again, and of jobs at a scheduler."""

STAGING: Final = "backup-staging"
"""Where a backup lies while it is sent. What a killed one left is removed by the next backup and the next daemon."""

LOCK: Final = "backup.lock"

RESTORING: Final = ".restoring"
"""Where an archive is unpacked, in the home that it is for: nothing else is touched before all of it is checked."""

PLAN: Final = ".restoring.json"
"""Is there from the moment that a restore can only go forward: which entries of the home give way to it."""

PLAN_DRAFT: Final = f"{PLAN}.new"

ASIDE_PREFIX: Final = "before-restore-"
"""What a home held before it was replaced; followed by the moment."""

TRANSIENT: Final = (STAGING, LOCK, RESTORING, PLAN, PLAN_DRAFT, "daemon.lock", "daemon.json", "lost+found")

_PART = re.compile(r"(?!\.{1,2}$)[^/\\\x00-\x1f\x7f]{1,255}")

_DIGEST = re.compile(r"(blobs/[0-9a-f]{2}/[0-9a-f]{62}|artifacts/[0-9a-f]{2}/[0-9a-f]{64})")


def blob(sha256: str) -> str:
    """The entry of an uploaded or followed file."""
    return f"{BLOBS}/{sha256[:2]}/{sha256[2:]}"


def artifact(sha256: str) -> str:
    """The entry of an artifact."""
    return f"{ARTIFACTS}/{sha256[:2]}/{sha256}"


def belongs(name: str) -> bool:
    """Whether an archive may hold an entry of this name: it leads to its place below a home, and nowhere else."""
    if name == DATABASE or _DIGEST.fullmatch(name):
        return True
    top, *parts = name.split("/")
    return (
        top in (*FOLDERS, MODELS)
        and 0 < len(parts) <= 32
        and len(name) <= 4_096
        and all(_PART.fullmatch(part) for part in parts)
    )
