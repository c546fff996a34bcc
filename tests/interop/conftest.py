"""The packages of other languages that the tests of this folder use."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.daemon import ROOT

PACKAGES = ("@modelcontextprotocol/sdk@1.32.2", "@modelcontextprotocol/client@2.4.0")
CACHE = ROOT / ".portico-test" / "interop"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder with the TypeScript SDK."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("npm is not installed, so there is no TypeScript SDK")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = [
        npm,
        "install",
        "--prefer-offline",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(CACHE),
        *PACKAGES,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=CACHE)
    if done.returncode:
        pytest.skip(f"the TypeScript SDK cannot be fetched: {done.stderr[-200:]}")
    return CACHE
