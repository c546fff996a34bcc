"""What lies in a folder: every file that can be read here, by its path in the folder."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from portico_server.core.errors import Unavailable
from portico_server.knowledge import ignore
from portico_server.knowledge.ignore import Rules
from portico_server.knowledge.names import LONGEST, name_on_disk
from portico_server.knowledge.parse.formats import format_of, is_document, is_picture, looks_like_text

IGNORED = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Folders that are never looked into, besides hidden ones (``.git``, ``.venv`` …)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file of a source. ``name`` is its path in it, as the API shows it; ``at`` says where to take it from: a path
    on this machine, a key, a URL. ``mtime_ns`` is the time of its last change, or whatever number tells one state
    from another; where neither that nor the ``size`` can be known before it is taken, they are ``None`` and 0.
    """

    name: str
    at: str
    size: int
    mtime_ns: int | None


@dataclass(slots=True)
class Walk:
    """What a walk has found; ``skipped`` counts files that are not read here, and why by reason."""

    files: dict[str, Seen] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    """Files and folders that could not be looked at: whether they are still there, nobody knows."""

    def skip(self, reason: str) -> None:
        self.skipped[reason] = self.skipped.get(reason, 0) + 1

    def is_gone(self, name: str) -> bool:
        """Whether a file that was there is there no longer."""
        return name not in self.files and not any(
            name == other or name.startswith(f"{other}/") for other in self.unknown
        )


def is_looked_at(path: Path, root: Path) -> bool:
    """Whether a change of ``path`` in a followed folder may mean something: it is not in what is never looked into."""
    *folders, name = path.relative_to(root).parts or ("",)
    hidden = name.startswith(".") and name not in ignore.FILES
    return not hidden and not any(part.startswith(".") or part in IGNORED for part in folders)


def walk(root: Path, *, max_bytes: int, pictures: bool = True) -> Walk:
    """Every file below ``root`` that can be read here and that no ignore file leaves out, with or without pictures.

    Links are followed, but never out of the folder, and never twice to the same place, so that loops end. Raises
    `Unavailable` if the folder cannot be read: then nothing is known of what is missing.
    """
    found = Walk()
    try:
        top = root.resolve(strict=True)
        visited = {_identity(top.stat())}
        pending = [(root, Rules())]
        while pending:
            folder, above = pending.pop()
            entries = _entries(folder, root, found)
            rules = above.below(folder, {entry.name for entry in entries})
            for entry in entries:
                if entry.name.startswith(".") or entry.name in IGNORED:
                    continue
                if rules.ignores(entry.path, folder=entry.is_dir(follow_symlinks=False)):
                    found.skip("ignored")
                elif entry.is_symlink() and not _stays(entry, top):
                    found.skip("link out of the folder or to nothing")
                elif entry.is_dir():
                    place = _identity(entry.stat())
                    if place not in visited:
                        visited.add(place)
                        pending.append((Path(entry.path), rules))
                else:
                    _take(entry, root, max_bytes, found, pictures=pictures)
    except OSError as error:
        raise Unavailable(
            f"The folder {error.filename or root} cannot be read ({error.strerror or error}). What was indexed of it "
            "is kept; sync again when it is back.",
            code="folder_unreadable",
        ) from error
    return found


def unfit(name: str, size: int, *, max_bytes: int, pictures: bool) -> str:
    """Why a file is left out, as far as its name and its size tell; an empty string if it is not."""
    if size > max_bytes:
        return f"larger than {max_bytes // 2**20} MB"
    if len(name.encode()) > LONGEST:
        return "unusable name"
    if not is_document(name):
        return "not a document"
    if is_picture(name) and not pictures:
        return "a picture, and nothing here sees it"
    return ""


def _entries(folder: Path, root: Path, found: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda item: item.name)
    except OSError:
        if folder == root:
            raise
        found.unknown.append(name_on_disk(str(folder.relative_to(root))))
        found.skip("not permitted")
        return []


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _stays(entry: os.DirEntry[str], top: Path) -> bool:
    try:
        return Path(entry.path).resolve(strict=True).is_relative_to(top)
    except (OSError, RuntimeError):  # to nothing, or in a circle
        return False


def _take(entry: os.DirEntry[str], root: Path, max_bytes: int, found: Walk, *, pictures: bool) -> None:
    name = name_on_disk(entry.path.removeprefix(str(root)).lstrip(os.sep))
    try:
        status = entry.stat()
        if not stat.S_ISREG(status.st_mode):
            found.skip("not a file")
            return
        why = unfit(name, status.st_size, max_bytes=max_bytes, pictures=pictures)
        if why or name in found.files:
            found.skip(why or "unusable name")
        elif format_of(name) is None and not _is_text(Path(entry.path)):
            found.skip("not a document")
        else:
            found.files[name] = Seen(name, entry.path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        found.skip("gone while looking")
    except OSError:
        found.unknown.append(name)
        found.skip("not permitted")


def _is_text(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(8192)
    return bool(head) and looks_like_text(head)
