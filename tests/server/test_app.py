"""The daemon as a process: how it starts, refuses to start, and ends."""

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests.server.daemons import until

from portico_server import app
from portico_server import home as homes
from portico_server.core.errors import Conflict
from portico_server.home import Home

ENTER = """
import sys, time
from pathlib import Path
from portico_server.home import Home

pause, said = time.sleep, []

def sleep(seconds):
    if not said:
        said.append(print("waits", flush=True))
    pause(seconds)

time.sleep = sleep
with Home(Path(sys.argv[1])):
    print("has it")
"""
"""A script that acquires a home folder and reports when it must wait for it."""


def refused(home: Path, *arguments: str, **environment: str) -> dict[str, str]:
    """Start a daemon that must not start; return its error."""
    process = subprocess.run(
        [sys.executable, "-m", "portico_server", "serve", "--home", str(home), "--quiet", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=daemons.environment(**environment),
        timeout=30,
    )
    assert process.returncode == 1, process
    assert "Traceback" not in process.stdout + process.stderr
    error: dict[str, str] = json.loads(process.stdout)["error"]
    return error


def health(url: str) -> object:
    with urllib.request.urlopen(f"{url}/health", timeout=60) as response:
        return json.load(response)["status"]


@pytest.mark.slow
def test_the_daemon_serves_and_exits_cleanly_on_sigterm(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}, cold=True) as daemon:
        assert health(daemon.url) == "ok"
        assert json.loads((daemon.home / "daemon.json").read_text())["url"] == daemon.url
        assert daemon.stop(signal.SIGTERM) == 0
        assert not (daemon.home / "daemon.json").exists()


@pytest.mark.slow
def test_ctrl_c_is_an_orderly_end(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}, cold=True) as daemon:
        assert daemon.stop(signal.SIGINT) == 0


USER = [{"role": "user", "content": "x"}]

SLOW = """
models:
  - {name: slow, source: "fake://", parameters: {script: [{content: late, delay: 600}]}}
apps:
  - {name: app, flow: {step: {op: llm, model: slow}}}
"""

CUT_OFF_CALLS: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/v1/chat/completions", {"model": "slow", "messages": USER}),
    "stream": ("/v1/chat/completions", {"model": "slow", "messages": USER, "stream": True}),
    "app": ("/v1/chat/completions", {"model": "app", "messages": USER}),
    "response": ("/v1/responses", {"model": "slow", "input": "x"}),
}


@pytest.mark.slow
def test_calls_interrupted_by_the_daemon_shutdown_can_be_retried(tmp_path: Path) -> None:
    (tmp_path / "portico.yaml").write_text(SLOW)
    with (
        daemons.running(tmp_path / "home", "--file", str(tmp_path / "portico.yaml")) as daemon,
        ThreadPoolExecutor(len(CUT_OFF_CALLS)) as threads,
    ):
        calls = {
            name: threads.submit(httpx.post, daemon.url + path, json=body, timeout=60)
            for name, (path, body) in CUT_OFF_CALLS.items()
        }
        running = f"{daemon.url}/api/runs?status=running"
        until(lambda: len(httpx.get(running).json()["data"]) == len(calls), "every call runs")
        assert daemon.stop(signal.SIGTERM) == 0
        for name, call in calls.items():
            answer = call.result()
            if (
                name == "stream" and answer.status_code == 200
            ):  # it began with a comment before it was cut off
                [event] = [line for line in answer.text.splitlines() if line.startswith("data:")]
                assert json.loads(event[5:])["error"]["code"] == "shutting_down"
                continue
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), (name, answer.text)
            assert answer.json()["error"]["code"] == "shutting_down", name


@pytest.mark.slow
def test_the_daemon_exits_when_its_parent_process_is_gone(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}, cold=True) as daemon:
        assert daemon.process.stdin is not None
        daemon.process.stdin.close()
        assert daemon.process.wait(60) == 0


def test_a_second_daemon_on_one_home_reports_the_address_of_the_first(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}) as daemon:
        error = refused(tmp_path / "home", "--port", "0")
        assert error["code"] == "home_in_use"
        assert daemon.url in error["message"]
        assert health(daemon.url) == "ok"


def test_a_start_waits_for_a_daemon_that_is_going_away(tmp_path: Path) -> None:
    home = tmp_path / "home"
    holder = Home(home)
    with holder:
        holder.serving("http://127.0.0.1:1")
        assert refused(home, "--port", "0")["code"] == "home_in_use"
        holder.leaving()
        process = subprocess.Popen(
            [sys.executable, "-c", ENTER, str(home)], stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
    assert process.communicate(timeout=60)[0] == "has it\n"
    assert process.returncode == 0


def test_a_start_does_not_wait_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(homes, "LEAVING_S", 0.0)
    with Home(tmp_path), pytest.raises(Conflict, match=re.escape(str(tmp_path))), Home(tmp_path):
        pass


@pytest.mark.process
def test_a_home_is_free_again_after_kill_9(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}) as first:
        first.stop(signal.SIGKILL)
    with daemons.running(tmp_path / "home", env={"PORTICO_OFFLINE": "1"}) as second:
        assert health(second.url) == "ok"


