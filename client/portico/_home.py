"""The home folder of the daemon on this machine, and the daemon that runs on it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any


def default_home() -> Path:
    """Return the home folder of a daemon that is started without another one: a folder in this user's data folder."""
    data = os.environ.get("XDG_DATA_HOME")
    if data and sys.platform != "win32":
        return Path(data).expanduser() / "portico"
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/portico").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "portico"
    return Path("~/.local/share/portico").expanduser()


def home_folder() -> Path:
    """Return the home folder of this user's daemon: ``PORTICO_HOME``, or else `default_home`."""
    home = os.environ.get("PORTICO_HOME")
    return Path(home).expanduser().absolute() if home else default_home()


def note(home: Path) -> dict[str, Any] | None:
    """Return ``{"pid", "url"}`` from the file that a daemon leaves in ``home`` when it starts, or ``None``. The daemon
    may have been killed since.
    """
    try:
        document = json.loads((home / "daemon.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        return None
    return document


def running_url() -> str | None:
    """Return the URL of the daemon that runs on `home_folder`, or ``None`` if its process does not exist."""
    daemon_note = note(home_folder())
    if daemon_note is None:
        return None
    pid = daemon_note.get("pid")
    if os.name == "posix" and isinstance(pid, int) and pid > 0:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # the process exists and belongs to another user
    url: str = daemon_note["url"]
    return url
