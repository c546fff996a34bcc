"""`portico up`: starts the daemon as a child process, shows its startup, and runs until Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from portico._home import note
from portico.cli.render import safe
from portico.cli.session import AsJson, daemon_command, invocation, local_settings, until_exit
from portico.errors import InvalidRequest, PorticoError, from_body
from portico.wire import ErrorBody

if TYPE_CHECKING:
    from portico.schemas.daemon import Status
    from portico.schemas.deployments import BetterTask

app = typer.Typer()

GRACE_S = 10.0
"""Seconds that the daemon gets to exit before it is killed."""


@app.command(context_settings={"allow_extra_args": True}, epilog="Example: portico up --docs ./docs")
def up(
    context: typer.Context,
    docs: Annotated[
        list[Path] | None,
        typer.Option(help="A folder to serve as a store and a chat app; repeatable."),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A configuration file (YAML).")] = None,
    model: Annotated[
        str,
        typer.Option(
            help="The default chat model: a source, 'tiny', or 'auto' for the best model that fits this "
            "machine."
        ),
    ] = "",
    better: Annotated[
        bool | None,
        typer.Option(
            "--yes/--no",
            help="Download the better models that fit this machine, or never offer them (default: ask once, "
            "on a terminal).",
        ),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Folder for all data of the daemon (default: PORTICO_HOME).")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any address except loopback requires a key.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free port.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave the daemon running; 'portico down' stops it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the daemon, show its startup, and run until Ctrl-C."""
    for arg in context.args:
        is_file = arg.endswith((".yaml", ".yml"))
        option, subject = ("-f", "configuration file") if is_file else ("--docs", "folder")
        raise InvalidRequest(f"Give the {subject} with {option}: portico up {option} {arg}", param=option)
    place = ["--home", str(home)] if home else []
    arguments = list(place)
    source = None if model in ("", "auto") else model  # 'auto' is resolved later, once the daemon serves
    for name, value in (("--host", host), ("--port", port), ("--file", file), ("--model", source)):
        if value is not None:
            arguments += [name, str(value)]
    for folder in docs or ():
        arguments += ["--docs", str(folder)]
    better_wanted = True if model == "auto" else better
    child = _spawn(arguments, is_detached=detach)
    _end_on_terminate()
    try:
        _accompany(
            context,
            child,
            place,
            docs or [],
            port,
            {"chat": better_wanted, "embedding": better},
            may_ask=not model and not as_json,
            as_json=as_json,
        )
    except KeyboardInterrupt:
        child.stop()
        typer.echo("Stopped.", err=as_json)
        raise
    except BaseException:
        child.stop()
        raise


def _accompany(
    context: typer.Context,
    child: DaemonProcess,
    place: list[str],
    docs: list[Path],
    port: int | None,
    decisions: Mapping[BetterTask, bool | None],
    *,
    may_ask: bool,
    as_json: bool,
) -> None:
    # Importing httpx and rich takes as long as the daemon's own imports, so both run in parallel.
    from portico.cli.better import at_terminal, follow_better, offer_better
    from portico.cli.startup import follow_start, followed_folders, print_unfinished, show

    key = invocation(context).key
    asks = may_ask and None in decisions.values() and at_terminal()
    status: Status | None = None
    try:
        url = child.ready()
    except PorticoError as error:
        running = _running(place) if error.code == "home_in_use" else None
        if running is None:
            raise
        typer.echo(_already_runs(running, port), err=True)
        status = show(running, key, as_json=as_json, asks=asks, started_here=False)
        known_folders = followed_folders(running, key, status)
        for folder in docs:
            if str(folder.absolute()) not in known_folders:
                typer.echo(f"It does not follow {folder}; to add it: portico stores add {folder}", err=True)
        if not as_json:
            print_unfinished(running, key, status)
        _say_fetching(offer_better(running, key, decisions, _open_tasks(status) if asks else ()))
        return
    runs: list[str] = []
    try:
        status = show(url, key, as_json=as_json, asks=asks)
        runs = offer_better(url, key, decisions, _open_tasks(status) if asks else ())
        if child.detached and not as_json:
            print_unfinished(url, key, status)
        elif not as_json:
            follow_start(url, key, status)
    except PorticoError as error:
        # The daemon serves. Even if we cannot query it, for instance because we have no key, it keeps
        # running.
        if child.process.poll() is None:
            typer.secho(f"The daemon serves at {url}, but: {safe(error.message)}", fg="yellow", err=True)
    if child.detached:
        _say_fetching(runs)
        return
    hint = "" if as_json else "Press Ctrl-C to stop.\n"
    if runs:
        typer.echo(hint, nl=False)
        follow_better(url, key, runs)
        hint = ""
    with until_exit(child.process) as wait:
        typer.echo(hint, nl=False)
        code = wait()
    if code:
        home = Path(status.home) if status is not None and status.home else _home(place)
        raise PorticoError(f"The daemon {_end(code)}. Its log: {home / 'logs' / 'daemon.log'}")
    typer.echo("Stopped.", err=as_json)


