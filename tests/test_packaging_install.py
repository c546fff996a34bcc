"""The scripts that install, each into a folder of its own. Slow: packages are fetched."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests import daemon as daemons
from tests.daemon import ROOT

PARTS = ("client", "server", "tui", "requirements", "scripts")
FILES = ("pyproject.toml", "README.md", "LICENSE")
TOOLS = ("bash", "cat", "cksum", "dirname")

SWIFT = {"PIP_COMPILE": "0"}
"""pip compiles nothing: what is imported is compiled then, which is a tenth of it."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what a clone holds, without a virtual environment."""
    copy = tmp_path / "clone"
    copy.mkdir()
    for part in PARTS:
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy2(ROOT / file, copy)
    return copy


def only(folder: Path, **tools: str) -> str:
    """A PATH that holds `TOOLS` and ``tools`` and nothing else."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    for name, target in tools.items():
        (folder / name).symlink_to(target)
    return str(folder)


def install(checkout: Path, path: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HOME"))}
    return subprocess.run(
        [str(checkout / "scripts" / "install"), "run"],
        env={**kept, **SWIFT, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_clone_installs_with_pip_alone_and_serves_a_folder(checkout: Path, tmp_path: Path) -> None:
    """The first command of the README, without uv and without a compiler, twice: from the clone to Ctrl-C."""
    path = only(tmp_path / "bin", python3=os.path.realpath(sys.executable))
    first = install(checkout, path)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "hnswlib is left out, as there is no C++ compiler: exact search stands in" in first.stderr

    folder = tmp_path / "bakery"
    folder.mkdir()
    (folder / "bread.md").write_text("# Bread\n\nBread is baked at 230 degrees.\n", encoding="utf-8")
    variables = daemons.environment(PATH=path, PORTICO_HOME=str(tmp_path / "home"))
    for _start in range(2):
        served(checkout, folder, variables)

    second = install(checkout, path)
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")

    # A compiler has come since: what was left out is made, or said to be impossible, once.
    compiler = Path(path) / "c++"
    compiler.symlink_to(shutil.which("c++") or shutil.which("false") or "/bin/false")
    third = install(checkout, path)
    assert third.returncode == 0 and third.stderr.startswith("Compiling hnswlib"), third.stderr
    fourth = install(checkout, path)
    assert (fourth.returncode, fourth.stdout, fourth.stderr) == (0, "", "")


def served(checkout: Path, folder: Path, variables: dict[str, str]) -> None:
    """Start over ``folder``, ask, stop with Ctrl-C; nothing may be left running."""
    command = [str(checkout / "scripts" / "run"), str(folder), "--port", "0"]
    daemon = subprocess.Popen(
        command,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert daemon.stdout is not None
    with daemon.stdout:
        panel = "".join(iter(daemon.stdout.readline, "Press Ctrl-C to stop.\n"))
        assert "/v1" in panel and "bakery" in panel and "mcpServers" in panel, panel
        processes = psutil.Process(daemon.pid).children(recursive=True)
        asked = subprocess.run(
            [str(checkout / ".venv" / "bin" / "portico"), "ask", "How hot is bread baked?"],
            env=variables,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert asked.returncode == 0, asked.stderr
        assert "Bread is baked at 230 degrees." in asked.stdout and "bread.md" in asked.stdout
        processes += psutil.Process(daemon.pid).children(recursive=True)
        daemon.send_signal(signal.SIGINT)
        assert daemon.stdout.read().endswith("Stopped.\n")
    assert daemon.wait(30) == 130
    _gone, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_without_a_python_the_install_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    done = install(checkout, only(tmp_path / "bin"))
    assert done.returncode == 1
    assert "Portico needs Python 3.11 or newer and found none" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_the_dockerfile_make_a_daemon_that_is_healthy(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "docker-steps"), str(tmp_path / "image")],
        env={**os.environ, **SWIFT},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=550,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert done.stdout.splitlines()[-2:] == ["-- healthy", "-- stopped"]
