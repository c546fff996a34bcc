"""Functions of a client, served as tools of a real daemon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.daemon import Daemon, environment, running

from portico import AsyncClient, Client, Conflict, Function, InvalidRequest, NotFound, Unauthenticated

COMMAND = [sys.executable, "-c", "import sys; from portico.cli import main; sys.exit(main())"]


def area(width: float, height: float = 1) -> float:
    """The area of a rectangle.

    Args:
        width: In metres.
    """
    return width * height


def fails() -> None:
    """Fail."""
    raise ValueError("the well is dry")


def odd() -> object:
    """Return what JSON has no word for."""
    return object()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make workers notice a stop request, and the return of a daemon, immediately."""
    monkeypatch.setattr("portico._serving.CLAIM_WAIT_S", 0.1)
    monkeypatch.setattr("portico._serving.MAX_PAUSE_S", 0.3)


class Desk:
    """A client that serves functions in a thread until the block ends."""

    def __init__(self, daemon: Daemon, *functions: Any, **options: Any) -> None:
        self.client = Client(daemon.url)
        self.stop = threading.Event()
        self.thread = threading.Thread(
            target=self.client.serve, args=(functions,), kwargs={**options, "stop": self.stop}
        )

    def end(self) -> None:
        self.stop.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.client.close()


@contextmanager
def serving(daemon: Daemon, *functions: Any, **options: Any) -> Iterator[Client]:
    """A client to call with, while another client serves."""
    desk = Desk(daemon, *functions, **options)
    desk.thread.start()
    try:
        with Client(daemon.url) as client:
            until(lambda: all(_is_there(client, name) for name in _names(functions)))
            yield client
    finally:
        desk.end()


def until(true: Callable[[], bool]) -> None:
    """Poll the condition until it is true, up to the time limit of a test."""
    while not true():
        pass


def _names(functions: tuple[Any, ...]) -> list[str]:
    return [getattr(item, "name", "") or item.__name__ for item in functions]


def _is_there(client: Client, name: str) -> bool:
    return name in {tool.name for tool in client.tools.list()}


def test_functions_are_tools_while_they_are_served(daemon: Daemon) -> None:
    with serving(daemon, area, fails, odd) as client:
        tool = client.tools.get("area")
        assert (tool.description, tool.source) == ("The area of a rectangle.", "client")
        assert tool.input_schema["properties"]["width"] == {"type": "number", "description": "In metres."}
        result = client.tools.call("area", {"width": 2.5, "height": 2})
        assert (result.text, result.structured, result.is_error) == ("5.0", {"result": 5.0}, False)
        with pytest.raises(InvalidRequest) as wrong:
            client.tools.call("area", {"width": "wide"})
        assert wrong.value.param == "arguments.width"
        failure = client.tools.call("fails")
        assert (failure.is_error, failure.text) == (True, "ValueError: the well is dry")
        strange = client.tools.call("odd")
        assert strange.is_error and "JSON" in strange.text
    with Client(daemon.url) as client, pytest.raises(NotFound):
        client.tools.call("area", {"width": 1})


def test_many_calls_are_shared_by_many_workers(daemon: Daemon) -> None:
    def who(n: int) -> int:
        return n * n

    other_desk = Desk(daemon, who, name="other")
    with serving(daemon, who, name="one", concurrency=8) as client:
        other_desk.thread.start()
        with ThreadPoolExecutor(16) as pool:
            results = list(pool.map(lambda n: client.tools.call("who", {"n": n}).structured, range(60)))
        assert results == [{"result": n * n} for n in range(60)]
        other_desk.end()
        assert client.tools.call("who", {"n": 3}).text == "9"  # one server remains


def test_with_concurrency_one_calls_are_executed_one_at_a_time(daemon: Daemon) -> None:
    inside = threading.Semaphore(1)

    def alone() -> bool:
        free = inside.acquire(blocking=False)
        if free:
            inside.release()
        return free

    with serving(daemon, alone, concurrency=1) as client, ThreadPoolExecutor(5) as pool:
        calls: list[Future[Any]] = [pool.submit(client.tools.call, "alone") for _ in range(5)]
        assert [call.result(60).structured for call in calls] == [{"result": True}] * 5


def test_nobody_serves_under_a_name_that_is_taken(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        with pytest.raises(Conflict, match="A tool 'search' already exists"):
            client.serve([Function("search", area)])
        with pytest.raises(InvalidRequest, match="At least one function"):
            client.serve([])
        with pytest.raises(InvalidRequest, match="not a valid name for a function"):
            client.serve([Function("a b", area)])


def test_a_call_that_no_client_takes_ends_with_a_clear_error(daemon: Daemon) -> None:
    function = {"name": "nobody", "input_schema": {"type": "object"}, "timeout": 0.2}
    with httpx.Client(base_url=daemon.url) as http:
        assert http.post("/api/workers", json={"worker": "mute", "functions": [function]}).is_success
        result = http.post("/api/tools/nobody/call", json={}).json()
        assert result["is_error"]
        assert result["text"] == (
            "'nobody' was not executed: The client that serves it did not respond within 0.2 s."
        )
        assert http.delete("/api/workers/mute").is_success
        assert http.post("/api/tools/nobody/call", json={}).status_code == 404
        unknown = http.post("/api/workers/mute/claim", json={})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "worker_not_found")


def test_a_lease_that_runs_out_gives_the_call_to_another_worker(daemon: Daemon) -> None:
    function = {"name": "hot", "input_schema": {"type": "object"}}
    with httpx.Client(base_url=daemon.url, timeout=60) as http, ThreadPoolExecutor(1) as pool:
        for worker in ("dies", "lives"):
            http.post("/api/workers", json={"worker": worker, "functions": [function]})
        call = pool.submit(http.post, "/api/tools/hot/call", json={})
        lease = {"wait": 20, "lease_seconds": 0.2}
        (claimed_call,) = http.post("/api/workers/dies/claim", json=lease).json()["data"]
        (again,) = http.post("/api/workers/lives/claim", json={"wait": 20}).json()["data"]
        assert claimed_call["id"] == again["id"]
        back = http.post("/api/workers/dies/claim", json={"holding": [claimed_call["id"]]}).json()
        assert back["lost"] == [claimed_call["id"]]
        http.post(
            f"/api/questions/{again['id']}/answer",
            json={"accepted": True, "value": "done", "worker": "lives"},
        )
        assert call.result(60).json()["text"] == "done"
        for worker in ("dies", "lives"):
            http.delete(f"/api/workers/{worker}")


def test_a_served_function_that_needs_approval_runs_only_after_approval(daemon: Daemon) -> None:
    done: list[str] = []

    def wipe(path: str) -> str:
        done.append(path)
        return "wiped"

    with serving(daemon, Function.of(wipe, approval="always")) as client, ThreadPoolExecutor(1) as pool:
        assert client.tools.get("wipe").needs_approval
        call = pool.submit(client.tools.call, "wipe", {"path": "/x"})
        question = next(item for item in client.questions.watch() if item.name == "wipe")
        assert done == []
        client.questions.answer(question.id, True)
        assert (call.result(60).text, done) == ("wiped", ["/x"])


def test_a_server_says_when_its_functions_are_tools(daemon: Daemon) -> None:
    stop, ready = threading.Event(), threading.Event()
    with Client(daemon.url) as client:
        server = threading.Thread(target=client.serve, args=([area],), kwargs={"stop": stop, "ready": ready})
        server.start()
        try:
            assert ready.wait(60)
            assert client.tools.call("area", {"width": 3}).structured == {"result": 3}
        finally:
            stop.set()
            server.join(60)
        assert not server.is_alive()


async def test_the_async_client_serves_functions_as_tools(daemon: Daemon) -> None:
    async def double(n: int) -> int:
        return 2 * n

    stop, ready = asyncio.Event(), asyncio.Event()
    async with AsyncClient(daemon.url) as client:
        server = asyncio.create_task(client.serve([double, fails], stop=stop, ready=ready))
        async with asyncio.timeout(60):
            await ready.wait()
            assert "double" in {tool.name for tool in await client.tools.list()}
            results = await asyncio.gather(*(client.tools.call("double", {"n": n}) for n in range(10)))
            assert [item.structured for item in results] == [{"result": 2 * n} for n in range(10)]
            assert (await client.tools.call("fails")).is_error
            stop.set()
            await server
        with pytest.raises(NotFound):
            await client.tools.get("double")


