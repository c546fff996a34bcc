"""A command of this version works with a daemon of an earlier one, and a field that came later does not end it.

``older/COMMIT.json`` has the answers of a real daemon of that commit, which served one store of one file.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.client.cli.conftest import Done

from portico.cli.root import run

OLDER = Path(__file__).parents[1] / "older"
DAEMONS = sorted(OLDER.glob("*.json"))

COMMANDS = {
    "status": ("handbook", "echo"),
    "stores list": ("handbook",),
    "stores show handbook": ("handbook",),
    "doctor": ("0.1.0 at",),
    "version": ("0.1.0",),
    "settings": ("public_url",),
    "apps list": ("handbook",),
    "runs list": ("completed",),
    "files list": (),
    "keys list": (),
    "search handbook port": ("7419",),
    "ask --app handbook port": ("7419",),
    "down": ("Stopped the daemon",),
}

older_daemon = pytest.mark.parametrize("answers", DAEMONS, ids=lambda path: path.stem)


@contextmanager
def recorded_daemon(answers: dict[str, Any]) -> Iterator[str]:
    """Serve recorded answers, and yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            answer = answers.get(f"{self.command} {self.path.partition('?')[0]}")
            is_stream = isinstance(answer, str)
            body = str(answer).encode() if is_stream else json.dumps(answer).encode()
            self.send_response(404 if answer is None else 200)
            self.send_header("content-type", "text/event-stream" if is_stream else "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_arguments: Any) -> None:
            """Stay silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def portico(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run ``portico …`` with a home folder of its own, and the daemon at ``url``, if any."""
    monkeypatch.setenv("PORTICO_HOME", str(tmp_path / "home"))

    def call(*arguments: str, url: str | None = None) -> Done:
        monkeypatch.delenv("PORTICO_URL", raising=False)
        capsys.readouterr()
        code = run([*(("--url", url) if url else ()), *arguments])
        printed = capsys.readouterr()
        return Done(code, printed.out, printed.err)

    return call


@older_daemon
def test_commands_work_with_an_older_daemon(answers: Path, portico: Callable[..., Done]) -> None:
    with recorded_daemon(json.loads(answers.read_text(encoding="utf-8"))) as url:
        for line, words in COMMANDS.items():
            done = portico(*line.split(), url=url)
            assert done.code == 0, (line, done)
            assert all(word in done.out for word in words), (line, done)


@older_daemon
def test_a_field_that_an_older_daemon_lacks_has_the_value_of_its_behaviour(
    answers: Path, portico: Callable[..., Done]
) -> None:
    with recorded_daemon(json.loads(answers.read_text(encoding="utf-8"))) as url:
        store = portico("stores", "show", "handbook", "--json", url=url).json
    assert (store["index"], store["guard"]) == (
        "embedded",
        "off" if answers.stem in ("b826a17b", "273541aa") else "hold",
    )


LOCKED = """
import fcntl, json, os, signal, sys
from pathlib import Path
home = Path(sys.argv[1])
lock = os.open(home / "daemon.lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
(home / "daemon.json").write_text(json.dumps({"pid": os.getpid(), "url": sys.argv[2]}))
print("serves", flush=True)
signal.pause()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("status", [None, [], {}], ids=["no answer", "a list", "no field"])
def test_down_stops_a_process_whose_answers_say_nothing(
    status: Any, tmp_path: Path, portico: Callable[..., Done]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    answers = {} if status is None else {"GET /api/status": status}
    with (
        recorded_daemon(answers) as url,
        subprocess.Popen(
            [sys.executable, "-c", LOCKED, str(home), url], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None
        process.stdout.readline()
        try:
            assert portico("down").code == 0
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_down_signals_no_process_that_does_not_keep_the_lock(
    tmp_path: Path, portico: Callable[..., Done]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    lock = os.open(home / "daemon.lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (
            recorded_daemon({}) as url,
            subprocess.Popen(
                [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True
            ) as another_process,
        ):
            (home / "daemon.json").write_text(json.dumps({"pid": another_process.pid, "url": url}))
            assert portico("down").code == 1
            assert another_process.poll() is None
    finally:
        os.close(lock)
