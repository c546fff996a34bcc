"""The protocol's own conformance suite, as far as its scenarios ask for what there is here.

Left out are those that want resources under addresses of their own, prompts and results with pictures or sounds of
their own, sampling, and tools that send notices of their own. The tools and prompts that the others name are added.
Both revisions: the release of the suite knows the sessions, its coming one 2026-07-28. It needs Node 22, which npx
fetches along with it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon

SESSIONS = ("server-initialize", "ping", "logging-set-level")
BOTH = (
    "server-sse-multiple-streams",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "resources-list",
    "prompts-list",
    "prompts-get-simple",
    "prompts-get-with-args",
    "completion-complete",
    "dns-rebinding-protection",
)

TOOLS = Path(__file__).parent / "mcp"
CONFIGURATION = f"""
prompts:
  - name: test_simple_prompt
    description: A prompt without arguments.
    messages: This is a simple prompt for testing.
  - name: test_prompt_with_arguments
    description: A prompt with two arguments.
    arguments: [{{name: arg1, required: true, description: One}}, {{name: arg2, required: true, description: Two}}]
    messages: "Prompt with arguments: arg1='{{arg1}}', arg2='{{arg2}}'"
tools:
  - {{name: test_simple_text, function: "conformance_tools:test_simple_text", folder: "{TOOLS}"}}
  - {{name: test_error_handling, function: "conformance_tools:test_error_handling", folder: "{TOOLS}"}}
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("npx") is None, reason="npx is not installed"),
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """A daemon over the folder ``handbook`` with what the scenarios name."""
    home = tmp_path_factory.mktemp("home")
    configuration = home / "test.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(docs)) as running:
        running.settle()
        yield running


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
