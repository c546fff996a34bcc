"""The contents of a folder: finds all readable files, each named by its path in the folder."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Sequence
from dataclasses import field
from pathlib import Path, PurePath

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Unavailable
from portico_server.core.filenames import MAX_FILENAME_BYTES, to_filename
from portico_server.features.readers import ocr
from portico_server.features.readers.formats import (
    format_of,
    is_document,
    is_picture,
    is_recording,
    looks_like_text,
    older,
)
from portico_server.features.sources.ignore_rules import IGNORE_FILES, IgnoreRules

IGNORED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
"""Folders that are never scanned, as is the case for hidden folders (``.git``, ``.venv`` …). They do not count as
skipped.
"""

MAX_SKIPPED_NAMES = 1_000
"""Maximum number of skipped files whose names are recorded. Further files are only counted."""

UNKNOWN_KIND = "of an unsupported format"
EMPTY_FILE = "empty"
IGNORED_BY_RULE = "ignored by .gitignore or .porticoignore"


@dataclass(frozen=True, slots=True)
class SourceEntry:
    """A file of a source. ``name`` is the path of the file in the source, as the API shows it.

    ``at`` is the location to read the file from: a path on this machine, a key or a URL. ``mtime_ns`` is the time of
    the last change, or another number that changes with the file. If the time is unknown before the file is read, it
    is ``None``; if the ``size`` is unknown, it is 0. For ``readers``, see `portico_server.core.file_labels.FileLabels`.
    """

    name: str
    at: str
    size: int
    mtime_ns: int | None
    readers: Sequence[Sequence[str]] | None = None


@dataclass(slots=True)
class Walk:
    """The files that a scan of a source found. ``skipped`` counts the files that are not read, by reason."""

    files: dict[str, SourceEntry] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    skipped_names: dict[str, str] = field(default_factory=dict)
    """The first `MAX_SKIPPED_NAMES` skipped files by name, each with the reason."""
    unknown: list[str] = field(default_factory=list)
    """Files and folders that could not be checked. Whether they still exist is unknown."""
    linked: bool = False
    """True if the folder contains links."""
    only: tuple[str, ...] | None = None
    """The files and folders that were checked, or ``None`` if the scan covered everything."""
    keeps_removed: bool = False
    """True if no file counts as removed, because the source lists only the latest files or the store keeps removed
    files.
    """
    max_files: int | None = None
    """Maximum number of files in the store, including older files, if removed files are kept."""
    bare: bool = False
    """True if the folder does not even contain hidden files, as is the case when a disk is not mounted."""

    def skip(self, name: str, reason: str) -> None:
        """Count a file or folder that is not read."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        if len(self.skipped_names) < MAX_SKIPPED_NAMES:
            self.skipped_names[name] = reason

    def is_gone(self, name: str) -> bool:
        """Return whether a file that the store has indexed no longer exists in the source."""
        if name in self.files or self.keeps_removed:
            return False
        return not self.is_unknown(name)

    def is_unknown(self, name: str) -> bool:
        """Return whether a file could not be checked."""
        return any(name == folder or name.startswith(f"{folder}/") for folder in self.unknown)


def is_scanned_folder(name: str) -> bool:
    """Return whether folders of this name are scanned."""
    return not name.startswith(".") and name not in IGNORED_FOLDERS


def is_looked_at(path: Path, root: Path) -> bool:
    """Return whether a change of ``path`` in a followed folder can matter, which is not so inside folders that are
    never scanned.
    """
    *folders, name = path.relative_to(root).parts or ("",)
    hidden = name.startswith(".") and name not in IGNORE_FILES
    return not hidden and all(map(is_scanned_folder, folders))


def walk(root: Path, *, max_bytes: int, pictures: bool = True, recordings: bool = False) -> Walk:
    """Find every file below ``root`` that can be read and is not ignored.

    ``pictures`` and ``recordings`` state whether images and recordings are included. Links are followed, but never out
    of the folder and never twice to the same place, so that loops end. Raises `Unavailable` if the folder cannot be
    read, because it is then unknown which files were removed.
    """
    try:
        looking = _FolderWalk(root, max_bytes, pictures, recordings)
        looking.descend(root, IgnoreRules())
        looking.found.bare = not looking.found.files and _is_bare(root)
    except OSError as error:
        raise Unavailable(
            f"The folder {error.filename or root} cannot be read ({error.strerror or error}). The files "
            "indexed so far are kept; sync again when the folder is available.",
            code="folder_unreadable",
        ) from error
    return looking.found


def glance(
    root: Path,
    paths: Collection[PurePath],
    *,
    max_bytes: int,
    pictures: bool = True,
    recordings: bool = False,
) -> Walk | None:
    """Return what a `walk` would find at ``paths`` in ``root`` and below them.

    Returns ``None`` if only a walk can tell: if an ignore file has changed, a link is involved, the folder is empty,
    or another file may have the same name in the store, such as ``a%E9.md`` for a file whose name is not UTF-8.
    """
    try:
        looking = _FolderWalk(root, max_bytes, pictures, recordings)
        only: list[str] = []
        for path in sorted(paths):
            name = to_filename(str(path))
            if any(name == above or name.startswith(f"{above}/") for above in only):
                continue
            if not path.parts or path.name in IGNORE_FILES or name != path.as_posix() or "%" in name:
                return None
            if not looking.at(path, name):
                return None
            only.append(name)
        if _is_bare(root):
            return None
    except OSError:
        return None  # a walk reports the error
    looking.found.only = tuple(only)
    return None if looking.found.linked else looking.found


