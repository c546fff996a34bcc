"""Notices from Linux about changes in folders, without following symbolic links and for names of any bytes.

See inotify(7). `watchfiles` ends at a name that is not UTF-8. It also follows symbolic links, and then reports the
changes in a folder under one of its paths only.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import threading
from collections.abc import Set as AbstractSet
from dataclasses import field
from pathlib import Path

from portico_server.core.dataclass import dataclass
from portico_server.features.sources.walk import is_scanned_folder

IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF, IN_MODIFY = 0x100, 0x200, 0x400, 0x800, 0x2
IN_Q_OVERFLOW, IN_IGNORED = 0x4000, 0x8000
IN_ONLYDIR, IN_DONT_FOLLOW, IN_ISDIR = 0x1000000, 0x2000000, 0x40000000

WATCHED_EVENTS = (
    IN_ATTRIB
    | IN_CLOSE_WRITE
    | IN_MODIFY
    | IN_MOVED_FROM
    | IN_MOVED_TO
    | IN_CREATE
    | IN_DELETE
    | IN_DELETE_SELF
    | IN_MOVE_SELF
)

READ_BYTES = 256 * 1024

MAX_READS = 64
"""Maximum number of reads in a call, so that a program that writes all the time does not delay the report."""

_EVENT_HEAD = struct.Struct("iIII")

_GONE_ERRORS = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG})
"""Errors of one folder that was removed, or that the daemon must not read. The other folders are still watched."""


@dataclass(slots=True)
class FolderChanges:
    """The changes since the last call of `FolderNotices.read`."""

    paths: set[str] = field(default_factory=set)
    lost_roots: set[str] = field(default_factory=set)
    """Watched folders that were removed or moved, which ends the watch of them."""
    are_complete: bool = True
    """False if the system lost reports. Then all folders must be watched again."""


class FolderNotices:
    """Watches folders, with everything below them, through one inotify instance, whose file descriptor is ``fileno``.

    Hidden and ignored folders and those in ``excluded`` are not watched. Names that are not UTF-8 contain surrogates,
    as everywhere in Python. Calls in several threads wait for each other, because a number of a closed descriptor may
    soon belong to another file. Raises `OSError` if the system has no more instances or watches.
    """

    def __init__(self, excluded: AbstractSet[str] = frozenset()) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._excluded = excluded
        self._lock = threading.Lock()
        self._is_closed = False
        self._roots: set[str] = set()
        self._paths: dict[int, set[str]] = {}
        """The folders by number of the watch. A folder that is mounted at two places has two paths and one watch."""
        self._watches: dict[str, int] = {}
        self._subfolders: dict[str, set[str]] = {}
        self.fileno = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fileno < 0:
            raise _system_error("inotify_init1")

    def close(self) -> None:
        """Stop watching all folders."""
        self._is_closed = True
        with self._lock:
            os.close(self.fileno)
            self.fileno = -1

    def watch(self, root: Path) -> bool:
        """Watch a folder whose path is resolved. Return whether it is watched; it may have been removed."""
        path = str(root)
        with self._lock:
            self._add(path)
            if path in self._watches:
                self._roots.add(path)
            return path in self._watches

    def leave(self, root: Path) -> None:
        """Stop watching a folder, except for the part that another watched folder contains."""
        path = str(root)
        with self._lock:
            self._roots.discard(path)
            if not any(root.is_relative_to(root_path) for root_path in self._roots):
                self._drop(path, self._roots)

    def read(self) -> FolderChanges:
        """Return the changes that the system has reported, without waiting."""
        with self._lock:
            return self._read()

    def _read(self) -> FolderChanges:
        changes = FolderChanges()
        for _ in range(0 if self._is_closed else MAX_READS):
            try:
                data = os.read(self.fileno, READ_BYTES)
            except BlockingIOError:
                break
            position = 0
            while position < len(data):
                watch, mask, _cookie, size = _EVENT_HEAD.unpack_from(data, position)
                position += _EVENT_HEAD.size
                name = os.fsdecode(data[position : position + size].rstrip(b"\0"))
                position += size
                self._note(watch, mask, name, changes)
        return changes

    def _note(self, watch: int, mask: int, name: str, changes: FolderChanges) -> None:
        if mask & IN_Q_OVERFLOW:
            changes.are_complete = False
        folders = self._paths.get(watch, set()).copy()
        for folder in folders:
            if mask & (IN_IGNORED | IN_MOVE_SELF) and (mask & IN_IGNORED or folder in self._roots):
                changes.lost_roots |= self._drop(folder)
            if not name:
                continue
            path = os.path.join(folder, name)
            changes.paths.add(path)
            if not mask & IN_ISDIR:
                continue
            if mask & IN_MOVED_FROM:
                changes.lost_roots |= self._drop(path)
            elif path not in self._watches and is_scanned_folder(name):
                self._add(path)

    def _add(self, top: str) -> None:
        """Watch a folder and everything below it. Each folder is watched before its contents are listed, so that no
        new folder is missed.
        """
        pending = [top]
        while pending and not self._is_closed:
            path = pending.pop()
            if path in self._excluded:
                continue
            watch = self._libc.inotify_add_watch(
                self.fileno, os.fsencode(path), WATCHED_EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW
            )
            if watch < 0:
                error = _system_error(path)
                if error.errno in _GONE_ERRORS:
                    continue
                raise error
            self._paths.setdefault(watch, set()).add(path)
            self._watches[path] = watch
            self._subfolders.setdefault(os.path.dirname(path), set()).add(path)
            try:
                with os.scandir(path) as entries:
                    pending += [
                        entry.path
                        for entry in entries
                        if is_scanned_folder(entry.name) and entry.is_dir(follow_symlinks=False)
                    ]
            except OSError:
                continue  # the folder was removed

    def _drop(self, top: str, kept_paths: AbstractSet[str] = frozenset()) -> set[str]:
        """Stop watching a folder and everything below it, except for the folders in ``kept_paths``. Return the watched
        folders that are lost.
        """
        lost_roots = set()
        pending = [top]
        while pending:
            path = pending.pop()
            if path in kept_paths:
                continue
            pending += self._subfolders.pop(path, ())
            self._subfolders.get(os.path.dirname(path), set()).discard(path)
            watch = self._watches.pop(path, None)
            if watch is None:
                continue
            if path in self._roots:
                self._roots.remove(path)
                lost_roots.add(path)
            paths = self._paths.get(watch, set())
            paths.discard(path)
            if not paths:
                self._paths.pop(watch, None)
                self._libc.inotify_rm_watch(self.fileno, watch)
        return lost_roots


def _system_error(place: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), place)
