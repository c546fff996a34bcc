"""SGLang, an engine that is only a plugin, passes every engine contract test."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from tests.daemon import ROOT
from tests.plugins.environment import HERE, environment

SGLANG = ROOT / "plugins" / "sglang"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_sglang_plugin_passes_its_checks_in_a_separate_environment(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv", str(SGLANG))
    options = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "asyncio_default_fixture_loop_scope=function",
        "-c",
        "/dev/null",
        "-W",
        "error",
        "--basetemp",
        str(tmp_path / "runs"),
    ]
    done = subprocess.run(
        [str(python), "-P", "-m", "pytest", *options, str(HERE / "sglang" / "promises.py")],
        capture_output=True,
        text=True,
        timeout=280,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout
