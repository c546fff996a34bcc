"""The version of this build, such as ``0.1.0.dev1427+177a3ea1``: release, number of commits and commit.

``scripts/version`` prints it, and the build of a wheel writes it into the wheel's metadata. This module imports only
the standard library, and no other module of Portico, because the build executes this file alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
"""The checkout, or the unpacked source distribution, unless this file is in an installed wheel."""

_GIT_LIMIT_S = 5


@cache
def version() -> str:
    """Return the version of this build. Blocks; in a checkout, runs git once.

    A tree without git has the version that its ``PKG-INFO`` says, and otherwise that of the installed distribution, or
    the release alone.
    """
    release = _release()
    if not (_ROOT / "pyproject.toml").is_file():
        return _installed() or release
    return _of_commit(release) or _version_of_file() or _installed() or release


def _release() -> str:
    """Return the release that this tree is, or becomes."""
    text = (_HERE / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "(.+)"', text, re.MULTILINE)
    return match[1] if match else "0"


def _of_commit(release: str) -> str | None:
    """Return the version of the checkout's commit, or ``None`` without git. A clone without tags counts all
    commits.
    """
    if not (_ROOT / ".git").exists():
        return None
    description = _git("describe", "--tags", "--long", "--abbrev=8", "--match", "v[0-9]*")
    if description is None:
        commit, count = _git("rev-parse", "--short=8", "HEAD"), _git("rev-list", "--count", "HEAD")
        return f"{release}.dev{count}+{commit}" if commit and count else None
    tag, count, commit = description.rsplit("-", 2)
    if tag != f"v{release}":
        return f"{release}.dev{count}+{commit[1:]}"
    return release if count == "0" else f"{release}.post{count}+{commit[1:]}"


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
            timeout=_GIT_LIMIT_S,
            env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version_of_file() -> str | None:
    try:
        text = (_ROOT / "PKG-INFO").read_text(encoding="utf-8")
    except OSError:
        return None
    match = re.search(r"^Version: (\S+)$", text, re.MULTILINE)
    return match[1] if match else None


def _installed() -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # slow, and needed only here

    try:
        return version("portico-ai")
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    print(version())
