"""The page that lists what each protocol's client packages do, and the tests that prove it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.daemon import ROOT

PAGE = ROOT / "docs" / "conformance.md"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``scripts/conformance``."""
    script = ROOT / "scripts" / "conformance"
    return subprocess.run(
        [sys.executable, str(script), *arguments], capture_output=True, text=True, check=False
    )


def test_the_page_has_a_row_for_each_mark_with_the_version_installed() -> None:
    assert run("--check").stderr == ""


def test_each_test_of_the_page_exists() -> None:
    tests = re.findall(r"`(tests/\S+\.py)::(test_\w+)`", PAGE.read_text("utf-8"))
    assert tests
    for path, name in tests:
        assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text("utf-8"), re.MULTILINE), name


@pytest.mark.parametrize("fault", ["<failure/>", "<skipped/>", None])
def test_a_test_that_did_not_pass_leaves_the_page_as_it_is(tmp_path: Path, fault: str | None) -> None:
    page = PAGE.read_text("utf-8")
    case = '<testcase classname="tests.client.test_agent_server" name="test_x">{}</testcase>'
    cases = "" if fault is None else case.format(fault)
    report = tmp_path / "report.xml"
    report.write_text(
        f'<testsuites><testsuite timestamp="2026-01-02T03:04:05">{cases}</testsuite></testsuites>'
    )
    process = run(str(report))
    assert process.returncode == 1
    assert "tests/client/test_agent_server.py::" in process.stderr
    assert PAGE.read_text("utf-8") == page
