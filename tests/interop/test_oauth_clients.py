"""Clients of the TypeScript SDK get access from a bare address."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests import daemon as daemons

KEY = "pk-interop-0123456789"
CONFIGURATION = f"""
keys:
  - {{name: ada, key: {KEY}, scopes: [chat, "tools:calculator:call"]}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["sdk", "modern"])
def test_the_typescript_sdk_reaches_the_tools_from_a_bare_address(
    tmp_path: Path, packages: Path, way: str
) -> None:
    configuration = tmp_path / "portico.yaml"
    configuration.write_text(CONFIGURATION)
    script = Path(__file__).with_name("oauth.mjs")
    with daemons.running(
        tmp_path / "home", "--file", str(configuration), env={"PORTICO_REQUIRE_KEY": "true"}
    ) as daemon:
        command = ["node", str(script), str(packages), way, f"{daemon.url}/mcp", KEY]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "calculator" in report["tools"] and report["scope"] == "chat tools:calculator:call"
