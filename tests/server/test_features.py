"""The table of features: what a declaration refers to exists, and a daemon serves without any one of them."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from pkgutil import resolve_name

import httpx
import pytest
from fastapi import APIRouter
from tests.daemon import environment

from portico_server.api import fastapi_app
from portico_server.api.routes import find_route
from portico_server.core.feature import Feature
from portico_server.feature_table import FEATURES, declarations

WITHOUT = """
import sys
from portico_server import feature_table
feature_table.OFF = frozenset({sys.argv.pop(1)})
from portico_server.__main__ import main
sys.exit(main(sys.argv[1:]))
"""
"""A program that runs the daemon without the feature that its first argument names."""

ROOT = Path(__file__).parents[2]

FOLDERS = sorted(file.parent for file in (ROOT / "server/portico_server/features").glob("*/__init__.py"))
"""The folder of each feature."""

MAX_README_LINES = 50

CONFIGURATION = """
models:
  - {name: echo, source: "fake://", aliases: [default]}
"""


@contextlib.contextmanager
def daemon_without(feature: str, home: Path) -> Iterator[str]:
    """Yield the URL of a daemon without a feature."""
    file = home / "portico.yaml"
    file.write_text(CONFIGURATION, encoding="utf-8")
    options = ("--home", str(home / "data"), "--port", "0", "--parent-watch", "--quiet", "--file", str(file))
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", WITHOUT, feature, "serve", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        assert process.stdout is not None and process.stdin is not None
        yield str(json.loads(process.stdout.readline())["url"])
        process.stdin.close()
        assert process.wait(60) == 0


def paths_of(feature: Feature) -> list[str]:
    """Return a path of each route whose requests the feature itself answers."""
    handled_paths = [route.path for route in feature.routes if route.methods or route.handler]
    return [path.removesuffix("*") for path in (*feature.paths, *handled_paths)]


@pytest.mark.parametrize("name", FEATURES)
def test_everything_a_feature_refers_to_exists(name: str) -> None:
    feature: Feature = resolve_name(f"{FEATURES[name]}:FEATURE")
    assert feature.name == name
    assert set(feature.needs) <= set(list(FEATURES)[: list(FEATURES).index(name)])
    references = [
        feature.service,
        feature.status,
        *feature.routers,
        *feature.shared_routers,
        *(key.read for key in feature.keys),
        *(reference for key in feature.keys for reference in (key.reconciler, key.table, key.setter)),
        *(reference for route in feature.routes for reference in route.methods.values()),
        *(
            reference
            for route in feature.routes
            for reference in (route.handler, route.shape, route.shape_of)
        ),
    ]
    assert all(resolve_name(reference) is not None for reference in references if reference)


@pytest.mark.parametrize("feature", declarations(), ids=attrgetter("name"))
def test_all_paths_of_a_feature_lead_to_it(feature: Feature) -> None:
    for router in feature.routers:
        for route in resolve_name(router).routes:
            assert find_route(route.path.replace("{", "").replace("}", "")).adapter == feature.name, (
                route.path
            )


def test_routers_are_imported_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """FastAPI changes the warning filters of the whole process meanwhile."""
    second_thread = threading.Barrier(2, timeout=1.0)
    overlaps = []

    def resolve_beside_another_thread(_reference: str) -> APIRouter:
        with contextlib.suppress(threading.BrokenBarrierError):
            second_thread.wait()
            overlaps.append(threading.current_thread().name)
        return APIRouter()

    monkeypatch.setattr(fastapi_app, "resolve_name", resolve_beside_another_thread)
    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(fastapi_app.build_feature, ("schedules", "distil")))
    assert not overlaps


@pytest.mark.parametrize("feature", declarations(), ids=attrgetter("name"))
def test_a_daemon_serves_without_a_feature(feature: Feature, tmp_path: Path) -> None:
    with daemon_without(feature.name, tmp_path) as url, httpx.Client(base_url=url, timeout=60) as client:
        for path in paths_of(feature):
            answer = client.get(path)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "feature_not_found"), path
            assert f"does not have the feature '{feature.name}'" in error["message"]
        body = {"model": "default", "messages": [{"role": "user", "content": "Hello"}]}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
        assert client.get("/openapi.json").status_code == 200
        assert client.get("/api/status").status_code == 200
        for key in feature.keys:
            refusal = client.post("/api/apply", json={"configuration": {key.name: []}})
            assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "feature_not_found")


@pytest.mark.parametrize("folder", FOLDERS, ids=attrgetter("name"))
def test_each_feature_says_on_one_page_how_data_pass_through_it(folder: Path) -> None:
    lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert headings == ["## How data pass through it", "## What it needs", "## How to test it"]
    assert len(lines) <= MAX_README_LINES


@pytest.mark.parametrize("folder", FOLDERS, ids=attrgetter("name"))
def test_the_tests_that_a_feature_names_exist(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    paths = re.findall(r"\b(?:tests|bench)/[\w/*]+(?:\.py)?", text)
    assert paths
    assert [path for path in paths if not any(ROOT.glob(path))] == []