async def test_a_server_that_is_cancelled_takes_its_tools_along(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        server = asyncio.create_task(client.serve([area]))
        async with asyncio.timeout(60):
            while "area" not in {tool.name for tool in await client.tools.list()}:
                pass
            server.cancel()
            await asyncio.wait([server])
        assert server.cancelled()
        with pytest.raises(NotFound):
            await client.tools.get("area")


@pytest.mark.process
def test_a_worker_reconnects_to_a_restarted_daemon(tmp_path: Path) -> None:
    with running(tmp_path / "home") as first:
        desk = Desk(first, area)
        desk.thread.start()
        with Client(first.url) as client:
            until(lambda: _is_there(client, "area"))
        port = httpx.URL(first.url).port
        first.process.kill()
        first.process.wait()
    with running(tmp_path / "home", "--port", str(port)) as second, Client(second.url) as client:
        until(lambda: _is_there(client, "area"))
        assert client.tools.call("area", {"width": 3}).text == "3"
        desk.end()


def test_each_key_has_its_own_functions(tmp_path: Path) -> None:
    with running(
        tmp_path / "home", env={"PORTICO_API_KEY": "pk-operator", "PORTICO_REQUIRE_KEY": "true"}
    ) as local_daemon:
        with Client(local_daemon.url, "pk-operator") as boss:
            keys = {
                name: boss.keys.add(name, [scope]).key
                for name, scope in (("anna", "tools:*:call"), ("bert", "tools:*:call"), ("carl", "chat"))
            }
        function = {"name": "mine", "input_schema": {"type": "object"}}
        body = {"worker": "w", "functions": [function]}
        heads = {name: {"authorization": f"Bearer {key}"} for name, key in keys.items()}
        with httpx.Client(base_url=local_daemon.url, timeout=60) as http:
            assert http.post("/api/workers", json=body, headers=heads["carl"]).status_code == 403
            assert http.post("/api/workers", json=body, headers=heads["anna"]).is_success
            assert http.get("/api/tools/mine", headers=heads["anna"]).is_success
            assert http.get("/api/tools/mine", headers=heads["bert"]).status_code == 404
            assert http.post("/api/workers/w/claim", json={}, headers=heads["bert"]).status_code == 404
            assert http.post("/api/workers", json=body, headers=heads["bert"]).is_success
            response = http.post("/api/tools/mine/call?wait=false", json={}, headers=heads["anna"])
            assert response.status_code == 202
            for name, calls in (("bert", 0), ("anna", 1)):
                claim = http.post("/api/workers/w/claim", json={}, headers=heads[name]).json()
                assert len(claim["data"]) == calls, name
        with pytest.raises(Unauthenticated), Client(local_daemon.url, "pk-wrong") as client:
            client.serve([area])


FUNCTIONS = '''
import time

def slow(seconds: float) -> str:
    """Take a while."""
    print("begun", flush=True)
    time.sleep(seconds)
    return "finished"

def _hidden() -> None: ...
'''


INTERRUPTED = """
import os, signal, threading
start = threading.Thread.start

def interrupt_and_start(thread):
    if thread.name == "slow":
        threading.Thread.start = start
        os.kill(os.getpid(), signal.SIGINT)
    start(thread)

threading.Thread.start = interrupt_and_start
"""


def serving_slowly(daemon: Daemon, folder: Path, code: str = "") -> subprocess.Popen[str]:
    (folder / "slowly.py").write_text(FUNCTIONS, encoding="utf-8")
    return subprocess.Popen(
        [*COMMAND[:2], code + COMMAND[2], "serve", "slowly"],
        cwd=folder,
        env=environment(PORTICO_URL=daemon.url),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_ctrl_c_before_a_claimed_call_begins_finishes_the_call(daemon: Daemon, tmp_path: Path) -> None:
    with serving_slowly(daemon, tmp_path, INTERRUPTED) as process, Client(daemon.url) as client:
        until(lambda: _is_there(client, "slow"))
        try:
            assert client.tools.call("slow", {"seconds": 0.0}).text == "finished"
            _output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (130, "")


def test_ctrl_c_completes_the_running_call_before_exit(daemon: Daemon, tmp_path: Path) -> None:
    process = serving_slowly(daemon, tmp_path)
    assert process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "Serving slow until Ctrl-C. Try: portico tools show slow\n"
    with Client(daemon.url) as client, ThreadPoolExecutor(1) as pool:
        until(lambda: _is_there(client, "slow"))
        call = pool.submit(client.tools.call, "slow", {"seconds": 0.5})
        assert process.stdout.readline() == "begun\n"
        os.kill(process.pid, signal.SIGINT)
        assert call.result(60).text == "finished"
        assert process.wait(60) == 130
        assert process.stderr.read() == ""
        assert not _is_there(client, "slow")
    process.stdout.close()
    process.stderr.close()
