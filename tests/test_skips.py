"""The end of a test run lists the missing programs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import ROOT
from tests.skips import PROGRAMS

TESTS = """
import pytest

@pytest.mark.skip(reason="there is no Chromium here")
@pytest.mark.parametrize("number", range(3))
def test_page(number): ...

@pytest.mark.skipif(True, reason="no Slurm here: apt-get install slurmctld slurmd slurm-client munge")
def test_cluster(): ...

def test_terminal():
    pytest.skip("tmux is not installed")

@pytest.mark.skip(reason="it has no encoders")
def test_other(): ...

def test_good(): ...
"""


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_run_ends_with_the_missing_programs_and_the_line_that_installs_them(
    tmp_path: Path, workers: str
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-n", workers, "-p", "tests.skips", "--rootdir"]
    done = subprocess.run(
        [*command, str(tmp_path), str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-5:-1] == [
        "Chromium: 3 skipped",
        "Slurm: 1 skipped",
        "tmux: 1 skipped",
        "To run them: sudo apt-get install chromium munge slurm-client slurmctld slurmd tmux",
    ]


@pytest.mark.slow
def test_a_run_without_missing_programs_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("def test_good(): ...\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.skips",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "not installed" not in done.stdout


def test_every_reason_in_the_list_is_that_of_a_test() -> None:
    sources = [*(ROOT / "tests").rglob("*.py"), ROOT / "server/portico_server/features/sandbox/namespace.py"]
    text = " ".join(
        path.read_text(encoding="utf-8") for path in sources if path.name not in ("skips.py", "test_skips.py")
    )
    assert [words for words, *_ in PROGRAMS if not re.search(re.escape(words), text)] == []
