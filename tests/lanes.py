"""Lanes of a test run: ``scripts/test`` leaves out the tests marked ``slow``, and ``scripts/test --all`` runs them too.

``python -m tests.lanes REPORT…`` reads JUnit reports of runs of one tree and fails if a case of the default lane took
more than `MAX_CASE_S` in each of them.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Generator, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.changed import touched_tests

MAX_CASE_S = 5.0
"""Seconds that a case of the default lane may take, with its share of the fixtures that it starts."""

_left_out = pytest.StashKey[int]()
_touched_paths = pytest.StashKey[Sequence[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lanes")
    group.addoption("--lane", choices=("default", "all"), default="all", help="default leaves out slow tests")
    group.addoption(
        "--slow-since",
        metavar="COMMIT",
        help="with --lane default: also run the slow tests that the changes since COMMIT touch",
    )
    group.addoption(
        "--shuffle", type=int, metavar="SEED", help="run the modules and their tests in random order"
    )


def pytest_collection_modifyitems(items: list[pytest.Item], config: pytest.Config) -> None:
    _leave_out(items, config)
    _sort(items)
    if (seed := config.getoption("--shuffle")) is not None:
        _shuffle(items, random.Random(seed))  # not a secret


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _leave_out(items: list[pytest.Item], config: pytest.Config) -> None:
    """Deselect the tests outside the lane, unless the command line selects tests by name or marker."""
    slow = [item for item in items if _is_slow(item)]
    for item in slow:
        item.user_properties.append(("lane", "slow"))
    by_name = any("::" in argument for argument in config.args)
    if config.getoption("--lane") == "all" or by_name or config.option.markexpr:
        return
    touched = {config.rootpath / path for path in _touched(config)}
    outside = {item for item in slow if item.path not in touched}
    config.stash[_left_out] = len(outside)
    config.hook.pytest_deselected(items=list(outside))
    items[:] = [item for item in items if item not in outside]


def _touched(config: pytest.Config) -> Sequence[str]:
    """Return the paths of the tests that the changes since ``--slow-since`` touch."""
    if hasattr(config, "workerinput"):
        paths: Sequence[str] = config.workerinput["touched"]
        return paths
    since = config.getoption("--slow-since")
    if since is not None and _touched_paths not in config.stash:
        config.stash[_touched_paths] = touched_tests(config.rootpath, since)
    return config.stash.get(_touched_paths, ())


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Send the paths to a worker, because finding them takes seconds."""
    node.workerinput["touched"] = _touched(node.config)


def _sort(items: list[pytest.Item]) -> None:
    """Put modules with slow tests first, then modules with many tests, so that no long module starts last."""
    slow: dict[Path, int] = {}
    case_counts: dict[Path, int] = {}
    for item in items:
        slow[item.path] = slow.get(item.path, 0) + _is_slow(item)
        case_counts[item.path] = case_counts.get(item.path, 0) + 1
    items.sort(key=lambda item: (-slow[item.path], -case_counts[item.path], str(item.path)))


def _shuffle(items: list[pytest.Item], chance: random.Random) -> None:
    """Change the order of the modules, and of the tests in each module."""
    modules = [list(group) for _path, group in groupby(items, key=lambda item: item.path)]
    for module in (modules, *modules):
        chance.shuffle(module)
    items[:] = [item for module in modules for item in module]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Report the number of tests that this worker left out: all workers leave out the same."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = session.config.stash.get(_left_out, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Note the number that a worker reports."""
    output = getattr(node, "workeroutput", {})
    node.config.stash[_left_out] = output.get("left_out", 0)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> Generator[None]:
    yield
    if count := config.stash.get(_left_out, 0):
        terminalreporter.line(f"{count} slow tests were left out; scripts/test --all runs them too.")


def long_cases(reports: Iterable[ElementTree.Element]) -> dict[str, float]:
    """Return the shortest time, in seconds, of each case of the default lane that exceeds the limit in all reports."""
    shortest: dict[str, float] = {}
    for number, report in enumerate(reports):
        times: dict[str, float] = {}
        for case in report.iter("testcase"):
            lanes = [prop.get("value") for prop in case.iter("property") if prop.get("name") == "lane"]
            if "slow" not in lanes:
                times[f"{case.get('classname')}::{case.get('name')}"] = float(case.get("time", 0))
        times_before = shortest if number else times
        shortest = {
            name: min(time, times_before[name]) for name, time in times.items() if name in times_before
        }
    return {name: time for name, time in shortest.items() if time > MAX_CASE_S}


def main(paths: Sequence[str]) -> int:
    """Print the cases that are too long for the default lane. Return 1 if there are any."""
    reports = [ElementTree.parse(path).getroot() for path in paths]  # pytest wrote them
    cases = sorted(long_cases(reports).items(), key=lambda case: -case[1])
    for name, time in cases:
        print(f"{time:.1f} s in each of {len(reports)} runs: {name}")
    if cases:
        print(f"Make these cases faster than {MAX_CASE_S:.0f} s, or mark them slow.")
    return 1 if cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
