"""Only the daemon's user can read the home folder and its contents, however the folder was made."""

from __future__ import annotations

import json
import os
import stat
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.conftest import CONFIGURATION
from tests.server.test_app import refused

OTHERS = 0o077


@pytest.fixture(autouse=True)
def _common_umask() -> Iterator[None]:
    """Set a common umask: files made without special care are readable by everyone."""
    previous_umask = os.umask(0o022)
    yield
    os.umask(previous_umask)


def readable(home: Path) -> list[str]:
    """Return ``home`` if others can read it, and the files below that they could read if they got past its
    permissions.
    """
    paths = [path for path in (home, *home.rglob("*")) if path.is_file() or path == home]
    return [str(path) for path in paths if stat.S_IMODE(path.stat().st_mode) & OTHERS]


def post(url: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=60).close()


@pytest.mark.slow
@pytest.mark.parametrize("cold", [True, False])
def test_an_existing_home_folder_and_its_new_files_are_made_private(tmp_path: Path, cold: bool) -> None:
    home, file, docs = tmp_path / "home", tmp_path / "portico.yaml", tmp_path / "docs"
    home.mkdir(mode=0o755)
    docs.mkdir()
    (docs / "bread.md").write_text("# Bread\n")
    file.write_text(CONFIGURATION)
    with daemons.running(
        home, "--file", str(file), "--docs", str(docs), env={"PORTICO_OFFLINE": "1"}, cold=cold
    ) as daemon:
        daemon.settle()
        post(f"{daemon.url}/api/tool-sources", {"name": "say", "command": ["true"], "env": {"KEY": "s3cret"}})
        chat = {"model": "echo", "messages": [{"role": "user", "content": "Hello"}]}
        post(f"{daemon.url}/v1/chat/completions", chat)
        assert (home / "portico.db-wal").exists()
        assert readable(home) == []


def test_files_of_an_earlier_version_lose_their_public_permissions(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with daemons.running(home, env={"PORTICO_OFFLINE": "1"}):
        pass
    home.chmod(0o755)
    for path in (home / "portico.db", home / "logs" / "daemon.log"):
        path.touch()
        path.chmod(0o644)
    with daemons.running(home, env={"PORTICO_OFFLINE": "1"}):
        assert readable(home) == []


def test_a_world_writable_folder_is_refused_as_home(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o1777)
    error = refused(home, "--port", "0")
    assert error["code"] == "home_unsafe"
    assert "PORTICO_HOME" in error["message"]
    assert stat.S_IMODE(home.stat().st_mode) == 0o1777
