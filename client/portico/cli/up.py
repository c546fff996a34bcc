"""`portico up`: start the daemon, show its start, stay until Ctrl-C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.launch import Child, end_on_terminate, spawn
from portico.cli.session import AsJson, local_settings, note, session
from portico.errors import PorticoError

app = typer.Typer()


@app.command(epilog="Example: portico up --docs ./docs")
def up(
    context: typer.Context,
    docs: Annotated[
        list[Path] | None,
        typer.Option(help="A folder that becomes a store and a chat app; may be given several times."),
    ] = None,
    file: Annotated[Path | None, typer.Option("--file", "-f", help="A configuration file (YAML).")] = None,
    model: Annotated[
        str,
        typer.Option(help="Source of the default chat model; 'auto' takes the best one for this machine."),
    ] = "",
    home: Annotated[
        Path | None, typer.Option(help="Folder for everything the daemon keeps (default: PORTICO_HOME).")
    ] = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any other than loopback needs a key.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = None,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Leave the daemon running; 'portico down' stops it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Start the daemon, show its start, and stay until Ctrl-C."""
    place = ["--home", str(home)] if home else []
    arguments = list(place)
    for name, value in (("--host", host), ("--port", port), ("--file", file), ("--model", model or None)):
        if value is not None:
            arguments += [name, str(value)]
    for folder in docs or ():
        arguments += ["--docs", str(folder)]
    child = spawn(arguments, detached=detach)
    end_on_terminate()
    try:
        _accompany(context, child, place, docs or [], as_json=as_json)
    except KeyboardInterrupt:
        child.stop()
        typer.echo("Stopped.", err=as_json)
        raise
    except BaseException:
        child.stop()
        raise


def _accompany(
    context: typer.Context, child: Child, place: list[str], docs: list[Path], *, as_json: bool
) -> None:
    # Reading httpx and rich takes as long as the daemon's own imports: both happen at the same time.
    from portico.cli.startup import show

    key = session(context).key
    try:
        url = child.ready()
    except PorticoError as error:
        running = _running(place) if error.code == "home_in_use" else None
        if running is None:
            raise
        typer.echo(f"The daemon already runs at {running}.", err=True)
        known = {store.folder for store in show(running, key, as_json=as_json, begun=False).stores}
        for folder in docs:
            if str(folder.absolute()) not in known:
                typer.echo(f"It does not follow {folder}; to add that: portico stores add {folder}", err=True)
        return
    try:
        show(url, key, as_json=as_json)
    except PorticoError as error:
        # It serves: that we may not look inside, without its key for instance, is no reason to end it.
        typer.secho(f"The daemon serves at {url}, but: {error.message}", fg="yellow", err=True)
    if child.detached:
        return
    if not as_json:
        typer.echo("Press Ctrl-C to stop.")
    code = child.process.wait()
    if code:
        raise PorticoError(f"The daemon ended with exit code {code}; its log is in the home folder.")
    typer.echo("Stopped.", err=as_json)


def _running(place: list[str]) -> str | None:
    """The URL of the daemon that holds the home folder."""
    home = next(row["value"] for row in local_settings(*place) if row["name"] == "home")
    found = note(Path(home))
    return found["url"] if found else None
