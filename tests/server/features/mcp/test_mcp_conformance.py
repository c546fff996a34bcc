"""The protocol's own conformance suite, limited to the scenarios that Portico supports.

Excluded are scenarios that need resources under their own addresses, and prompts or results that contain resources.
The tools, apps and prompts that the other scenarios name are added; those that answer with pictures and sounds come
from a hosted server. Both revisions run: the suite's release covers sessions, its coming release covers 2026-07-28.
The suite needs Node 22, which npm fetches with it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import daemon as daemons
from tests.daemon import ROOT, Daemon

SESSIONS = (
    "server-initialize",
    "ping",
    "logging-set-level",
    "tools-call-with-logging",
    "tools-call-sampling",
    "tools-call-elicitation",
    "elicitation-sep1034-defaults",
    "elicitation-sep1330-enums",
)
BOTH = (
    "server-sse-multiple-streams",
    "tools-list",
    "tools-call-simple-text",
    "tools-call-error",
    "tools-call-with-progress",
    "tools-call-image",
    "tools-call-audio",
    "resources-list",
    "prompts-list",
    "prompts-get-simple",
    "prompts-get-with-args",
    "completion-complete",
    "dns-rebinding-protection",
)

SUITE = "npm:@modelcontextprotocol/conformance"
RELEASES = (f"released@{SUITE}@0.1.16", f"coming@{SUITE}@0.2.0-alpha.12")
PLACE = ROOT / ".portico-test" / "conformance"

TOOLS = Path(__file__).parent
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
mcp:
  - {{name: hosted, command: ["{sys.executable}", "{TOOLS}/conformance_server.py"], prefix: ""}}
apps:
"""


def _form(**fields: Any) -> dict[str, Any]:
    """Return a flow that asks a person for some fields."""
    step = {"op": "approve", "message": "Please fill this in.", "answer_schema": _object(**fields)}
    return {"input_schema": {"type": "object"}, "step": step}


def _object(**fields: Any) -> dict[str, Any]:
    return {"type": "object", "properties": fields}


TEXT = {"type": "string"}
CHOICES = [{"const": f"value{number}", "title": f"Option {number}"} for number in (1, 2, 3)]
WORDS = ["option1", "option2", "option3"]
THREE_STEPS = {
    "input_schema": {"type": "object"},
    "step": {"op": "pipeline", "steps": [{"op": "emit", "text": word} for word in WORDS]},
}
FLOWS = {
    "test_sampling": {
        "input_schema": _object(prompt=TEXT),
        "step": {
            "op": "llm",
            "model": "client",
            "user": {"$ref": "input.prompt"},
            "options": {"max_tokens": 100},
        },
    },
    "test_tool_with_progress": THREE_STEPS,
    "test_tool_with_logging": THREE_STEPS,
    "test_elicitation": {
        **_form(username=TEXT, email={"type": "string", "format": "email"}),
        "input_schema": _object(message=TEXT),
    },
    "test_elicitation_sep1034_defaults": _form(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    ),
    "test_elicitation_sep1330_enums": _form(
        untitledSingle={"type": "string", "enum": WORDS},
        titledSingle={"type": "string", "oneOf": CHOICES},
        legacyEnum={"type": "string", "enum": ["opt1", "opt2", "opt3"], "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": WORDS}},
        titledMulti={"type": "array", "items": {"anyOf": CHOICES}},
    ),
}
CONFIGURATION += "".join(f"  - {json.dumps({'name': name, 'flow': flow})}\n" for name, flow in FLOWS.items())

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed"),
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """A daemon over the folder ``handbook`` with the names that the scenarios use."""
    home = tmp_path_factory.mktemp("home")
    configuration = home / "test.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    options = ("--file", str(configuration), "--docs", str(docs))
    with daemons.running(home / "data", *options, env={"PORTICO_TOOL_APPROVAL": "never"}) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def suites() -> Path:
    """The folder with both releases of the suite and the Node that they run on."""
    PLACE.mkdir(parents=True, exist_ok=True)
    options = ["--prefer-offline", "--no-audit", "--no-fund", "--prefix", str(PLACE)]
    command = ["npm", "install", *options, "node@22", *RELEASES]
    process = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False, cwd=PLACE)
    if process.returncode:
        pytest.skip(f"the suite cannot be fetched: {process.stderr[-200:]}")
    return PLACE / "node_modules"


@pytest.mark.parametrize(
    ("release", "revision", "scenarios"),
    [("released", "2025-11-25", (*SESSIONS, *BOTH)), ("coming", "2026-07-28", BOTH)],
)
def test_the_scenarios_that_apply_are_green(
    daemon: Daemon, suites: Path, release: str, revision: str, scenarios: tuple[str, ...]
) -> None:
    program = [str(suites / ".bin" / "node"), str(suites / release / "dist" / "index.js"), "server"]
    options = ["--url", f"{daemon.url}/mcp", "--spec-version", revision]
    done = subprocess.run([*program, *options], capture_output=True, text=True, check=False)
    failures = [scenario for scenario in scenarios if f"✓ {scenario}: " not in done.stdout]
    assert failures == [], done.stdout[-3000:] + done.stderr[-500:]