@pytest.mark.slow
def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        error = refused(tmp_path / "home", "--port", str(port))
    assert error["code"] == "port_in_use"
    assert str(port) in error["message"]


def test_a_port_that_a_portico_daemon_uses_is_named_with_its_home(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "first", env={"PORTICO_OFFLINE": "1"}) as first:
        message = refused(tmp_path / "second", "--port", first.url.rpartition(":")[2])["message"]
    assert f"a Portico daemon with the home folder {tmp_path / 'first'}" in message
    assert f"portico --url {first.url} status" in message
    assert "another program" not in message


def test_a_portico_daemon_requiring_a_key_is_recognized_on_a_used_port(tmp_path: Path) -> None:
    environment = {"PORTICO_OFFLINE": "1", "PORTICO_API_KEY": "pk-of-the-operator-1234567890"}
    with daemons.running(tmp_path / "first", env=environment) as first:
        message = refused(tmp_path / "second", "--port", first.url.rpartition(":")[2])["message"]
    assert "a Portico daemon that requires a key" in message
    assert str(tmp_path) not in message


def test_an_open_bind_without_a_key_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "home", "--host", "0.0.0.0", "--port", "0")
    assert "key" in error["message"]


def test_a_public_address_without_a_key_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "home", "--public-url", "https://portico.example.com", "--port", "0")
    assert error["param"] == "public_url" and "trust_local_proxy" in error["message"]


def test_an_open_bind_with_a_key_serves(tmp_path: Path) -> None:
    environment = {"PORTICO_OFFLINE": "1", "PORTICO_API_KEY": "pk-of-the-operator-1234567890"}
    with daemons.running(tmp_path / "home", "--host", "0.0.0.0", env=environment) as daemon:
        assert health(daemon.url) == "ok"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--docs", "/nowhere/at/all"),
            "The folder /nowhere/at/all does not exist. Pass an existing folder to --docs.",
        ),
        (("--port", "web"), "--port is 'web'"),
        (("--port", "99999"), "99999"),
        (("--host", "256.1.1.1"), "256.1.1.1"),
        (("--file", "/nowhere.yaml"), "The configuration file /nowhere.yaml does not exist"),
        (("--model", "gopher://old", "--port", "0"), "gopher"),
        (("--docs", __file__), "is a file. Pass an existing folder to --docs."),
        (("--parent-watch",), "requires a pipe as standard input"),
    ],
)
def test_a_wrong_argument_is_one_clear_sentence(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    error = refused(tmp_path / "home", *arguments)
    assert message in error["message"]


def test_a_damaged_database_is_one_clear_sentence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "portico.db").write_bytes(b"garbage" * 1000)
    error = refused(home, "--port", "0")
    assert error["code"] == "database_damaged"
    assert (home / "portico.db").read_bytes() == b"garbage" * 1000


def test_a_start_on_a_failing_disk_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    serve = [sys.executable, "-m", "portico_server", "serve", "--home", str(tmp_path / "home"), "--port", "0"]
    process = subprocess.run(
        ["sh", "-c", 'ulimit -f 64; exec "$@" --quiet', "sh", *serve],  # no file may grow beyond 32 kB
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=daemons.environment(),
        timeout=30,
    )
    error = json.loads(process.stdout)["error"]
    assert "The disk of " in error["message"] and "Nothing was changed" in error["message"]


def test_a_home_that_cannot_be_created_is_refused_with_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    error = refused(tmp_path / "file" / "home", "--port", "0")
    assert error["code"] == "home_unusable"


def test_settings_say_where_each_value_comes_from(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "portico_server", "settings", "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        env=daemons.environment(PORTICO_PORT="9999"),
        timeout=30,
        check=True,
    )
    rows = {row["name"]: (row["value"], row["origin"]) for row in json.loads(process.stdout)["data"]}
    assert rows["port"] == (9999, "environment")
    assert rows["home"] == (str(tmp_path), "flag")
    assert rows["host"] == ("127.0.0.1", "default")


async def test_a_waiting_shutdown_logs_the_pending_task_and_cancels_it_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "END_REPORT_S", 0.0)

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    task.cancel()
    insisting = asyncio.create_task(app._insist_on_end([task]))
    await asyncio.wait([task])
    insisting.cancel()
    assert "shutdown is waiting for 'stubborn' at" in caplog.text
