"""A temporary PostgreSQL: a real cluster in a temporary folder, owned by an unprivileged user."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def programs() -> Path | None:
    """Return the folder of ``initdb`` and ``pg_ctl``, or ``None`` if PostgreSQL is not installed."""
    program = shutil.which("initdb")
    if program:
        return Path(program).resolve().parent
    return next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)


def _someone() -> dict[str, Any]:
    """Return the user to run PostgreSQL as, since it refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise AssertionError("there is no user to run PostgreSQL as")


@contextmanager
def running(bin_folder: Path) -> Iterator[str]:
    """Run PostgreSQL and yield its administrator's URL, ``postgresql://…``."""
    someone = _someone()
    with tempfile.TemporaryDirectory(prefix="portico-pg-", ignore_cleanup_errors=True) as folder_name:
        folder = Path(folder_name)
        if someone:
            os.chown(folder, someone["user"], someone["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]

        def do(program: str, *arguments: str) -> None:
            subprocess.run(
                [bin_folder / program, *arguments],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                timeout=60,
                env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
                **someone,
            )

        data = str(folder / "data")
        do("initdb", "-D", data, "-U", "admin", "--auth", "trust", "--no-sync", "--encoding", "UTF8")
        options = f"-h 127.0.0.1 -p {port} -k {folder} -F"
        do("pg_ctl", "-D", data, "-w", "-t", "30", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://admin@127.0.0.1:{port}/postgres"
        finally:
            do("pg_ctl", "-D", data, "-m", "immediate", "stop")
