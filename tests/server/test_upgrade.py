"""A newer daemon replaces an older one while clients keep calling, and no call fails."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests import history, postgres
from tests.daemon import Daemon
from tests.server.daemons import WAIT_S, answered, call, end, start, until

from portico import Client
from portico_server.core.errors import InvalidRequest
from portico_server.db.schema import HEAD, NEXT
from portico_server.http.server import listen
from portico_server.settings import Settings

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters:
      script: [{match: "^slow", content: "one two three", delay: 1.5}]
tools:
  - {name: hello, command: [echo, hello]}
apps:
  - {name: twice, flow: {step: {op: llm, model: echo}}}
agents:
  - {name: clerk, model: echo, instructions: Be brief.}
"""

PREVIOUS = f"{int(HEAD) - 1:04}"
"""The schema of the previous version."""

QUESTION = {"question": "What is the port?", "facts": ["7419"]}
FILTER = {"key": "team", "type": "eq", "value": "red"}

HELLO = {"role": "user", "content": "hello"}
SLOW = {"role": "user", "content": "slow"}


class Caller:
    """A client that calls one address after another, each call on a new connection, and counts what fails."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.count = 0
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def calling(self, pause_s: float = 0.0) -> Iterator[None]:
        """Call within the block: a chat, a write and a read in turn, and ``pause_s`` seconds in between."""
        self._thread = threading.Thread(target=self._work, args=(pause_s,))
        self._thread.start()
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Make no further calls, and wait for the current ones: nobody would answer them after the daemon's end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def calls(self, count: int) -> None:
        """Wait for ``count`` more calls."""
        goal = self.count + count
        until(lambda: self.count >= goal, f"{count} more calls")

    def _work(self, pause_s: float) -> None:
        while not self._stop.wait(pause_s):
            self._call("POST", "/v1/chat/completions", {"model": "echo", "messages": [HELLO]})
            self._call("POST", "/v1/conversations", {"metadata": {"number": str(self.count)}})
            self._call("GET", "/api/stores")

    def _call(self, method: str, path: str, body: object = None) -> None:
        try:
            answer = httpx.request(method, self.url + path, json=body, timeout=WAIT_S)
            if not answer.is_success:
                self.errors.append(answer.text)
        except httpx.HTTPError as error:
            self.errors.append(repr(error))
        self.count += 1


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@pytest.fixture
def older(tmp_path: Path) -> dict[str, str]:
    """Return the environment of the last version with an older schema, from the history of this repository."""
    schema = "server/portico_server/db/schema.py"
    log = history.git("log", "-1", "--format=%H", f'-SHEAD = "{PREVIOUS}"', "--", schema).decode().split()
    return _version(f"{log[0]}^", tmp_path) if log else history.skip()


@pytest.fixture
def unmarked(tmp_path: Path) -> dict[str, str]:
    """Return the environment of the last version whose connections do not state what it enforces."""
    return _version("177a3ea1", tmp_path)


def _version(commit: str, folder: Path) -> dict[str, str]:
    """Unpack a version from the history of this repository. Return the environment in which it runs."""
    history.unpack(commit, folder / "older", "client", "server")
    return {"PYTHONPATH": os.pathsep.join(str(folder / "older" / part) for part in ("client", "server"))}


def revision(server: postgres.Server, database: str) -> str:
    return str(server.execute("select version_num from alembic_version", database)[0]["version_num"])


def slow_chat(daemon: Daemon) -> str:
    body = {"model": "echo", "messages": [SLOW]}
    return str(
        answered(daemon, "POST", "/v1/chat/completions", json=body)["choices"][0]["message"]["content"]
    )


@pytest.mark.slow
def test_a_newer_daemon_replaces_one_of_the_previous_schema(
    tmp_path: Path, server: postgres.Server, older: dict[str, str]
) -> None:
    database = server.new()
    first = daemons.start(
        tmp_path / "one",
        "--file",
        str(_written(tmp_path)),
        env={"PORTICO_DATABASE": database, "PORTICO_FILES": str(tmp_path / "files"), **older},
        cold=True,
    )
    second = None
    caller = Caller(first.url)
    try:
        assert revision(server, database) == PREVIOUS
        with ThreadPoolExecutor(1) as pool, caller.calling():
            caller.calls(10)
            second = start(tmp_path, "two", database, CONFIGURATION)
            assert revision(server, database) == HEAD
            caller.calls(20)
            conversation = answered(first, "POST", "/v1/conversations", json={})["id"]
            assert answered(second, "GET", f"/v1/conversations/{conversation}")["id"] == conversation
            slow = pool.submit(slow_chat, first)
            until(lambda: any(run["name"] == "echo" for run in _active(first)), "the slow chat has begun")
            caller.url = second.url
            caller.calls(3)
            assert first.stop(signal.SIGTERM) == 0
            assert slow.result() == "one two three"
            caller.calls(10)
        assert caller.errors == []
    finally:
        end(first, *([second] if second is not None else []))


RESTRICTIONS = [
    ("POST", "/api/stores", {"name": "ruled", "folder": "FOLDER", "rights": "source"}, "rights"),
    ("PATCH", "/api/stores/followed", {"rights": {"": ["staff"]}}, "rights"),
    ("PATCH", "/api/stores/guarded", {"guard": "hold"}, "guard"),
    ("POST", "/api/stores/questioned/guards", {"questions": [QUESTION]}, "guard"),
    ("POST", "/api/keys", {"name": "b", "scopes": ["stores:*:read"], "filters": {"*": FILTER}}, "filters"),
    ("PATCH", "/api/keys/KEY", {"filters": {"*": FILTER}}, "filters"),
]
"""Calls that set a restriction, and the parameter that an error names."""

HARMLESS = [
    ("PATCH", "/api/stores/followed", {"rights": "off"}),
    ("PATCH", "/api/stores/guarded", {"guard": "off"}),
    ("POST", "/api/stores/guarded/guards", {"questions": [QUESTION]}),
    ("PATCH", "/api/keys/KEY", {"filters": {}}),
]
"""Calls about restrictions that withhold nothing."""


@pytest.mark.slow
def test_access_restrictions_are_refused_while_an_older_daemon_runs(
    tmp_path: Path, server: postgres.Server, unmarked: dict[str, str]
) -> None:
    database, folder = server.new(), tmp_path / "documents"
    folder.mkdir()
    operator = {"PORTICO_API_KEY": "operator"}
    configuration = f'{CONFIGURATION}stores:\n  - {{name: listed, folder: "{folder}", rights: source}}\n'
    first = daemons.start(
        tmp_path / "one",
        "--file",
        str(_written(tmp_path)),
        env={"PORTICO_DATABASE": database, "PORTICO_FILES": str(tmp_path / "files"), **operator, **unmarked},
        cold=True,
    )
    second = None
    try:
        second = start(tmp_path, "two", database, configuration, **operator)
        ask = partial(call, second, key="operator")
        bodies: list[dict[str, object]] = [
            {"name": "followed", "folder": str(folder)},
            {"name": "guarded"},
            {"name": "questioned"},
        ]
        for body in bodies:
            assert ask("POST", "/api/stores", json=body).is_success
        key = ask("POST", "/api/keys", json={"name": "a", "scopes": ["stores:*:read"]}).json()["id"]

        def send(method: str, path: str, body: object) -> httpx.Response:
            text = json.dumps(body).replace("FOLDER", str(folder))
            return ask(method, path.replace("KEY", key), json=json.loads(text))

        for method, path, body in HARMLESS:
            assert send(method, path, body).is_success
        for method, path, body, restriction in RESTRICTIONS:
            error = send(method, path, body).json()["error"]
            assert (error["type"], error["code"], error["param"]) == (
                "invalid_request_error",
                "older_daemon",
                restriction,
            ), (method, path, error)
            assert "older daemon uses this database: the daemon on 127.0.0.1 (" in error["message"]
        problems = {problem["place"] for problem in ask("GET", "/api/status").json()["problems"]}
        assert problems == {"daemons", "stores[0].rights"}
        assert first.stop(signal.SIGTERM) == 0
        until(
            lambda: not ask("GET", "/api/status").json()["problems"], "the store of the file has its rights"
        )
        assert ask("GET", "/api/stores/listed").json()["rights"] == "source"
        for method, path, body, restriction in RESTRICTIONS:
            answer = send(method, path, body)
            assert answer.is_success, (restriction, answer.text)
    finally:
        end(first, *([second] if second is not None else []))


@pytest.mark.slow
def test_a_daemon_works_with_the_next_schema_but_not_with_the_one_after(
    tmp_path: Path, server: postgres.Server
) -> None:
    """The next schema is a stand-in: this code, and what a migration may add."""
    database = server.new()
    first = start(tmp_path, "one", database, CONFIGURATION)
    second = None
    caller = Caller(first.url)
    try:
        with caller.calling():
            caller.calls(6)
            for table in ("stores", "conversations", "runs", "files"):
                server.execute(f"alter table {table} add column later text not null default ''", database)
            server.execute("create table laters (id text primary key)", database)
            server.execute(f"update alembic_version set version_num = '{NEXT}'", database)
            caller.calls(12)
            assert answered(first, "GET", "/ready") == {"status": "ready"}
            second = start(tmp_path, "two", database, CONFIGURATION)
            caller.url = second.url
            caller.calls(6)
        assert caller.errors == []
        assert first.stop() == 0
        server.execute(f"update alembic_version set version_num = '{int(NEXT) + 1:04}'", database)
        until(lambda: call(second, "GET", "/ready").status_code == 503, "the schema is too new")
        with pytest.raises(AssertionError, match="created by a newer version of Portico"):
            start(tmp_path, "three", database, CONFIGURATION)
    finally:
        end(first, *([second] if second is not None else []))


def test_calls_in_progress_end_before_the_daemon(tmp_path: Path) -> None:
    """A call that is relayed to a model, a call of a flow and a call of an agent."""
    with (
        daemons.running(tmp_path / "home", "--file", str(_written(tmp_path))) as daemon,
        ThreadPoolExecutor(3) as pool,
        Client(daemon.url) as client,
    ):
        client.chat("hello").read()  # starts the model
        answers = [
            pool.submit(slow_chat, daemon),
            pool.submit(client.apps.run, "twice", "slow"),
            pool.submit(lambda: client.apps.run("clerk", "slow")["content"]),
        ]
        until(lambda: len(_active(daemon)) == len(answers), "the calls have begun")
        assert daemon.stop(signal.SIGTERM) == 0
        assert [answer.result() for answer in answers] == ["one two three"] * len(answers)


@pytest.mark.slow
def test_a_daemon_on_a_passed_socket_is_replaced_without_a_refused_connection(tmp_path: Path) -> None:
    """systemd's part is played by this test: it listens, and passes the socket to one daemon after another."""
    home = tmp_path / "home"
    with socket.create_server(("127.0.0.1", 0)) as listener, _on_socket(listener, home) as first:
        caller = Caller(_ready(first))
        with caller.calling(0.01):
            caller.calls(20)
            first.terminate()
            with _on_socket(listener, home) as second:  # waits for the end of the first daemon
                assert _ready(second) == caller.url
                assert first.wait(WAIT_S) == 0
                caller.calls(20)
                caller.stop()
        assert caller.errors == []