def _running(place: list[str]) -> str | None:
    """Return the URL of the daemon that uses the home folder, or ``None``."""
    daemon_note = note(_home(place))
    return daemon_note["url"] if daemon_note else None


def _home(place: list[str]) -> Path:
    """Return the home folder that a daemon with these options would use."""
    return Path(next(row["value"] for row in local_settings(*place) if row["name"] == "home"))


def _already_runs(url: str, port: int | None) -> str:
    """Return a message with the URL of the daemon on this home folder. If the daemon uses a different ``port`` than
    requested, add advice.
    """
    if not port or urlsplit(url).port == port:
        return f"The daemon already runs at {url}."
    return (
        f"You asked for port {port}, but the daemon of this home folder already runs at {url}. "
        "Stop it first with portico down, or start a second one with --home FOLDER."
    )


def _end(code: int) -> str:
    """Describe how the daemon ended, given its exit code."""
    if code < 0:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    return f"exited with code {code}"


def _open_tasks(status: Status) -> list[BetterTask]:
    """Return the tasks for which a better model is worth a question: the tiny model answers, or there are stores."""
    tasks: list[BetterTask] = []
    if status.small_model is not None:
        tasks.append("chat")
    if status.stores:
        tasks.append("embedding")
    return tasks


def _say_fetching(runs: Sequence[str]) -> None:
    for run in runs:
        typer.echo(
            f"The better model is being downloaded in the background: portico runs tail {run}", err=True
        )


@dataclass(frozen=True, slots=True)
class DaemonProcess:
    """The daemon's process. A ``detached`` process outlives this command. Other daemons exit when their standard input
    closes.
    """

    process: subprocess.Popen[str]
    detached: bool

    def ready(self) -> str:
        """Wait until the daemon reports that it serves, and return its URL. If the start fails, raise `PorticoError`
        with the reason.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        try:
            result = json.loads(line)
        except ValueError:
            result = {}
        if isinstance(result, dict) and result.get("ready"):
            if upgrade := result.get("upgrade"):
                typer.echo(f"The database was migrated from schema {upgrade[0]} to {upgrade[1]}.", err=True)
            return str(result["url"])
        code = self.stop()
        if isinstance(result, dict) and isinstance(result.get("error"), dict):
            raise from_body(ErrorBody(**result["error"]))
        hint = " Start it without --detach to see why." if self.detached else ""
        raise PorticoError(
            f"The daemon exited before it served (exit code {code}).{hint}", code="start_failed"
        )

    def stop(self) -> int:
        """Ask the daemon to exit, kill it after `GRACE_S` seconds, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()


def _spawn(arguments: Sequence[str], *, is_detached: bool) -> DaemonProcess:
    """Start the daemon in a new session, so that Ctrl-C in the terminal reaches only this process, which then stops
    the daemon cleanly.
    """
    command = daemon_command("serve", "--quiet", *arguments)
    if not is_detached:
        command.append("--parent-watch")
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL if is_detached else subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A detached daemon must not keep the terminal open, or a pipe that the caller reads.
        stderr=subprocess.DEVNULL if is_detached else None,
        text=True,
        start_new_session=True,
    )
    return DaemonProcess(process, is_detached)


def _end_on_terminate() -> None:
    """Treat SIGTERM like Ctrl-C, so that the child process is stopped cleanly."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
