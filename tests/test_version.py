"""The version of a build: from git, from a written file, or from the release alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from portico import __version__
from tests.daemon import ROOT

GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "init.defaultBranch=main")
COMMIT = re.compile(r"[0-9a-f]{8}$")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with the files that determine the version."""
    for name in ("client/portico/_build.py", "client/portico/__init__.py", "pyproject.toml"):
        target = tmp_path / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((ROOT / name).read_bytes())
    return tmp_path / "tree"


def version(tree: Path) -> str:
    command = [sys.executable, "-I", str(tree / "client/portico/_build.py")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.strip()


def git(tree: Path, *arguments: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    subprocess.run([*GIT, *arguments], cwd=tree, env=environment, check=True, capture_output=True)


def commit(tree: Path) -> None:
    git(tree, "commit", "--allow-empty", "--no-verify", "--no-gpg-sign", "-m", "change")


def test_a_clone_counts_its_commits_since_the_last_tag(tree: Path) -> None:
    git(tree, "init")
    commit(tree)
    commit(tree)
    versions = [version(tree)]
    git(tree, "tag", "v0.0.9")
    commit(tree)
    versions.append(version(tree))
    git(tree, "tag", f"v{__version__}")
    versions.append(version(tree))
    commit(tree)
    versions.append(version(tree))
    assert [COMMIT.sub("COMMIT", text) for text in versions] == [
        f"{__version__}.dev2+COMMIT",
        f"{__version__}.dev1+COMMIT",
        __version__,
        f"{__version__}.post1+COMMIT",
    ]


def test_a_tree_without_git_has_the_written_version(tree: Path) -> None:
    (tree / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: portico-ai\nVersion: 0.1.0.dev7+abcdef12\n")
    assert version(tree) == "0.1.0.dev7+abcdef12"


def test_a_repository_around_an_unpacked_tree_does_not_count(tree: Path) -> None:
    git(tree.parent, "init")
    commit(tree.parent)
    (tree / "PKG-INFO").write_text("Version: 0.1.0.dev7+abcdef12\n")
    assert version(tree) == "0.1.0.dev7+abcdef12"
