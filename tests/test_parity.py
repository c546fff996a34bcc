"""The command line and the terminal UI can do everything that the API can, or docs/parity.md says why not."""

from __future__ import annotations

import json
import re
import urllib.request
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests import daemon as daemons
from tests import parity


@pytest.mark.slow
def test_every_route_has_an_sdk_call_or_a_documented_exemption(tmp_path: Path) -> None:
    file = tmp_path / "portico.yaml"
    file.write_text("models: [{name: echo, source: 'fake://'}]\nagents: [{name: clerk, model: echo}]\n")
    with (
        daemons.running(tmp_path / "data", "--file", str(file)) as running,
        urllib.request.urlopen(f"{running.url}/openapi.json", timeout=60) as answer,
    ):
        paths = json.load(answer)["paths"]
    routes = {
        f"{method.upper()} {re.sub(r'{[^}]*}', '{}', path)}"
        for path, methods in paths.items()
        for method in methods
    }
    called = {route for verb in parity.verbs() for route in verb.routes}
    protocol_patterns = parity.protocol_routes()
    without = {route.partition(" ")[2] for route in routes - called}
    unexplained = {
        path for path in without if not any(fnmatchcase(path, pattern) for pattern in protocol_patterns)
    }
    assert unexplained == set(), (
        "give each a method in the SDK, or a row of the second table of docs/parity.md"
    )
    idle = {
        pattern for pattern in protocol_patterns if not any(fnmatchcase(path, pattern) for path in without)
    }
    assert idle == set(), "these rows of docs/parity.md explain nothing"


@pytest.mark.parametrize("place", ["CLI", "TUI"])
def test_every_verb_exists_in_the_cli_and_tui_or_is_exempted(place: str) -> None:
    matrix = parity.matrix()
    explained = {verb for row in parity.exemptions() if place in row.missing for verb in row.verbs}
    missing = {verb.key for verb, places in matrix.items() if place not in places}
    unexplained = missing - explained
    assert unexplained == set(), f"not in the {place}: build them, or explain them in docs/parity.md"
    assert explained - missing == set(), f"they are in the {place}: take them out of docs/parity.md"


def test_the_table_names_verbs_that_exist_and_has_a_reason_for_each() -> None:
    verb_keys = {verb.key for verb in parity.verbs()}
    for row in parity.exemptions():
        assert set(row.verbs) <= verb_keys
        assert row.missing <= {"CLI", "TUI", "page"}
        assert len(row.why) > 10


def test_features_that_the_page_lacks_are_in_the_table() -> None:
    """Checks one direction only: requests are found by a pattern, which does not cover all of TypeScript."""
    explained = {verb for row in parity.exemptions() if "page" in row.missing for verb in row.verbs}
    missing = {verb.key for verb, places in parity.matrix().items() if "page" not in places}
    assert missing - explained == set(), "not in the page: build them, or explain them in docs/parity.md"
    assert {"DELETE /api/keys/{}", "POST /api/deployments/{}/unload"} <= parity.used_by_page()
