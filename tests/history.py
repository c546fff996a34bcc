"""Earlier versions of this repository, for tests that skip where the history is missing."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[1]


def git(*arguments: str) -> bytes:
    """Return the output of a git command in this repository; skip the test if it fails."""
    completed = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=False)
    return completed.stdout if completed.returncode == 0 else skip()


def skip() -> NoReturn:
    """Skip the test, because the repository lacks the commit that it needs."""
    pytest.skip("needs the history of the repository: git fetch --unshallow")


def unpack(commit: str, folder: Path, *paths: str) -> None:
    """Write the files that a commit has at ``paths`` to ``folder``."""
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit, *paths))) as archive:
        archive.extractall(folder, filter="data")
