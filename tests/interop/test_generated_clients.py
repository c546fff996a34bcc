"""Clients that common generators write from a daemon's ``/openapi.json``: no warning, every operation, twenty calls."""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.conftest import CONFIGURATION
from tests.daemon import ROOT, Daemon
from tests.environments import ENVIRONMENTS, alone

from portico_server.core.errors import Unavailable
from portico_server.environments.build import PackageSet, build, is_whole, python_in

PYTHON_GENERATOR = "openapi-python-client==0.29.1"
NPM_PACKAGES = (
    "openapi-typescript@7.13.0",
    "openapi-fetch@0.17.0",
    "typescript@5.9.3",
    "@types/node@20.19.43",
)
MIN_CALLS = 20

TSC_OPTIONS = ("--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "false")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Iterator[Daemon]:
    """A daemon over the folder ``handbook`` with a model for each kind of answer."""
    home = tmp_path_factory.mktemp("generated")
    voice = '  - {name: voice, source: "fake://", task: speech}\n'
    (home / "models.yaml").write_text(CONFIGURATION + voice, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(home / "models.yaml"), "--docs", str(docs)) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def document(served: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The daemon's API document in a file of its own folder."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(httpx.get(f"{served.url}/openapi.json").text, encoding="utf-8")
    return path


def operation_count(document: Path) -> int:
    paths: Mapping[str, Any] = json.loads(document.read_text(encoding="utf-8"))["paths"]
    return sum(map(len, paths.values()))


def output_of(*command: str | Path, folder: Path) -> str:
    """Return everything that a program prints. It must succeed."""
    process = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert process.returncode == 0, process.stdout[-5_000:]
    return process.stdout


async def _report(_stage: str, _words: str) -> None:
    """Discard a progress message."""


async def _furnish(_draft: Path) -> dict[str, str]:
    """Add nothing to the packages."""
    return {}


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of an environment with openapi-python-client."""
    place = ENVIRONMENTS / PYTHON_GENERATOR
    version = platform.python_version().rpartition(".")[0]
    packages = PackageSet("openapi-python-client", "The generator", "", version, (PYTHON_GENERATOR,))
    with alone("openapi-python-client"):
        if not is_whole(place):
            try:
                asyncio.run(build(packages, place, _report, furnish=_furnish))
            except Unavailable as error:
                pytest.skip(f"openapi-python-client cannot be installed: {error}"[:400])
    return python_in(place)


@pytest.fixture(scope="module")
def node_packages() -> Path:
    """A folder with openapi-typescript, a client that uses its types, and the compiler."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, so there is no openapi-typescript")
    place = ROOT / ".portico-test" / "openapi-typescript"
    place.mkdir(parents=True, exist_ok=True)
    options = ("--prefer-offline", "--no-audit", "--no-fund", "--prefix", str(place))
    with alone("openapi-typescript"):
        process = subprocess.run(
            [npm, "install", *options, *NPM_PACKAGES], capture_output=True, text=True, check=False, cwd=place
        )
    if process.returncode:
        pytest.skip(f"openapi-typescript cannot be fetched: {process.stderr[-200:]}")
    return place / "node_modules"


@pytest.mark.conformance("OpenAPI", "Generated client", "openapi-python-client")
def test_openapi_python_client(served: Daemon, document: Path, python: Path) -> None:
    folder = document.parent
    (folder / "generator.yaml").write_text("post_hooks: []\n", encoding="utf-8")
    options = (
        "--meta",
        "none",
        "--config",
        "generator.yaml",
        "--path",
        document,
        "--output-path",
        "generated",
    )
    text = output_of(python.with_name("openapi-python-client"), "generate", *options, folder=folder)
    assert "warning" not in text.lower(), text
    operations = [path for path in (folder / "generated" / "api").rglob("*.py") if path.stem != "__init__"]
    assert len(operations) == operation_count(document)
    program = Path(__file__).with_name("generated.py")
    calls = output_of(python, program, folder, served.url, folder=folder).splitlines()
    assert len(set(calls)) >= MIN_CALLS, calls


@pytest.mark.conformance("OpenAPI", "Generated client", "openapi-typescript")
def test_openapi_typescript(served: Daemon, document: Path, node_packages: Path) -> None:
    folder = document.parent
    (folder / "node_modules").symlink_to(node_packages)
    (folder / "package.json").write_text('{"type": "module"}', encoding="utf-8")
    shutil.copy(Path(__file__).with_name("generated.ts"), folder)
    programs = node_packages / ".bin"
    options = ("--default-non-nullable=false", "--output", "api.d.ts")
    text = output_of(programs / "openapi-typescript", document, *options, folder=folder)
    assert "warn" not in text.lower(), text
    types = (folder / "api.d.ts").read_text(encoding="utf-8")
    assert types.count(': operations["') == operation_count(document)
    output_of(programs / "tsc", *TSC_OPTIONS, "generated.ts", folder=folder)
    calls = output_of("node", "generated.js", served.url, folder=folder).splitlines()
    assert len(set(calls)) >= MIN_CALLS, calls
