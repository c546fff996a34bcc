"""Replacement of a home's contents by an unpacked archive, with renames that can be resumed after an interruption.

The entries of the home are renamed and the home itself is not, because it may be a container volume. This module
imports little, because every start of a daemon uses it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

STAGING: Final = "backup-staging"
"""Folder that contains a backup while it is sent. The next backup and the next daemon remove what a killed backup
left.
"""

LOCK: Final = "backup.lock"

RESTORING: Final = ".restoring"
"""Folder in the target home where an archive is unpacked. Nothing else in the home changes until the whole archive is
checked.
"""

PLAN: Final = ".restoring.json"
"""File that lists the entries of the home to replace. Once it exists, a restore is always completed."""

PLAN_DRAFT: Final = f"{PLAN}.new"

ASIDE_PREFIX: Final = "before-restore-"
"""Prefix of the folder to which a restore moves the old contents of a home; the time follows."""

TRANSIENT: Final = (STAGING, LOCK, RESTORING, PLAN, PLAN_DRAFT, "daemon.lock", "daemon.json", "lost+found")


class CompletedRestore(NamedTuple):
    """A restore whose contents are in the home. ``archive`` is the digest of its archive."""

    archive: str
    aside: Path | None
    """The folder of the previous contents, if any."""


def holds(home: Path) -> list[str]:
    """Return the entries of a home that a restore replaces: all but the logs, temporary files and the contents that
    earlier restores set aside.
    """
    return sorted(
        path.name
        for path in home.iterdir()
        if path.name not in (*TRANSIENT, "logs") and not path.name.startswith(ASIDE_PREFIX)
    )


def replace(home: Path, old: Sequence[str], archive: str) -> CompletedRestore:
    """Replace ``old`` with the unpacked contents of the archive that has this digest. The caller holds the home's
    lock.
    """
    aside = f"{ASIDE_PREFIX}{time.strftime('%Y%m%d-%H%M%S')}" if old else None
    while aside and (home / aside).exists():
        aside += "x"
    draft = home / PLAN_DRAFT
    with draft.open("w", encoding="utf-8") as file:
        json.dump({"old": list(old), "aside": aside, "archive": archive}, file)
        file.flush()
        os.fsync(file.fileno())
    _flush_tree(home / RESTORING)
    draft.replace(home / PLAN)  # from now on, the restore is always completed
    flush(home)
    return finish(home)


def finish(home: Path) -> CompletedRestore:
    """Finish an interrupted restore. The caller holds the home's lock."""
    plan: dict[str, Any] = json.loads((home / PLAN).read_text(encoding="utf-8"))
    aside = home / plan["aside"] if plan["aside"] else None
    if aside is not None:
        aside.mkdir(mode=0o700, exist_ok=True)
        for name in plan["old"]:
            # If the entry is already set aside, the entry in the home is a restored one.
            if not os.path.lexists(aside / name) and os.path.lexists(home / name):
                os.rename(home / name, aside / name)
        flush(aside)
    unpacked_path = home / RESTORING
    if unpacked_path.is_dir():
        for path in unpacked_path.iterdir():
            os.rename(path, home / path.name)
        flush(home)
    (home / PLAN).unlink()
    shutil.rmtree(unpacked_path, ignore_errors=True)
    flush(home)
    return CompletedRestore(plan.get("archive", ""), aside)


def tidy(home: Path) -> CompletedRestore | None:
    """Complete an interrupted restore and remove what a killed command left, on every start that uses a home.

    Return the restore if it was completed.
    """
    completed = finish(home) if (home / PLAN).exists() else None
    (home / PLAN_DRAFT).unlink(missing_ok=True)
    for name in (STAGING, RESTORING):
        if (home / name).is_dir():
            shutil.rmtree(home / name, ignore_errors=True)
    return completed


def _flush_tree(folder: Path) -> None:
    for at, _folders, _files in os.walk(folder):
        flush(Path(at))


def flush(folder: Path) -> None:
    """Flush the directory entries of a folder to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