def test_a_socket_at_another_address_than_the_settings_is_refused(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _on_socket(listener, tmp_path / "home", port="9") as process,
    ):
        assert process.stdout is not None
        assert "Set 'host' and 'port' to the address of the socket" in process.stdout.readline()


def test_two_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(InvalidRequest, match="Keep one 'ListenStream'"), listen(Settings(home=tmp_path)):
        pass


@contextmanager
def _on_socket(listener: socket.socket, home: Path, *, port: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a daemon as systemd does, with the socket as the file descriptor 3."""
    script = f'LISTEN_FDS=1 LISTEN_PID=$$ exec "$@" 3<&{listener.fileno()}'
    daemon = [sys.executable, "-P", "-m", "portico_server", "serve", "--quiet"]
    place = ["--home", str(home), "--port", port or str(listener.getsockname()[1])]
    with subprocess.Popen(
        ["bash", "-c", script, "bash", *daemon, *place, "--file", str(_written(home.parent))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env=daemons.environment(),
        pass_fds=[listener.fileno()],
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _ready(process: subprocess.Popen[str]) -> str:
    """Return the URL of a daemon once it serves."""
    assert process.stdout is not None
    return str(json.loads(process.stdout.readline())["url"])


def _written(folder: Path) -> Path:
    path = folder / "portico.yaml"
    path.write_text(CONFIGURATION, encoding="utf-8")
    return path


def _active(daemon: Daemon) -> list[dict[str, str]]:
    runs = answered(daemon, "GET", "/api/runs")["data"]
    return [run for run in runs if run["status"] == "running" and run["name"] in ("echo", "twice", "clerk")]
