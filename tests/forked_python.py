"""Python programs forked from a process that has already imported the SDK and the command line.

Imports take longer than most examples and commands. The same file is run in two ways:

- ``forked_python.py ADDRESS`` is the process that forks. It listens on a Unix socket.
- ``forked_python.py ADDRESS PROGRAM ARGUMENT...`` asks it to run a program with this process's arguments, environment,
  working folder and standard streams, and exits with the program's exit code. ``PROGRAM`` is ``portico`` or the path
  of a Python file. The program ends with the process that asked for it.

Warnings are errors in these programs.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

IMPORTS = (
    "portico.agent",
    "portico.flow",
    "portico.simulation",
    "openai.resources.chat",
    "openai.types.responses",
)
"""Modules that many examples import. All modules of the command line are imported too."""


@contextlib.contextmanager
def forking(folder: Path) -> Iterator[list[str]]:
    """Start the process that forks, and yield the command to which a program and its arguments are appended.

    ``folder`` must exist. It receives the socket and an executable ``portico``, which runs as a fork.
    """
    address = folder / "socket"
    command = [sys.executable, "-I", "-S", __file__, str(address)]
    portico = folder / "portico"
    portico.write_text(f'#!/bin/sh\nexec {" ".join(command)} portico "$@"\n', encoding="utf-8")
    portico.chmod(0o755)
    # This file's folder is not on the path, since its modules would shadow others.
    process = subprocess.Popen(
        [sys.executable, "-P", "-W", "error", __file__, str(address)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    with process.stdout:
        try:
            assert process.stdout.readline(), "the process that forks did not start"
            yield command
        finally:
            process.terminate()
            process.wait()


def call(address: str, arguments: list[str]) -> int:
    """Run a program as a fork, and return its exit code."""
    order = {"arguments": arguments, "environment": dict(os.environ), "folder": os.getcwd()}
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [b"{"], [0, 1, 2])
        connection.sendall(json.dumps(order).encode()[1:])
        connection.shutdown(socket.SHUT_WR)
        code = connection.recv(1)
    if not code:
        print(f"{arguments[0]}: the process ended without an exit code", file=sys.stderr)
    return code[0] if code else 1


# --- the process that forks ---------------------------------------------------------------------------------


def serve(address: str) -> NoReturn:
    """Fork for each order."""
    import gc
    import signal
    from importlib import import_module
    from pkgutil import iter_modules

    gc.disable()
    for name in IMPORTS:
        import_module(name)
    for module in iter_modules(import_module("portico.cli").__path__, "portico.cli."):
        import_module(module.name)
    gc.collect()
    gc.freeze()
    gc.enable()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, lambda *_: reap())
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            become(connection)
        connection.close()


def reap() -> None:
    """Collect the processes that have ended. Their exit codes arrive over their connections."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def become(connection: socket.socket) -> NoReturn:
    """Turn this process into the program that the other end of the connection asks for."""
    import atexit
    import fcntl
    import threading

    body, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as rest:
        order = json.loads(body + rest.read())
    # A signal ends this process when the other end of the connection closes.
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, fcntl.F_SETFL, os.O_ASYNC)
    for number, handle in enumerate(streams):
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["arguments"]
    code = exit_code()
    # As at any exit, except that the imported objects are not freed: that would copy every page.
    threading._shutdown()  # type: ignore[attr-defined]  # there is no public function
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(bytes([code]))
    os._exit(code)


def exit_code() -> int:
    """Run the program ``sys.argv[0]``, and return its exit code."""
    import traceback

    try:
        if sys.argv[0] == "portico":
            from portico.cli import main

            sys.exit(main())
        run_file(Path(sys.argv[0]))
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run_file(path: Path) -> None:
    """Run a file as ``python PATH`` runs it."""
    from types import ModuleType

    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = str(path)
    sys.path.insert(0, str(path.parent))
    exec(compile(path.read_bytes(), path, "exec"), vars(module))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(call(sys.argv[1], sys.argv[2:]))
    serve(sys.argv[1])
