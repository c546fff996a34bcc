"""The process between the daemon and an engine that knows nothing about the daemon: ``python -m
…external.supervisor``.

It starts the engine on a free port, reports when the engine is ready, and ensures that the engine ends when the daemon
ends, however that happens. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from types import FrameType

from portico_server.models.engines import worker_link

POLL_INTERVAL_S = 0.1
"""Interval for checking whether the engine is ready, in seconds."""

GRACE_S = 2.0
"""Seconds between asking the engine to end and killing it. Shorter than the time that the daemon gives the supervisor
to end.
"""

LOG_DRAIN_S = 0.3
"""Seconds to wait for the log after an engine has ended. Children of vLLM keep the log open until the supervisor ends
them, and the supervisor reports the end of the engine only after this wait.
"""

_PR_SET_PDEATHSIG_CODE = 1


def main() -> None:
    """Run the supervisor. The configuration contains ``command``, ``environment`` and ``health``.

    ``{host}``, ``{port}`` and ``{key}`` in the command are replaced.
    """
    config = worker_link.receive(_end_all)
    signal.signal(signal.SIGTERM, _leave)
    host = config["host"]
    port = _free_port(host)
    placeholders = {"{host}": host, "{port}": str(port), "{key}": config["key"]}
    process = subprocess.Popen(
        [placeholders.get(part, part) for part in config["command"]],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            **{name: placeholders.get(text, text) for name, text in config["environment"].items()},
        },
        preexec_fn=_die_with_parent,  # safe, because no other thread is running that could hold a lock
    )
    assert process.stdout is not None
    # The engine does not get the supervisor's own standard error: remaining children of the engine would keep
    # the daemon's pipe open.
    copying = threading.Thread(target=_copy, args=(process.stdout.fileno(),), daemon=True, name="log")
    copying.start()
    try:
        while not _answers(host, port, config["health"]):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(POLL_INTERVAL_S)
            if process.returncode is not None:
                copying.join(LOG_DRAIN_S)
                _follow(process.returncode)
        worker_link.announce(port, pid=process.pid)
        status = process.wait()
        copying.join(LOG_DRAIN_S)
        _follow(status)
    finally:
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S)
            _end_all()


def _copy(source: int) -> None:
    while data := os.read(source, 65_536):
        while data:
            data = data[os.write(2, data) :]


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(host: str, port: int, path: str) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _die_with_parent() -> None:
    """Make the engine's process end when the supervisor ends (Linux). Runs in the child before the engine is
    executed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG_CODE, signal.SIGKILL)


def _follow(status: int) -> None:
    """Exit with the status of the engine, so that the daemon can report it."""
    if status < 0:
        number = -status
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    raise SystemExit(status)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _end_all() -> None:
    """End the engine, its children and the supervisor itself, which leads the process group."""
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
