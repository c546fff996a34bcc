"""Daemons forked from a process that has already imported them, since imports take longer than the rest of a start.

This program is that process. Orders arrive over a socket: arguments and environment as JSON, the standard streams of
the daemon, and a pipe that returns its process id and, once it has ended, its exit code. The fork runs the daemon's
command line, as ``python -m portico_server`` runs it. A new database is a copy of a migrated one.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO

PARTS = (
    *(
        "app",
        "config",
        "db.migrate",
        "api.fastapi_app",
        "features.mcp",
        "models.hardware",
        "models.transport",
    ),
    *("models.engines.fake.engine", "models.engines.llamacpp.engine", "models.engines.static.engine"),
    *(
        "models.engines.openai_client",
        "features.stores.index.lexical",
        "features.stores.index.vector",
        "features.answers.overview",
    ),
)
"""The modules of `portico_server` that nearly every daemon imports sooner or later."""

THEIRS = (
    "anyio._backends._asyncio",
    "psutil",
    "rjieba",
    "uvicorn.protocols.http.httptools_impl",
    "uvloop",
    "yaml",
)
"""Third-party modules that nearly every daemon imports without going through a module of ours."""

_NUMBER = struct.Struct("q")

_ordering = threading.Lock()
"""Lock held while an order is sent: tests start several daemons at once, and an order is more than one message."""


class Forked:
    """A child of another process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, told: int, stdin: int, stdout: int) -> None:
        self._told = told
        self.stdin: IO[str] = os.fdopen(stdin, "w", encoding="utf-8")
        self.stdout: IO[str] = os.fdopen(stdout, encoding="utf-8")
        self.pid = self._number()
        self.returncode: int | None = None

    def _number(self) -> int:
        data = os.read(self._told, _NUMBER.size)
        assert data, "the process that forks the daemons has ended"
        number: int
        (number,) = _NUMBER.unpack(data)
        return number

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raise `subprocess.TimeoutExpired` after ``timeout`` seconds."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("portico_server", timeout or 0)
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit code, or ``None`` while the process runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            # It may have ended without its exit code having arrived here.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(arguments: Sequence[str], environment: Mapping[str, str]) -> Forked:
    """Run ``python -m portico_server`` with these arguments; its standard input and output are pipes."""
    order = {"arguments": arguments, "environment": dict(environment), "folder": os.getcwd()}
    body = json.dumps(order).encode()
    read_end, tell = os.pipe()
    stdin, writes = os.pipe()
    reads, stdout = os.pipe()
    try:
        with _ordering:
            gateway = _gateway()
            socket.send_fds(gateway, [_NUMBER.pack(len(body))], [stdin, stdout, 2, tell])
            gateway.sendall(body)
    finally:
        for handle in (stdin, stdout, tell):
            os.close(handle)
    return Forked(read_end, writes, reads)


@cache
def _gateway() -> socket.socket:
    """Return the socket to the process that forks for this process and ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            # This file's folder is not on the path, since its modules would shadow others.
            [sys.executable, "-P", __file__, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


# --- the process that forks ---------------------------------------------------------------------------------


def main(gateway: socket.socket) -> None:
    """Fork for each order until no client remains that could send one."""
    gc.disable()
    for part in PARTS:
        import_module(f"portico_server.{part}")
    for part in THEIRS:
        import_module(part)
    vars(import_module("portico_server.api.fastapi_app"))["document"]()  # imports all features
    templates = runpy.run_path(str(Path(__file__).with_name("template_db.py")))
    vars(import_module("portico_server.db.migrate"))["upgrade"] = templates["copying"]()
    import_module("portico_server.core.prompts.builtin").every()  # cached
    gc.collect()
    gc.freeze()
    gc.enable()
    running: dict[int, int] = {}  # requester of each process, by process id
    died, dies = os.pipe()
    os.set_blocking(dies, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(dies)
    while True:
        ready = select.select([gateway.fileno(), died], [], [])[0]
        if died in ready:
            os.read(died, 512)
            for pid, code in _ended():
                tell = running.pop(pid)
                _say(tell, code)
                os.close(tell)
        if gateway.fileno() in ready:
            head, streams, *_ = socket.recv_fds(gateway, _NUMBER.size, 4)
            if not head:
                return
            (length,) = _NUMBER.unpack(head)
            order = json.loads(gateway.recv(length, socket.MSG_WAITALL))
            *standard, tell = streams
            pid = os.fork()
            if not pid:
                signal.set_wakeup_fd(-1)
                for handle in (died, dies, tell, *running.values()):
                    os.close(handle)
                gateway.close()
                _become(order["arguments"], order["environment"], order["folder"], standard)
            for handle in standard:
                os.close(handle)
            running[pid] = tell
            _say(tell, pid)


def _ended() -> Iterator[tuple[int, int]]:
    """Yield the process ids and exit codes of children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (child_status := os.waitpid(-1, os.WNOHANG))[0]:
            yield child_status[0], os.waitstatus_to_exitcode(child_status[1])


def _say(tell: int, number: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # the requester has gone
        os.write(tell, _NUMBER.pack(number))


def _become(arguments: list[str], environment: dict[str, str], folder: str, standard: Sequence[int]) -> None:
    """Turn this process into the daemon."""
    from portico_server.__main__ import main as serve

    # The objects imported before the fork were examined then; walking them again would copy every page.
    gc.unfreeze = lambda: None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, handle in enumerate(standard):
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    code = serve(arguments)
    # As at any exit, except that the imported objects are not freed: that would copy every page, and take a third of
    # the daemon's processor time.
    threading._shutdown()  # type: ignore[attr-defined]  # there is no public function
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the tests handle Ctrl-C
    main(socket.socket(fileno=int(sys.argv[1])))
