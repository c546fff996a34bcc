"""The protocol's own conformance suite, as far as its scenarios need no tools made for them.

Both revisions: the release of the suite knows the sessions, its coming one 2026-07-28. It needs Node 22, which npx
fetches along with it.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest
from tests.daemon import Daemon

SESSIONS = ("server-initialize", "ping", "server-sse-multiple-streams")
BOTH = ("tools-list", "resources-list", "completion-complete", "dns-rebinding-protection")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed"),
]


@pytest.mark.parametrize(
    ("suite", "revision", "scenarios"),
    [("0.1.16", "2025-11-25", (*SESSIONS, *BOTH)), ("0.2.0-alpha.12", "2026-07-28", BOTH)],
)
def test_the_scenarios_that_apply_are_green(
    daemon: Daemon, suite: str, revision: str, scenarios: tuple[str, ...]
) -> None:
    program = [
        "npx",
        "-y",
        "-p",
        "node@22",
        "-p",
        f"@modelcontextprotocol/conformance@{suite}",
        "conformance",
    ]
    fetched = subprocess.run([*program, "--version"], capture_output=True, text=True, check=False)
    if fetched.returncode:
        pytest.skip(f"the suite cannot be fetched: {fetched.stderr[-200:]}")
    options = ["--url", f"{daemon.url}/mcp", "--spec-version", revision]
    done = subprocess.run([*program, "server", *options], capture_output=True, text=True, check=False)
    failed = [scenario for scenario in scenarios if f"✓ {scenario}: " not in done.stdout]
    assert failed == [], done.stdout[-3000:] + done.stderr[-500:]
