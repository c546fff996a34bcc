"""Python programs forked from a process that has already imported the SDK and the command line.

Imports take longer than most examples and commands. This file, run as a program, is the process that forks: it
listens on a Unix socket, and `forked_call` asks it for a program, which is ``portico`` or the path of a Python file.
Warnings are errors in these programs.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import NoReturn

IMPORTS = (
    "anyio._backends._asyncio",
    "portico.agent",
    "portico.flow",
    "portico.simulation",
    "anthropic",
    "openai.resources.chat",
    "openai.types.responses",
)
"""Modules that many examples import. All modules of the command line are imported too."""


@cache
def launcher() -> list[str]:
    """Return the command to which a program and its arguments are appended.

    The process that forks starts with the first call and ends with this process. The folder of the command's last
    word also contains an executable ``portico``, which runs as a fork.
    """
    folder = Path(tempfile.mkdtemp(prefix="forked-python-"))
    address = folder / "socket"
    command = [sys.executable, "-I", "-S", str(Path(__file__).with_name("forked_call.py")), str(address)]
    portico = folder / "portico"
    portico.write_text(f'#!/bin/sh\nexec {shlex.join(command)} portico "$@"\n', encoding="utf-8")
    portico.chmod(0o755)
    process = subprocess.Popen(
        # This file's folder is not on the path, since its modules would shadow others.
        [sys.executable, "-P", "-W", "error", __file__, str(address)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )

    def end() -> None:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)

    atexit.register(end)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline(), "the process that forks did not start"
    return command


# --- the process that forks ---------------------------------------------------------------------------------


def main(address: str) -> NoReturn:
    """Fork for each order."""
    gc.disable()
    for name in IMPORTS:
        import_module(name)
    for module in iter_modules(import_module("portico.cli").__path__, "portico.cli."):
        import_module(module.name)
    import_module("httpx").Client().close()  # imports the transport
    gc.collect()
    gc.freeze()
    gc.enable()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    signal.signal(signal.SIGCHLD, lambda *_: _reap())
    print("ready", flush=True)
    while True:
        connection, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _become(connection)
        connection.close()


def _reap() -> None:
    """Collect the processes that have ended. Their exit codes arrive over their connections."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _become(connection: socket.socket) -> NoReturn:
    """Turn this process into the program that the other end of the connection asks for."""
    body, streams, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as reader:
        order = json.loads(body + reader.read())
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
    code = _exit_code()
    # As at any exit, except that the imported objects are not freed: that would copy every page.
    threading._shutdown()  # type: ignore[attr-defined]  # there is no public function
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(BrokenPipeError):  # the other end has gone
        connection.sendall(bytes([code & 0xFF]))
    os._exit(code)


def _exit_code() -> int:
    """Run the program ``sys.argv[0]``, and return its exit code."""
    try:
        if sys.argv[0] == "portico":
            sys.exit(import_module("portico.cli").main())
        _run(Path(sys.argv[0]))
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
            return 1
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run(file: Path) -> None:
    """Run a file as ``python FILE`` runs it."""
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = str(file)
    sys.path.insert(0, str(file.parent.absolute()))
    exec(compile(file.read_bytes(), file, "exec"), vars(module))


if __name__ == "__main__":
    main(sys.argv[1])
