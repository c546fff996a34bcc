"""One daemon for all tests of flows, with a scripted model, a store, and an external service that it may reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.flows.outside import Outside
from tests.server.features.flows.steps import Bench

from portico import Client

SCRIPT = """
        - {match: "outline", content: '{"value": [{"title": "Flour"}, {"title": "Water"}]}'}
        - {match: "fenced", content: "Here it is:\\n```json\\n{\\"a\\": 1}\\n```\\nDone."}
        - {match: "yaml please", content: "```yaml\\na: 1\\nb: [x, y]\\n```"}
        - {match: "wrong first", content: ["no json at all", '{"a": 2}']}
        - {match: "Answer again", content: '{"a": 2}'}
        - {match: "never right", content: "still no json"}
        - {match: "fail always", error: {status: 400, message: "I will not.", code: refused}}
        - {match: "busy once", error: {status: 503, message: "Busy."}, times: 1}
        - {match: "hang now", content: "One two three", hang: 1}
        - {match: "price", content: "It costs 42 euros and 7 cents."}
        - {match: "lines", content: "first\\nsecond\\n\\nthird\\n"}
"""

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default]}}
  - name: clerk
    source: "fake://"
    parameters:
      script: {script}
  - {{name: endless, source: "{url}/v1#m"}}
  - {{name: ranker, source: "fake://", task: rerank}}
  - {{name: fake-embedding, source: "fake://", task: embedding, aliases: [default-embedding],
     parameters: {{dimensions: 16}}}}
"""


@pytest.fixture(scope="session")
def outside() -> Iterator[Outside]:
    with Outside() as server:
        yield server


@pytest.fixture(scope="session")
def flow_daemon(tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("flows")
    docs = home / "handbook"
    docs.mkdir()
    (docs / "bread.md").write_text("# Bread\n\nBread is baked at 230 degrees for forty minutes.\n")
    (docs / "port.md").write_text("# Ports\n\nThe Lighthouse daemon listens on port 7419.\n")
    configuration = home / "flows.yaml"
    configuration.write_text(CONFIGURATION.format(script=SCRIPT, url=outside.url))
    with daemons.running(
        home / "data",
        "--file",
        str(configuration),
        "--docs",
        str(docs),
        env={
            "PORTICO_TOOL_HOSTS": "127.0.0.1",
            "PORTICO_TOOL_APPROVAL": "never",
            "PORTICO_REDACT": "vault_*, pin",
            "PORTICO_REDACT_PATTERN": "sk-test-[a-z0-9]+",
        },
    ) as running:
        running.settle()
        yield running


@pytest.fixture(scope="session")
def client(flow_daemon: Daemon) -> Iterator[Client]:
    with Client(flow_daemon.url, timeout=60) as connected:
        yield connected


@pytest.fixture
def bench(client: Client, outside: Outside) -> Bench:
    return Bench(client, outside)


@pytest.fixture
def effect(outside: Outside) -> Callable[..., dict[str, Any]]:
    """Return a function that creates steps with an external effect."""

    def make(name: str, body: Any, **more: Any) -> dict[str, Any]:
        return {
            "op": "http",
            "name": name,
            "method": "POST",
            "url": f"{outside.url}/effect",
            "body": body,
            **more,
        }

    return make
