"""The install scripts, each in its own folder; `scripts/first-five-minutes` plays a whole first day."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import ROOT

READ = ("pyproject.toml", "requirements", "scripts/install")
"""What an install reads before it installs this project."""

TOOLS = ("bash", "cat", "cksum", "dirname", "tail")

SWIFT = {"PIP_COMPILE": "0"}
"""Environment in which pip compiles nothing; Python later compiles only imported modules, a tenth of them."""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the `READ` part of a clone, without a virtual environment."""
    copy = tmp_path / "clone"
    (copy / "scripts").mkdir(parents=True)
    for name in READ:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name)
        else:
            shutil.copy2(ROOT / name, copy / name)
    return copy


def only(folder: Path, **tools: str) -> str:
    """Return a PATH that contains only `TOOLS` and ``tools``."""
    folder.mkdir()
    for name in TOOLS:
        program_path = shutil.which(name)
        assert program_path is not None
        (folder / name).symlink_to(program_path)
    for name, target in tools.items():
        (folder / name).symlink_to(target)
    return str(folder)


def with_python(folder: Path) -> str:
    """Return a PATH that contains only `TOOLS` and the interpreter outside the virtual environment."""
    python = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    return only(folder, python3=str(python))


def install(checkout: Path, path: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited_environment = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "HOME"))
    }
    return subprocess.run(
        [str(checkout / "scripts" / "install"), "run", *options],
        env={**inherited_environment, **SWIFT, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=500,
    )


def test_without_a_python_the_install_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    done = install(checkout, only(tmp_path / "bin"))
    assert done.returncode == 1
    assert "Portico needs Python 3.11 or newer and found none" in done.stderr
    assert not (checkout / ".venv").exists()


@pytest.mark.slow
def test_an_install_that_fails_names_its_log(checkout: Path, tmp_path: Path) -> None:
    path = with_python(tmp_path / "bin")
    for _attempt in range(2):  # the second attempt meets the .venv of the first
        done = install(checkout, path, PIP_NO_INDEX="1", PIP_FIND_LINKS="")
        log = checkout / ".venv" / "install.log"
        assert done.returncode == 1
        lines = done.stderr.splitlines()
        assert "The installation failed. Its last lines:" in lines
        assert lines[-2] == log.read_text(encoding="utf-8").splitlines()[-1]
        assert lines[-1] == f"The whole log is {log}"
        assert len(lines) <= 20


@pytest.mark.slow
def test_a_verbose_install_shows_why_it_fails(checkout: Path, tmp_path: Path) -> None:
    process = install(checkout, with_python(tmp_path / "bin"), "-v", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert process.returncode == 1 and "No matching distribution found for" in process.stderr


def test_an_unknown_option_of_the_install_script_is_refused(checkout: Path, tmp_path: Path) -> None:
    done = install(checkout, only(tmp_path / "bin"), "--fast")
    assert (done.returncode, done.stdout) == (2, "")
    assert "not '--fast'" in done.stderr


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
