"""The lanes of a test run: what ``scripts/test`` leaves out, and which cases are too long for it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.daemon import ROOT
from tests.lanes import MAX_CASE_S, long_cases

TESTS = """
import pytest

def test_quick(): ...

@pytest.mark.slow
@pytest.mark.parametrize("number", range(3))
def test_training(number): ...
"""


def run(folder: Path, *options: str) -> str:
    """Run the tests of a folder, and return what pytest prints."""
    command = [sys.executable, "-m", "pytest", "-p", "tests.lanes", "-v", "-p", "no:cacheprovider"]
    command += ["-o", "markers=slow", "--rootdir", str(folder), *options]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    ("options", "passed", "left_out"),
    [
        (["--lane", "default"], 1, 3),
        (["--lane", "default", "-n", "2"], 1, 3),
        (["--lane", "all"], 4, 0),
        ([], 4, 0),
        (["--lane", "default", "test_some.py::test_training"], 3, 0),
        (["--lane", "default", "-m", "slow"], 3, 0),
    ],
)
def test_the_default_lane_leaves_out_slow_tests_unless_the_command_selects_them(
    tmp_path: Path, options: list[str], passed: int, left_out: int
) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    output = run(tmp_path, *options)
    assert f"{passed} passed" in output
    line = f"{left_out} slow tests were left out; scripts/test --all runs them too."
    assert (line in output) == bool(left_out)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_default_lane_runs_the_slow_tests_that_a_change_touches(tmp_path: Path, workers: str) -> None:
    for name in ("tests/test_training.py", "tests/test_other.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TESTS)
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "First"]):
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True)
    (tmp_path / "tests" / "test_training.py").write_text(TESTS + "\n")
    output = run(tmp_path, "--lane", "default", "--slow-since", "HEAD", "-n", workers)
    assert "5 passed" in output
    assert "3 slow tests were left out" in output


@pytest.mark.slow
def test_a_seed_decides_the_order_of_modules_and_tests(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / f"test_{name}.py").write_text(TESTS)
    orders = [
        re.findall(r"test_\w\.py::\S+", run(tmp_path, *options))
        for options in (
            [],
            ["--shuffle", "1"],
            ["--shuffle", "1"],
            ["--shuffle", "2"],
        )
    ]
    assert orders[1] == orders[2]
    assert len({tuple(order) for order in orders}) == 3
    assert all(sorted(order) == sorted(orders[0]) for order in orders)
    assert "24 passed" in run(tmp_path, "--shuffle", "1", "-n", "2")


def report(*cases: tuple[str, float, bool]) -> ElementTree.Element:
    """Return a JUnit report of cases: name, seconds, and whether the case is slow."""
    root = ElementTree.Element("testsuites")
    for name, seconds, is_slow in cases:
        case = ElementTree.SubElement(root, "testcase", classname="tests.a", name=name, time=str(seconds))
        if is_slow:
            ElementTree.SubElement(case, "property", name="lane", value="slow")
    return root


@pytest.mark.parametrize(
    ("times", "is_slow", "expected"),
    [
        ((6, 7, 8), False, {"tests.a::test_x": 6}),
        ((6, 1, 8), False, {}),
        ((MAX_CASE_S, 9, 9), False, {}),
        ((60, 60, 60), True, {}),
    ],
)
def test_a_case_that_is_too_long_in_each_run_does_not_belong_to_the_default_lane(
    times: tuple[float, ...], is_slow: bool, expected: dict[str, float]
) -> None:
    assert long_cases([report(("test_x", time, is_slow)) for time in times]) == expected


def test_a_case_that_did_not_run_each_time_is_not_judged() -> None:
    assert long_cases([report(("test_x", 9, False)), report()]) == {}
