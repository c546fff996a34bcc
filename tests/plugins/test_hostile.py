"""A daemon with the plugins of a hostile distribution: each fails by itself, and the daemon serves everything else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
from tests import daemon as daemons
from tests.plugins.environment import environment

REFUSED: Final = {
    ("engine", "no-object"): "",
    ("engine", "no-module"): "ModuleNotFoundError",
    ("chunker", "sentence"): "the name 'sentence' is built in",
    ("tool", "calculator"): "the name 'calculator' is built in",
    ("tool", "interrupts"): "KeyboardInterrupt",
    ("tool", "unprintable"): "UnprintableError",
    ("tool", "no-function"): "TypeError",
    ("tool", "no-tool"): "",
}
"""Plugins that cannot be loaded, and a part of the reason."""

TOOLS: Final = {
    "raises": 500,
    "exits": 500,
    "returns-dict": 500,
    "returns-none": 500,
    "returns-object": 500,
    "returns-much": 200,
}
"""Tools that fail when they are called, and the status of the answer."""

CHUNKERS: Final = {
    "chunker-raises": "RuntimeError",
    "chunker-exits": "crashed the process that reads documents",
    "chunker-endless": "took longer than 3 s",
    "chunker-numbers": "AttributeError",
    "chunker-none": "TypeError",
}
"""Chunkers that fail, and a part of the reason."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    python = environment(tmp_path_factory.mktemp("plugins") / "venv", "hostile")
    home = tmp_path_factory.mktemp("home")
    (home / "portico.yaml").write_text('models: [{name: echo, source: "fake://", aliases: [default]}]\n')
    with (
        daemons.running(
            home / "data",
            "--file",
            str(home / "portico.yaml"),
            env={"PORTICO_PARSE_TIMEOUT": "3"},
            cold=True,
            python=python,
        ) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as connected,
    ):
        yield connected


def serves(client: httpx.Client) -> None:
    """Assert that the daemon answers, also with built-in tools and chunkers."""
    assert client.get("/health").status_code == 200
    body: dict[str, Any] = {"model": "default", "messages": [{"role": "user", "content": "hello"}]}
    assert client.post("/v1/chat/completions", json=body).status_code == 200
    answer = client.post("/api/tools/current_time/call", json={"arguments": {}})
    assert answer.status_code == 200, answer.text
    cut = client.post("/api/chunk", json={"text": "One. Two.", "strategies": ["sentence"]})
    assert cut.status_code == 200, cut.text


@pytest.mark.slow
def test_plugins_that_cannot_be_loaded_are_reported(client: httpx.Client) -> None:
    plugins = client.get("/api/plugins").raise_for_status().json()["data"]
    failure_reasons = {
        (entry["kind"], entry["name"]): entry["reason"] for entry in plugins if entry["state"] == "failed"
    }
    assert failure_reasons.keys() == REFUSED.keys(), failure_reasons
    assert all(REFUSED[key] in reason and reason for key, reason in failure_reasons.items()), failure_reasons
    serves(client)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_that_fails_fails_alone(client: httpx.Client, tool: str) -> None:
    answer = client.post(f"/api/tools/{tool}/call", json={"arguments": {}})
    assert answer.status_code == TOOLS[tool], answer.text
    assert "swordfish" not in answer.text and len(answer.content) < 100_000
    serves(client)


@pytest.mark.parametrize("chunker", CHUNKERS)
def test_a_chunker_that_fails_fails_alone(client: httpx.Client, chunker: str) -> None:
    answer = client.post("/api/chunk", json={"text": "One. Two.", "strategies": [chunker]})
    assert answer.status_code == 400 and CHUNKERS[chunker] in answer.json()["error"]["message"], answer.text
    serves(client)
