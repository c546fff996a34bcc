"""A real daemon with the plugins of two distributions: one with working plugins, one with broken plugins."""

from __future__ import annotations

import ast
import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp.client import Client as McpClient
from openai import OpenAI
from tests import daemon as daemons
from tests.client.cli.terminal import COMMAND
from tests.daemon import ROOT
from tests.plugins.environment import HERE, environment

from portico import Client, plugin
from portico.flow import tool

POEM = "The tide comes in,\nthe boats go out.\n\n潮水来了，\n船出海了。\n"


class _Pier(BaseHTTPRequestHandler):
    """The provider's server, which records its requests."""

    asked: list[dict[str, Any]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append({**body, "key": self.headers["Authorization"]})
        message = {"role": "assistant", "content": "from the pier"}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        completion = {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "far",
            "choices": [choice],
        }
        data = json.dumps({**completion, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def pier() -> Iterator[HTTPServer]:
    _Pier.asked = []
    with HTTPServer(("127.0.0.1", 0), _Pier) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an interpreter with the two distributions and the remains of a half-removed one."""
    interpreter = environment(tmp_path_factory.mktemp("plugins") / "venv", "package", "broken")
    [packages] = interpreter.parent.parent.glob("lib/python*/site-packages")
    leftover_folder = packages / "portico_gone-1.0.dist-info"
    leftover_folder.mkdir()
    (leftover_folder / "entry_points.txt").write_text(
        "[portico.engines]\ngone = portico_gone:Engine\n", encoding="utf-8"
    )
    return interpreter


@pytest.fixture(scope="module")
def client(
    tmp_path_factory: pytest.TempPathFactory, python: Path, pier: HTTPServer
) -> Iterator[httpx.Client]:
    home = tmp_path_factory.mktemp("home")
    configuration = home / "portico.yaml"
    configuration.write_text(
        """
models:
  - {name: backwards, source: "reverse://", aliases: [default]}
  - {name: far, source: "remote://pier/far"}
  - {name: never, source: "missing://", engine: missing}
""",
        encoding="utf-8",
    )
    variables = {"PIER_BASE_URL": f"http://127.0.0.1:{pier.server_port}", "PIER_API_KEY": "secret"}
    with (
        daemons.running(
            home / "data", "--file", str(configuration), env=variables, cold=True, python=python
        ) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as connected,
    ):
        yield connected


@pytest.mark.slow
def test_all_plugins_are_listed_with_distribution_and_failure_reason(client: httpx.Client) -> None:
    plugins = client.get("/api/plugins").json()["data"]
    with Client(str(client.base_url)) as sdk:
        assert [asdict(plugin) for plugin in sdk.plugins.list()] == plugins
    ready = {
        (p["kind"], p["name"], p["distribution"], p["version"]) for p in plugins if p["state"] == "ready"
    }
    assert ready == {
        ("engine", "reverse", "portico-harbour", "1.2.0"),
        ("chunker", "stanza", "portico-harbour", "1.2.0"),
        ("tool", "tide", "portico-harbour", "1.2.0"),
        ("provider", "pier", "portico-harbour", "1.2.0"),
    }
    failure_reasons = {(p["kind"], p["name"]): p["reason"] for p in plugins if p["state"] == "failed"}
    assert {p["distribution"] for p in plugins if p["state"] == "failed"} == {"portico-wreck"}
    expected_reasons = {
        ("engine", "fake"): "the name 'fake' is built in",
        ("engine", "reverse"): "the name 'reverse' belongs to the engine of portico-harbour",
        ("engine", "missing"): "ModuleNotFoundError: No module named 'portico_wreck.absent'",
        ("engine", "shapeless"): "an engine must have the members of Engine",
        (
            "chunker",
            "older",
        ): "its module sets PORTICO_PLUGIN_API to 2; this daemon supports plugins of version 1",
        ("chunker", "Loud"): "its name must be a lower-case letter",
        ("tool", "misnamed"): "its own name is 'another', but its entry point is 'misnamed'",
        ("tool", "quits"): "SystemExit: no licence",
        ("provider", "text"): "a provider must be a ModelProvider",
    }
    assert failure_reasons.keys() == expected_reasons.keys()
    assert all(reason in failure_reasons[key] for key, reason in expected_reasons.items()), failure_reasons


def test_the_plugins_list_command_prints_every_plugin(client: httpx.Client) -> None:
    line = [*COMMAND, "--url", str(client.base_url), "plugins", "list"]
    text_result = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (text_result.returncode, text_result.stderr) == (0, "")
    rows = [row.split() for row in text_result.stdout.splitlines()]
    assert ["tool", "tide", "portico-harbour", "1.2.0", "ready"] in rows
    assert ["tool", "quits", "portico-wreck", "0.0.1", "failed", "SystemExit:", "no", "licence"] in rows
    json_result = subprocess.run([*line, "--json"], capture_output=True, text=True, timeout=60)
    assert json.loads(json_result.stdout) == client.get("/api/plugins").json()


def test_plugins_that_fail_to_load_are_reported_as_daemon_problems(client: httpx.Client) -> None:
    problems = client.get("/api/status").json()["problems"]
    lines = {problem["name"]: f"{problem['place']}: {problem['reason']}" for problem in problems}
    assert lines["older"].startswith(
        "plugins.chunker: The chunker 'older' of portico-wreck 0.0.1 cannot be loaded"
    )
    assert lines["never"].startswith("models[2].engine: The engine 'missing' of portico-wreck 0.0.1")
    assert "stanza" not in lines


def test_a_plugin_engine_answers_chats_and_is_listed(client: httpx.Client) -> None:
    body = {"model": "backwards", "messages": [{"role": "user", "content": "one two three"}], "max_tokens": 3}
    completion = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    assert completion["choices"][0]["message"]["content"] == "three two one"
    assert completion["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}
    streamed = client.post("/v1/chat/completions", json={**body, "stream": True}).text
    assert streamed.count('"content": " ') == 2
    assert streamed.endswith("data: [DONE]\n\n")
    engines = {engine["name"]: engine for engine in client.get("/api/engines").json()["data"]}
    assert (engines["reverse"]["state"], engines["reverse"]["version"]) == ("plugin", "1.2.0")
    assert engines["missing"]["state"] == "broken"
    assert engines["fake"]["state"] == "built in"
    [card] = [model for model in client.get("/v1/models").json()["data"] if model["id"] == "backwards"]
    assert "thoughts" in card["capabilities"]


def test_an_engine_that_cannot_be_loaded_is_a_clear_error(client: httpx.Client) -> None:
    answer = client.post("/api/deployments", json={"name": "x", "source": "missing://"})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["code"], error["param"]) == (
        400,
        "invalid_request_error",
        "plugin_failed",
        "engine",
    )
    assert "portico-wreck 0.0.1 cannot be loaded: ModuleNotFoundError" in error["message"]


def test_a_plugin_chunker_splits_the_files_of_a_store(client: httpx.Client) -> None:
    assert "stanza" in {chunker["name"] for chunker in client.get("/api/chunkers").json()["data"]}
    stanzas = [stanza.strip() for stanza in POEM.split("\n\n")]
    with OpenAI(base_url=f"{client.base_url}/v1", api_key="none") as openai:
        store = openai.vector_stores.create(name="poems")
        file = openai.vector_stores.files.upload_and_poll(
            vector_store_id=store.id,
            file=("tide.txt", POEM.encode()),
            chunking_strategy={"type": "stanza"},  # type: ignore[arg-type]
        )
        assert (file.status, file.last_error) == ("completed", None)
        results = openai.vector_stores.search(store.id, query="tide boats 潮水").data
    assert {content.text for result in results for content in result.content} == set(stanzas)
    cut = client.post("/api/chunk", json={"text": POEM, "strategies": ["stanza"]}).json()["data"]
    assert [chunk["text"] for chunk in cut[0]["chunks"]] == stanzas


def test_a_chunker_that_cannot_be_loaded_is_a_clear_error(client: httpx.Client) -> None:
    answer = client.post("/api/chunk", json={"text": POEM, "strategies": ["older"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "plugin_failed"


def test_a_plugin_tool_is_called_and_invalid_calls_are_refused(client: httpx.Client) -> None:
    tools = {tool["name"]: tool for tool in client.get("/api/tools").json()["data"]}
    assert "tide" in tools
    assert not {"misnamed", "quits", "another"} & tools.keys()
    answer = client.post("/api/tools/tide/call", json={"arguments": {"hours": 0}}).json()
    assert answer["structured"] == {"metres": 2.5}
    wrong = client.post("/api/tools/tide/call", json={"arguments": {"hours": -1}})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "arguments.hours")
    response = client.post("/api/tools/quits/call", json={"arguments": {}})
    assert (response.status_code, response.json()["error"]["code"]) == (400, "plugin_failed")
    absent = client.post("/api/tools/absent/call", json={"arguments": {}})
    assert (absent.status_code, absent.json()["error"]["code"]) == (404, "tool_not_found")


async def test_the_tool_is_served_over_mcp_and_in_flows(client: httpx.Client) -> None:
    async with McpClient(f"{client.base_url}/mcp") as mcp:
        assert "tide" in {tool.name for tool in (await mcp.list_tools()).tools}
        assert (await mcp.call_tool("tide", {"hours": 0})).structured_content == {"metres": 2.5}
    with Client(str(client.base_url)) as sdk:
        assert sdk.run(tool("tide"), {"hours": 0}) == {"metres": 2.5}


def test_requests_are_adapted_to_the_dialect_of_a_plugin_provider(client: httpx.Client) -> None:
    body = {
        "model": "far",
        "messages": [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}],
        "max_completion_tokens": 5,
    }
    completion = client.post("/v1/chat/completions", json=body).raise_for_status().json()
    assert completion["choices"][0]["message"]["content"] == "from the pier"
    [provider_request] = _Pier.asked
    assert (provider_request["max_tokens"], provider_request["key"], provider_request["model"]) == (
        5,
        "Bearer secret",
        "far",
    )
    assert [message["role"] for message in provider_request["messages"]] == ["system", "user"]
    assert "max_completion_tokens" not in provider_request


@pytest.mark.slow
def test_plugins_pass_the_contract_checks_of_their_kind(python: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-c", "/dev/null"]
    done = subprocess.run(
        [str(python), "-P", "-m", "pytest", *options, str(HERE / "package" / "promises.py")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "22 passed" in done.stdout


@pytest.mark.parametrize(
    "package", [HERE / "package", ROOT / "plugins" / "sglang"], ids=lambda path: path.name
)
def test_one_module_exports_everything_that_plugins_import(package: Path) -> None:
    modules = [*package.glob("src/**/*.py")]
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in modules]
    imported = {
        node.module
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("portico")
    }
    assert imported == {"portico.plugin"}


def test_the_interface_of_plugins_is_small_and_whole() -> None:
    assert len(plugin.__all__) <= 30
    assert all(getattr(plugin, name).__name__ == name for name in plugin.__all__)
    with pytest.raises(AttributeError, match="Engin"):
        plugin.Engin  # noqa: B018
