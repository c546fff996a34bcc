"""What every command shares: where the daemon is, and the options that mean the same everywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.errors import InvalidRequest, PorticoError

if TYPE_CHECKING:
    from portico.client import Client

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen and change nothing.")]


class ReportedError(PorticoError):
    """What ended a command, and stands on standard error already: it is told again as JSON alone."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """The options before the command."""

    url: str | None = None
    key: str | None = None

    def address(self) -> str | None:
        """The URL as given, or that of the daemon which runs on this user's home folder."""
        if self.url or os.environ.get("PORTICO_URL"):
            return self.url
        home = home_folder()
        running = note(home) if home else None
        return running["url"] if running else None


def invocation(context: typer.Context) -> Invocation:
    """The options of a command; the default ones for a command that is called on its own."""
    return context.obj if isinstance(context.obj, Invocation) else Invocation()


class _Deferred(ModuleType):
    """Stands for a module: what is taken from it is a class whose call imports the module and calls what it has."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)

        def call(_cls: type, *args: Any, **kwargs: Any) -> Any:
            return getattr(import_module(self.__name__), attribute)(*args, **kwargs)

        return type(attribute, (), {"__new__": call})


@contextmanager
def deferred(*modules: str) -> Iterator[None]:
    """While it holds, ``from X import Y`` of these modules reads nothing: X is imported when Y is called.

    For what a library imports at its head and this program does not use.
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
    """The SDK's client, at the address and with the key of the command line."""
    with deferred("httpx._main"):  # httpx's own command line: takes longer than httpx
        from portico import Client

    ours = invocation(context)
    with Client(ours.address(), ours.key) as client:
        yield client


def home_folder() -> Path | None:
    """The daemon's home folder, if it can be told without asking the daemon."""
    home = os.environ.get("PORTICO_HOME")
    if home:
        return Path(home).expanduser().absolute()
    if find_spec("platformdirs") is None:
        return None
    from platformdirs import user_data_path  # comes with the daemon

    return user_data_path("portico", appauthor=False)


def note(home: Path) -> dict[str, Any] | None:
    """``{"pid", "url"}`` of the daemon that serves from ``home``, if one does and left its note."""
    try:
        document = json.loads((home / "daemon.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict) or not isinstance(document.get("url"), str):
        return None
    return document


def daemon_command(*arguments: str) -> list[str]:
    """How to start the daemon's program. `InvalidRequest` if it is not installed here."""
    return run_server_module("", *arguments)


def run_server_module(name: str, *arguments: str) -> list[str]:
    """How to start a program of the daemon's package, without a ``name`` the daemon itself."""
    if find_spec("portico_server") is None:
        from portico._installed import how_to_add

        raise InvalidRequest(f"The daemon is not installed here: {how_to_add('server')}")
    return run_module(f"portico_server.{name}" if name else "portico_server", *arguments)


def run_module(name: str, *arguments: str) -> list[str]:
    """Runs a module in this interpreter. Nothing is imported from the folder that the command is called in: a file
    ``mcp.py`` there would take the place of the package.
    """
    return [sys.executable, "-P", "-m", name, *arguments]


def local_settings(*arguments: str) -> list[dict[str, Any]]:
    """The settings that a daemon started here would have. `InvalidRequest` in the daemon's own words."""
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
    """Ask before something is destroyed; ends the command unless the answer is yes."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidRequest(
            f"{question} Say --yes to do it without being asked.", code="confirmation_needed"
        )
    typer.confirm(question, abort=True)


def may_remove(question: str, *, yes: bool, dry_run: bool) -> bool:
    """Ask as `confirm` does, unless it is a dry run. Return whether to remove it."""
    if not dry_run:
        confirm(question, yes=yes)
    return not dry_run
