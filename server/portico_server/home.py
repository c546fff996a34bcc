"""The home folder: one daemon at a time, nobody else's eyes, and a note of where that daemon listens."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final

from portico_server.backup import swap
from portico_server.core.errors import Conflict, Unavailable

LEAVING_S = 15.0
"""How long a start waits for a daemon that is going away, and for one that does not serve yet."""

POLL_INTERVAL_S = 0.05

PRIVATE_UMASK_BITS: Final = 0o077
"""For everything that the daemon and its children make: the database holds secrets of tools, servers and models."""

_OTHERS_BITS: Final = 0o077
_OTHERS_WRITE_BITS: Final = 0o022


LOCK_FILE: Final = "daemon.lock"
"""What of a home folder its daemon holds."""


class Home:
    """Holds the lock on a home folder for as long as the ``with`` block lasts.

    ``daemon.json`` in it says ``{"pid", "url"}`` while a daemon serves. A lock without that note is held by a daemon
    that ends or that does not serve yet: a start waits `LEAVING_S` seconds for what comes of it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path / "daemon.json"
        self._lock: int | None = None

    def __enter__(self) -> Home:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _narrow_folder(self.path)
            _narrow_files(self.path.glob("*.db*"))
            _narrow_files((self.path / "logs").glob("*.log*"))
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The home folder {self.path} cannot be used: {error.strerror}. Set PORTICO_HOME to a folder that "
                "can be written.",
                code="home_unusable",
            ) from error
        if not self._locked(self._lock):
            os.close(self._lock)
            self._lock = None
            note = self.read_note(self.path)
            where = f" at {note['url']} (process {note['pid']})" if note else ""
            raise Conflict(
                f"A Portico daemon already uses the home folder {self.path}{where}. Use that one, stop it with "
                "'portico down', or set PORTICO_HOME to another folder.",
                code="home_in_use",
            )
        try:
            swap.tidy(self.path)
        except (OSError, ValueError) as error:
            os.close(self._lock)
            self._lock = None
            raise Unavailable(
                f"A restore into the home folder {self.path} was cut off and cannot be finished: {error}. Let this "
                "user write all of that folder, then try again.",
                code="home_unusable",
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leaving()
        if self._lock is not None:
            os.close(self._lock)

    def _locked(self, lock: int) -> bool:
        """Take the lock; wait for it while no daemon says that it serves."""
        deadline = time.monotonic() + LEAVING_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if self.read_note(self.path) or time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_INTERVAL_S)  # the kernel offers no lock with a limit
            else:
                return True

    def leaving(self) -> None:
        """Take the note away: it serves no more, and the next start may wait for the lock."""
        self._note.unlink(missing_ok=True)

    def serving(self, url: str) -> None:
        """Leave the note."""
        draft = self._note.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")
        draft.replace(self._note)

    @staticmethod
    def read_note(path: Path) -> dict[str, str | int] | None:
        """Where the daemon of a home folder listens, if one left a note."""
        try:
            note = json.loads((path / "daemon.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and {"pid", "url"} <= note.keys() else None


def _narrow_files(files: Iterable[Path]) -> None:
    """Take files away from other users of the machine, as far as they are ours."""
    for path in files:
        state = path.lstat()
        if stat.S_ISREG(state.st_mode) and state.st_mode & _OTHERS_BITS and _is_ours(state):
            path.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_BITS)


def _narrow_folder(path: Path) -> None:
    """Close a home folder, made beforehand as it may be, to other users. Raises `Unavailable` where that cannot be."""
    state = path.stat()
    if not state.st_mode & _OTHERS_BITS:
        return
    if state.st_mode & stat.S_ISVTX:
        raise Unavailable(
            f"{path} is a folder for everybody, such as /tmp. Set PORTICO_HOME to a folder of its own.",
            code="home_unsafe",
        )
    if _is_ours(state):
        path.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_BITS)
    elif state.st_mode & _OTHERS_WRITE_BITS and not _is_shared_with_us(state):
        raise Unavailable(
            f"The home folder {path} belongs to another user, and others may write it. Set PORTICO_HOME to a folder of "
            "this user.",
            code="home_unsafe",
        )


def _is_ours(state: os.stat_result) -> bool:
    return os.geteuid() in (0, state.st_uid)


def _is_shared_with_us(state: os.stat_result) -> bool:
    """Whether it is ours by its group alone, as volumes of a cluster are, and nobody else may write it."""
    return not state.st_mode & stat.S_IWOTH and state.st_gid in (os.getegid(), *os.getgroups())