class _FolderWalk:
    """A scan of a folder. Raises `OSError` if the folder itself cannot be read."""

    def __init__(self, root: Path, max_bytes: int, pictures: bool, recordings: bool) -> None:
        self.found = Walk()
        self._root = root
        self._max_bytes = max_bytes
        self._pictures = pictures
        self._recordings = recordings
        self._top = root.resolve(strict=True)
        self._visited = {_identity(self._top.stat())}
        self._rules: dict[Path, IgnoreRules] = {}

    def descend(self, folder: Path, above: IgnoreRules) -> None:
        """Scan everything below ``folder``."""
        found_walk = self.found
        pending = [(folder, above)]
        while pending:
            folder, above = pending.pop()
            entries = _entries(folder, self._root, found_walk)
            rules = above.below(folder, {entry.name for entry in entries})
            for entry in entries:
                if not is_scanned_folder(entry.name):
                    continue
                is_linked = entry.is_symlink()
                found_walk.linked |= is_linked
                if rules.ignores(entry.path, folder=entry.is_dir(follow_symlinks=False)):
                    found_walk.skip(_name(entry.path, self._root), IGNORED_BY_RULE)
                elif is_linked and not _is_inside(entry, self._top):
                    found_walk.skip(_name(entry.path, self._root), "link out of the folder, or broken link")
                elif entry.is_dir():
                    place = _identity(entry.stat())
                    if place not in self._visited:
                        self._visited.add(place)
                        pending.append((Path(entry.path), rules))
                else:
                    _take(
                        entry.path, self._root, self._max_bytes, found_walk, self._pictures, self._recordings
                    )

    def at(self, path: PurePath, name: str) -> bool:
        """Scan one path in the folder and everything below it. Return false if this requires a walk through the whole
        folder.
        """
        if not all(map(is_scanned_folder, path.parts)):
            return True  # never scanned
        above, rules = self._root, self._of(self._root, IgnoreRules())
        for part in path.parts[:-1]:
            above = above / part
            if above.is_symlink():
                return False
            if rules.ignores(str(above), folder=True):
                return True  # the path lies in a folder that is never scanned
            rules = self._of(above, rules)
        place = above / path.name
        try:
            status = place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:
            self.found.unknown.append(name)
            self.found.skip(name, "not permitted")
            return True
        folder = stat.S_ISDIR(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            return False
        if rules.ignores(str(place), folder=folder):
            self.found.skip(name, IGNORED_BY_RULE)
        elif folder:
            self._visited.add(_identity(status))
            self.descend(place, rules)
        else:
            _take(str(place), self._root, self._max_bytes, self.found, self._pictures, self._recordings)
        return True

    def _of(self, folder: Path, above: IgnoreRules) -> IgnoreRules:
        """Return the rules that apply in ``folder``."""
        rules = self._rules.get(folder)
        if rules is None:
            names = {name for name in IGNORE_FILES if os.path.lexists(folder / name)}
            rules = self._rules[folder] = above.below(folder, names)
        return rules


def unfit_reason(name: str, size: int, *, max_bytes: int, pictures: bool, recordings: bool) -> str:
    """Return the reason why a file is skipped, judged by its name and size, or "" if it is not skipped."""
    if size > max_bytes:
        return f"larger than {max_bytes // 2**20} MB"
    if len(name.encode()) > MAX_FILENAME_BYTES:
        return "unusable name"
    if not is_document(name):
        return UNKNOWN_KIND
    if is_picture(name) and not pictures:
        return f"a picture; {ocr.how_to_read()}"
    if is_recording(name) and not recordings:
        return "a recording, but no transcription model is configured"
    return ""


def _entries(folder: Path, root: Path, found_walk: Walk) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda item: item.name)
    except OSError:
        if folder == root:
            raise
        name = to_filename(str(folder.relative_to(root)))
        found_walk.unknown.append(name)
        found_walk.skip(name, "not permitted")
        return []


def _is_bare(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _is_inside(entry: os.DirEntry[str], top: Path) -> bool:
    try:
        return Path(entry.path).resolve(strict=True).is_relative_to(top)
    except (OSError, RuntimeError):  # a broken or circular link
        return False


def _name(path: str, root: Path) -> str:
    return to_filename(path.removeprefix(str(root)).lstrip(os.sep))


def _take(path: str, root: Path, max_bytes: int, found_walk: Walk, pictures: bool, recordings: bool) -> None:
    name = _name(path, root)
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            found_walk.skip(name, "not a file")
            return
        reason = unfit_reason(
            name, status.st_size, max_bytes=max_bytes, pictures=pictures, recordings=recordings
        )
        if reason or name in found_walk.files:
            found_walk.skip(name, reason or "unusable name")
        elif (not status.st_size or format_of(name) is None) and (reason := no_text(Path(path))):
            found_walk.skip(name, reason)
        else:
            found_walk.files[name] = SourceEntry(name, path, status.st_size, status.st_mtime_ns)
    except FileNotFoundError:
        found_walk.skip(name, "removed during the scan")
    except OSError:
        found_walk.unknown.append(name)
        found_walk.skip(name, "not permitted")


def no_text(path: Path) -> str:
    """Return the reason why a file that is empty, or whose name does not reveal its format, cannot be read; "" if it
    is text.
    """
    with path.open("rb") as file:
        head = file.read(8192)
    if not head:
        return EMPTY_FILE
    return older(head) or ("" if looks_like_text(head) else UNKNOWN_KIND)
