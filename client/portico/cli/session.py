"""Shared parts of all commands: the daemon's address, and options that every command understands in the same way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.errors import InvalidRequest, PorticoError

if TYPE_CHECKING:
    from portico.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would happen without changing anything.")]


class ReportedError(PorticoError):
    """An error that has already been printed on standard error. It is printed again only as JSON."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The global options, which precede the command."""

    url: str | None = None
    key: str | None = None


def invocation(context: typer.Context) -> Invocation:
    """Return the global options of a command, or the default options if the command is called directly."""
    return context.obj if isinstance(context.obj, Invocation) else Invocation()


class _Deferred(ModuleType):
    """A stand-in for a module. Its attributes are classes. Calling such a class imports the module and calls the real
    object.
    """

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def call(_cls: type, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), attribute)(*args, **kwargs)

        return type(attribute, (), {"__new__": call})


@contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """Make imports from these modules lazy: after ``from X import Y``, the module X is imported only when Y is called.

    Use this for modules that a library imports at its top and that this program does not need.
    """
    stand_ins = {name: _Deferred(name) for name in modules if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name, stand_in in stand_ins.items():
            if sys.modules.get(name) is stand_in:
                del sys.modules[name]


@contextmanager
def connected(context: typer.Context) -> Iterator[Client]:
    """Yield an SDK client with the URL and key from the command line."""
    with deferred(
        "httpx._main"
    ):  # httpx's own command line, which takes longer to import than the rest of httpx
        from portico import Client

    connection = invocation(context)
    with Client(connection.url, connection.key) as client:
        yield client


def daemon_command(*arguments: str) -> list[str]:
    """Return the command line that starts the daemon. Raises `InvalidRequest` if the daemon is not installed."""
    return run_server_module("", *arguments)


def run_server_module(name: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module of the daemon's package, or the daemon itself if ``name`` is empty."""
    from portico._installed import how_to_add, is_installed

    if not is_installed("server"):
        raise InvalidRequest(f"The daemon is not installed on this machine: {how_to_add('server')}")
    return run_module(f"portico_server.{name}" if name else "portico_server", *arguments)


def run_module(name: str, *arguments: str) -> list[str]:
    """Return the command line that runs a module with this interpreter.

    The current folder is not searched for modules: a file ``mcp.py`` there would replace the package.
    """
    return [sys.executable, "-P", "-m", name, *arguments]


@contextmanager
def until_exit(process: subprocess.Popen[str]) -> Iterator[Callable[[], int]]:
    """Yield a function that waits until the process exits and returns its exit code. A SIGINT or SIGTERM since the
    start of this context, such as Ctrl-C, makes it raise `KeyboardInterrupt`.

    Python would raise `KeyboardInterrupt` at any moment: it drops the exception in a destructor, and `threading`
    replaces it by an error of its own. In this context, a signal therefore only writes its number into a pipe. The
    exit of the process writes a zero.
    """
    numbers, pipe = os.pipe()
    os.set_blocking(pipe, False)
    previous_pipe = signal.set_wakeup_fd(pipe)
    handlers = {}

    def write_exit(pipe: int) -> None:
        process.wait()
        with suppress(OSError), open(pipe, "wb", buffering=0) as file:  # nobody reads after a signal
            file.write(b"\0")

    def wait() -> int:
        threading.Thread(target=write_exit, args=(os.dup(pipe),), daemon=True).start()
        while number := os.read(numbers, 1)[0]:
            if number in handlers:
                raise KeyboardInterrupt
        return process.wait()

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            handlers[number] = signal.signal(number, lambda *_: None)
        yield wait
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_pipe)
        os.close(pipe)
        os.close(numbers)


def local_settings(*arguments: str) -> list[dict[str, Any]]:
    """Return the settings that a daemon started on this machine would have. Raises `InvalidRequest` with the daemon's
    own message.
    """
    completed_process = subprocess.run(
        daemon_command("settings", *arguments), capture_output=True, text=True, check=False
    )
    try:
        result = json.loads(completed_process.stdout)
    except ValueError as error:
        last = (completed_process.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise InvalidRequest(f"The daemon's settings cannot be read: {last}") from error
    if "error" in result:
        raise InvalidRequest(result["error"]["message"], param=result["error"].get("param"))
    rows: list[dict[str, Any]] = result["data"]
    return rows


def confirm(question: str, *, yes: bool) -> None:
    """Ask before data is destroyed. Unless the answer is yes, end the command."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(f"{question} Use --yes to skip this question.", code="confirmation_needed")
    typer.confirm(question, abort=True)


def may_remove(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Return whether to remove an object. Ask as `confirm` does; in a dry run, do not ask and return false."""
    if not dry_run:
        confirm(question, yes=yes)
    return not dry_run
