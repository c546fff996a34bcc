"""Behind a proxy that leads nowhere, everything that Portico starts reaches this machine without the proxy."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.client.cli.conftest import Command
from tests.conftest import CONFIGURATION, DOCS
from tests.daemon import Daemon, environment

from portico import AsyncClient, Client
from portico.testing.model_fixture import model_fixture, user
from portico_server.child_environment import is_local, unproxied
from portico_server.models.spec import ModelSpec

NOWHERE = "http://127.0.0.1:1"
PROXIES = {
    name: NOWHERE for word in ("http_proxy", "https_proxy", "all_proxy") for name in (word, word.upper())
}
COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]
LIMIT = 60
"""Seconds after which a test gives up on a process."""


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a user behind the proxy, without ``NO_PROXY``."""
    home = tmp_path_factory.mktemp("home") / "data"
    variables = environment(PORTICO_HOME=str(home), NO_COLOR="1", **PROXIES)
    return {name: value for name, value in variables.items() if name.upper() != "NO_PROXY"}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, proxied: dict[str, str]) -> Iterator[str]:
    """Return the address of a daemon that ``portico up`` started behind the proxy over a folder."""
    folder = tmp_path_factory.mktemp("docs") / "handbook"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text, encoding="utf-8")
    configuration = folder.parent / "portico.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    arguments = ("up", "--port", "0", "-f", str(configuration), "--docs", str(folder))
    with subprocess.Popen(
        [*COMMAND, *arguments], env=proxied, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        panel = ""
        for line in process.stdout:
            panel += line
            if "Press Ctrl-C" in line:
                break
        try:
            note = Path(proxied["PORTICO_HOME"]) / "daemon.json"
            yield json.loads(note.read_text(encoding="utf-8"))["url"]
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=LIMIT)


@pytest.fixture
def command(command: Command, here: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in PROXIES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PORTICO_URL", here)
    return command


@pytest.mark.slow
def test_the_folder_is_indexed_by_meaning(command: Command) -> None:
    store = command("stores", "show", "handbook", "--json").json
    assert store["embedding_model"]
    assert (store["file_counts"]["completed"], store["file_counts"]["failed"]) == (len(DOCS), 0)
    assert [
        run["status"] for run in command("runs", "list", "--json").json["data"] if run["kind"] == "sync"
    ] == ["completed"]


def test_questions_and_conversations_are_answered(
    command: Command, proxied: dict[str, str], here: str
) -> None:
    answer = command("ask", "Which port does the daemon listen on?", "--app", "handbook")
    assert answer.code == 0 and "port.md" in answer.out
    done = subprocess.run(
        [*COMMAND, "chat", "--model", "echo"],
        env={**proxied, "PORTICO_URL": here},
        input="Good morning.\n",
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0 and "Good morning." in done.stdout


def test_models_and_vectors_are_at_hand(command: Command, here: str) -> None:
    names = [model["name"] for model in command("models", "list", "--json").json["data"]]
    assert {"echo", "fake-embedding"} <= set(names)
    with Client(here) as client:
        assert len(client.embed(["bread"]).data[0]) > 1


def test_a_local_server_is_usable_as_model_and_mcp_server_without_the_proxy(
    command: Command, here: str, daemon: Daemon
) -> None:
    with Client(here) as client:
        client.deployments.add("neighbour", f"{daemon.url}/v1#echo")
        assert client.chat("Hello over there.", "neighbour").read().text == "Hello over there."
    assert command("mcp", "add", "next-door", "--url", f"{daemon.url}/mcp").code == 0
    [server] = [s for s in command("mcp", "list", "--json").json["data"] if s["name"] == "next-door"]
    assert server["state"] == "ready", server


async def test_the_sdk_reaches_the_local_daemon_behind_a_proxy(command: Command, here: str) -> None:
    async with AsyncClient(here) as client:
        assert (await client.search("handbook", "bread")).passages[0].filename == "bread.txt"


def test_the_mcp_bridge_reaches_the_local_daemon_behind_a_proxy(proxied: dict[str, str], here: str) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    }
    done = subprocess.run(
        [*COMMAND, "mcp"],
        env={**proxied, "PORTICO_URL": here},
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert json.loads(done.stdout.splitlines()[0])["result"]["serverInfo"]["name"]


async def test_a_server_elsewhere_is_asked_through_the_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        lines.append(head.partition(b"\r\n")[0])
        body = (
            b'{"choices":[{"index":0,"message":{"role":"assistant","content":"far"},"finish_reason":"stop"}]}'
        )
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        for name in PROXIES:
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        async with model_fixture(tmp_path) as fixture:
            await fixture.models.add(ModelSpec("near", "fake://"))
            assert (await fixture.ask("near", {"messages": user("near")}))["choices"][0]["message"][
                "content"
            ] == "near"
            assert lines == []
            await fixture.models.add(ModelSpec("far", "http://models.invalid/v1#m"))
            answer = await fixture.ask("far", {"messages": user("Hello?")})
    assert answer["choices"][0]["message"]["content"] == "far"
    assert lines == [b"POST http://models.invalid/v1/chat/completions HTTP/1.1"]


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("portico.localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", True),
        ("10.0.0.1", False),
        ("example.com", False),
        ("localhost.example.com", False),
        (None, False),
    ],
)
def test_loopback_hosts_are_recognised_as_local(host: str | None, local: bool) -> None:
    assert is_local(host) is local


def test_child_processes_get_no_proxy_entries_for_local_hosts() -> None:
    assert unproxied({"PATH": "/bin"}) == {}
    assert unproxied({"HTTPS_PROXY": "http://proxy:3128"})["NO_PROXY"] == "localhost,127.0.0.1,::1"
    variables = unproxied({"http_proxy": "http://proxy:3128", "NO_PROXY": ".example.com,localhost"})
    assert variables == dict.fromkeys(("no_proxy", "NO_PROXY"), ".example.com,localhost,127.0.0.1,::1")
    assert unproxied({"ALL_PROXY": "http://proxy:3128", "no_proxy": "*"}) == {}
