"""The home folder: one daemon locks it, other users cannot read it, and a note in it contains the daemon's address."""

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

from portico_server import home_replacement
from portico_server.core.errors import Conflict, Unavailable

LEAVING_S = 15.0
"""Seconds that a starting daemon waits for another daemon that is shutting down or does not serve yet."""

POLL_INTERVAL_S = 0.05

PRIVATE_UMASK_BITS: Final = 0o077
"""The umask of the daemon and its children, which applies to all their files: the database contains secrets of tools,
servers and models.
"""

_OTHERS_BITS: Final = 0o077
_OTHERS_WRITE_BITS: Final = 0o022


LOCK_FILE: Final = "daemon.lock"
"""The file in the home folder that the daemon locks."""


class Home:
    """Locks a home folder within the ``with`` block.

    While a daemon serves, the note ``daemon.json`` contains ``{"pid", "url"}``. If the folder is locked without the
    note, the other daemon is shutting down or does not serve yet, and the starting daemon waits up to `LEAVING_S`
    seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path / "daemon.json"
        self._lock: int | None = None
        self.completed_restore: home_replacement.CompletedRestore | None = None
        """The restore that was interrupted before the lock, if any. The lock completes it."""

    def __enter__(self) -> Home:
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _narrow_folder(self.path)
            _narrow_files(self.path.glob("*.db*"))
            _narrow_files((self.path / "logs").glob("*.log*"))
            self._lock = os.open(self.path / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Unavailable(
                f"The home folder {self.path} cannot be used: {error.strerror}. Set PORTICO_HOME to a "
                "writable folder.",
                code="home_unusable",
            ) from error
        if not self._locked(self._lock):
            os.close(self._lock)
            self._lock = None
            raise self._in_use()
        try:
            self.completed_restore = home_replacement.tidy(self.path)
        except (OSError, ValueError) as error:
            os.close(self._lock)
            self._lock = None
            raise Unavailable(
                f"An interrupted restore into the home folder {self.path} cannot be finished: {error}. Give "
                "this user write access to the whole folder, then try again.",
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
        """Acquire the lock, waiting for it unless another daemon is serving. Return whether the lock was acquired."""
        deadline = time.monotonic() + LEAVING_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if self.read_note(self.path) or time.monotonic() >= deadline:
                    return False
                time.sleep(POLL_INTERVAL_S)  # the kernel offers no lock with a timeout
            else:
                return True

    def require_unused(self) -> None:
        """Raise `Conflict` if a daemon or a command keeps the lock. Changes nothing."""
        try:
            lock = os.open(self.path / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise self._in_use() from error
        finally:
            os.close(lock)

    def _in_use(self) -> Conflict:
        note = self.read_note(self.path)
        user_hint = f" at {note['url']} (process {note['pid']})" if note else ""
        return Conflict(
            f"A Portico daemon already uses the home folder {self.path}{user_hint}. Use that daemon, stop it "
            "with 'portico down', or set PORTICO_HOME to another folder.",
            code="home_in_use",
        )

    def leaving(self) -> None:
        """Remove the note, because the daemon no longer serves. From now on, another daemon that starts waits for the
        lock.
        """
        self._note.unlink(missing_ok=True)

    def serving(self, url: str) -> None:
        """Write the note with the daemon's address."""
        draft = self._note.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), "url": url}), encoding="utf-8")
        draft.replace(self._note)

    @staticmethod
    def read_note(path: Path) -> dict[str, str | int] | None:
        """Return the note in a home folder, with the daemon's process id and address; ``None`` if no daemon serves."""
        try:
            note = json.loads((path / "daemon.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and {"pid", "url"} <= note.keys() else None


def _narrow_files(files: Iterable[Path]) -> None:
    """Make files inaccessible to other users. Files that belong to another user are skipped."""
    for path in files:
        state = path.lstat()
        if stat.S_ISREG(state.st_mode) and state.st_mode & _OTHERS_BITS and _is_ours(state):
            path.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_BITS)


def _narrow_folder(path: Path) -> None:
    """Make an existing home folder inaccessible to other users. Raise `Unavailable` if it is not safe to use."""
    state = path.stat()
    if not state.st_mode & _OTHERS_BITS:
        return
    if state.st_mode & stat.S_ISVTX:
        raise Unavailable(
            f"{path} is a folder shared by all users, such as /tmp. Set PORTICO_HOME to a separate folder.",
            code="home_unsafe",
        )
    if _is_ours(state):
        path.chmod(stat.S_IMODE(state.st_mode) & ~_OTHERS_BITS)
    elif state.st_mode & _OTHERS_WRITE_BITS and not _is_shared_with_us(state):
        raise Unavailable(
            f"The home folder {path} belongs to another user, and other users can write to it. Set "
            "PORTICO_HOME to a folder of this user.",
            code="home_unsafe",
        )


def _is_ours(state: os.stat_result) -> bool:
    return os.geteuid() in (0, state.st_uid)


def _is_shared_with_us(state: os.stat_result) -> bool:
    """Return whether this user accesses the folder through the folder's group and users outside the group cannot write
    to it, as is usual for cluster volumes.
    """
    return not state.st_mode & stat.S_IWOTH and state.st_gid in (os.getegid(), *os.getgroups())
