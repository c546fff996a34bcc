"""Runs next to a process that a scheduler has placed on a node: ``python agent.py ORDER``. Standard library only.

The agent starts the process and gives the daemon access to its output, input, log and exit status over HTTP, protected
by a token. If the daemon sends no request for ``lease_s`` seconds, the agent assumes that the daemon has gone, and
ends the process and its children.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import hmac
import http.server
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from typing import Any

KEPT_LINES = 8
"""Number of last output lines kept for a restarted daemon. The last line of an engine reports that the engine is
ready.
"""

MAX_LOG_BYTES = 256 * 1024
"""Maximum number of bytes of the log that are kept for later requests."""

MAX_INPUT_BYTES = 64 * 1024 * 1024
"""Maximum length of an input line in bytes."""

MAX_WAIT_S = 30.0
"""Maximum time that a request waits for new output or an exit, in seconds."""

MAX_CONNECTIONS = 32

GRACE_S = 3.0
"""Seconds between asking the process to end and killing it."""

CANCEL_WAIT_S = 2.0
"""Seconds to wait for the scheduler's signal after the process has ended: schedulers signal the process and its agent
in no defined order.
"""

CANCELLED_STATUSES = (-signal.SIGTERM, 128 + signal.SIGTERM)
"""Exit statuses of a process that a scheduler has asked to end."""

LINGER_S = 30.0
"""Seconds for which the agent waits, after the process has ended, until the daemon has queried the exit status."""

CANNOT_START_STATUS = 127
"""Exit status for a command that cannot be started, as in shells."""

_PR_SET_PDEATHSIG_CODE = 1


class Guarded:
    """The process that the agent has started, its output, and the time of the daemon's last request."""

    def __init__(self, order: dict[str, Any]) -> None:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(tuple(order["without"]))
        }
        self.token = order["token"]
        self.lease_s = order["lease_s"]
        self.asked_at = time.monotonic()
        self.delivered = False
        self.cancelled = threading.Event()
        """Set once the scheduler has asked the process to end."""
        self._is_stopped = False
        self.status: int | None = None
        self._condition = threading.Condition()
        self._lines: collections.deque[bytes] = collections.deque()
        self._line = 0  # number of the first line in `_lines`, because earlier lines are dropped
        self._log = bytearray()
        self._log_at = 0
        self._input = threading.Lock()
        self._process = subprocess.Popen(
            order["command"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **order["environment"]},
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        readers = [
            threading.Thread(target=self._read_output, daemon=True),
            threading.Thread(target=self._read_log, daemon=True),
        ]
        for reader in readers:
            reader.start()
        threading.Thread(target=self._reap, args=(readers,), daemon=True).start()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._condition:
                self._lines.append(line)
                self._condition.notify_all()

    def _read_log(self) -> None:
        assert self._process.stderr is not None
        while data := os.read(self._process.stderr.fileno(), 65_536):
            with self._condition:
                self._log += data
                if len(self._log) > MAX_LOG_BYTES:
                    cut = len(self._log) - MAX_LOG_BYTES
                    del self._log[:cut]
                    self._log_at += cut
                self._condition.notify_all()

    def _reap(self, readers: list[threading.Thread]) -> None:
        status = self._process.wait()
        self._kill()  # its remaining child processes
        if status in CANCELLED_STATUSES and not self._is_stopped:
            self.cancelled.wait(CANCEL_WAIT_S)
        for reader in readers:
            reader.join(1)
        with self._condition:
            self.status = status
            self._condition.notify_all()

    def news(self, line: int, log: int, wait: float) -> dict[str, Any]:
        """Return the output from line ``line``, the log from byte ``log``, and the status. If there is nothing new,
        wait up to ``wait`` seconds.
        """
        deadline = time.monotonic() + min(wait, MAX_WAIT_S)
        with self._condition:
            # the daemon has received the lines before this number
            while len(self._lines) > KEPT_LINES and self._line < line:
                self._lines.popleft()
                self._line += 1
            while (
                self._line + len(self._lines) <= line
                and self._log_at + len(self._log) <= log
                and self.status is None
                and (remaining_s := deadline - time.monotonic()) > 0
            ):
                self._condition.wait(remaining_s)
                self.asked_at = time.monotonic()
            lines = list(self._lines)[max(0, line - self._line) :]
            news = {
                "lines": [entry.decode("utf-8", "replace") for entry in lines],
                "next": self._line + len(self._lines),
                "log": bytes(self._log[max(0, log - self._log_at) :]).decode("utf-8", "replace"),
                "log_next": self._log_at + len(self._log),
                "status": self.status,
                "cancelled": self.cancelled.is_set(),
            }
        self.asked_at = time.monotonic()
        return news

    def write(self, line: bytes) -> None:
        """Write a line to the standard input of the process."""
        assert self._process.stdin is not None
        with self._input, contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def _kill(self) -> None:
        """Kill the process and all its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self, grace: float) -> None:
        """Ask the process to end, and kill it after ``grace`` seconds."""
        self._is_stopped = True
        if grace and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self._kill()

    def cancel(self) -> None:
        """End the process because the scheduler asks for it, for example at a time limit."""
        self.cancelled.set()
        self.stop(GRACE_S)

    def wait(self) -> int:
        """Wait until the daemon has learned that the process has ended, or the daemon has gone. Return the exit
        status.
        """
        with self._condition:
            while self.status is None and time.monotonic() - self.asked_at < self.lease_s:
                self._condition.wait(min(1.0, self.lease_s))
        if self.status is None:
            _complain(f"no request from the daemon for {self.lease_s:g} s; ending the process")
            self.stop(GRACE_S)
        deadline = time.monotonic() + min(LINGER_S, self.lease_s)
        while not self.delivered and time.monotonic() < deadline:
            time.sleep(0.1)
        return self._process.wait()


class AgentServer(http.server.ThreadingHTTPServer):
    """An HTTP server for the daemon alone, with a limited number of threads."""

    daemon_threads = True
    guarded: Guarded

    def __init__(self, address: tuple[str, int]) -> None:
        self._places = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class _Handler(http.server.BaseHTTPRequestHandler):
    timeout = 60
    server: AgentServer

    def _is_allowed(self) -> bool:
        authorization = self.headers.get("Authorization", "").encode()
        if hmac.compare_digest(authorization, b"Bearer " + self.server.guarded.token.encode()):
            self.server.guarded.asked_at = time.monotonic()
            return True
        self.send_error(401)
        return False

    def _query(self) -> tuple[str, dict[str, float]]:
        url = urllib.parse.urlsplit(self.path)
        return url.path, {name: float(values[0]) for name, values in urllib.parse.parse_qs(url.query).items()}

    def _answer(self, document: object) -> None:
        data = json.dumps(document).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        """Handle ``/news``: return new output, the log and the status."""
        if not self._is_allowed():
            return
        path, query = self._query()
        if path != "/news":
            self.send_error(404)
            return
        news = self.server.guarded.news(
            int(query.get("line", 0)), int(query.get("log", 0)), query.get("wait", 0)
        )
        self._answer(news)
        if news["status"] is not None:
            self.server.guarded.delivered = True

    def do_POST(self) -> None:
        """Handle ``/input`` and ``/stop``."""
        if not self._is_allowed():
            return
        path, query = self._query()
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_INPUT_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(size)
        guard = self.server.guarded
        if path == "/input":
            guard.write(body)
        elif path == "/stop":
            guard.stop(min(query.get("grace", 0), MAX_WAIT_S))
        else:
            self.send_error(404)
            return
        self._answer({})

    def log_message(self, format: str, *args: Any) -> None:
        """Do not log requests, because the log of the job is for errors."""


def _node() -> str:
    return os.environ.get("PORTICO_NODE") or os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGKILL)


def run(order: dict[str, Any]) -> int:
    """Serve until the process has ended, and return its exit status.

    If the order contains ``address``, the address of the agent is written to this file. The order can also contain a
    ``port``.
    """
    name = socket.gethostname()
    try:
        host = os.environ.get("PORTICO_NODE_ADDRESS") or socket.gethostbyname(name)
        server = AgentServer((host, order.get("port", 0)))
    except OSError as error:
        _complain(f"the node {name} has no address to listen on: {error}")
        return CANNOT_START_STATUS
    try:
        guard = server.guarded = Guarded(order)
    except OSError as error:
        _complain(f"{order['command'][0]} cannot be started on {name}: {error}")
        return CANNOT_START_STATUS
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=guard.cancel).start())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if "address" in order:
        place = {"host": host, "port": server.server_address[1], "node": _node(), "pid": os.getpid()}
        path = pathlib.Path(order["address"])
        draft = path.with_suffix(".new")
        draft.write_text(json.dumps(place), encoding="utf-8")
        draft.replace(path)
    return guard.wait()


def _complain(words: str) -> None:
    """Write a message to the log of the job."""
    print(f"portico: {words}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the agent, and exit with the status of the process."""
    status = run(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8")))
    raise SystemExit(status if status >= 0 else 128 - status)


if __name__ == "__main__":
    main()
