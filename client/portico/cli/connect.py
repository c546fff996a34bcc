"""`portico connect`: connects editors and agents on this machine to the daemon, and disconnects them."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.render import print_json, print_rows, safe
from portico.cli.session import AsJson, Yes, connected, invocation
from portico.errors import InvalidRequest, PorticoError
from portico.spelling import nearest

if TYPE_CHECKING:
    from portico import Client as Daemon
    from portico.connect.clients import Client, DaemonAccess
    from portico.connect.connection import ConfigChange
    from portico.schemas.keys import NewKey

app = typer.Typer()

SCOPES = ("chat", "models:read", "stores:*:read", "apps:*:call", "tools:*:call")
"""Scopes of the key of a client."""

_PLACEHOLDER = "pk-…"
_ASKS = (
    "After a client has read a document or another tool's result, a tool that acts asks you before each call (portico "
    "approvals watch); to let it run, set approval: never on it."
)
_FIND_TOOLS = "find_tools"
"""The tool that is listed instead of many tools."""


@app.command(epilog="Example: portico connect opencode --yes")
def connect(
    context: typer.Context,
    client: Annotated[
        str | None,
        typer.Argument(
            help="claude-code, codex, opencode, zed, cursor, vscode, goose, jetbrains or continue.",
            show_default=False,
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every client whose program is on PATH, or whose settings exist.")
    ] = False,
    remove: Annotated[
        bool, typer.Option("--remove", help="Restore the client's files, and revoke its key.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the clients are connected. Exit code 1 if not.")
    ] = False,
    model: Annotated[
        str, typer.Option(help="Also make this model or app the client's default model.", metavar="MODEL")
    ] = "",
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Only write the bridge to this .mcpb file, which assistants such as Claude Desktop install.",
            metavar="FILE",
        ),
    ] = None,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Connect an editor or agent on this machine: its MCP server, its models, its skills, and a key of its own.

    The command shows the changes to the client's files first, and asks. Without a terminal, it changes files only with
    --yes. Other entries, comments and their order stay, and backups are stored. The key can call models, apps and
    tools, and read stores: see `portico keys`.
    """
    if remove and check:
        raise InvalidRequest("Use either --remove or --check, not both.")
    if bundle is not None:
        if client is not None or every or remove or check or model:
            raise InvalidRequest("Use --bundle without a client and without other options.", param="bundle")
        _write_bundle(context, bundle, as_json)
        return
    clients = _find_clients(client, every=every, needs_connection=remove or (check and client is None))
    if check:
        _check(context, clients, as_json)
    elif remove:
        _remove(context, clients, yes=yes, as_json=as_json)
    else:
        _connect(context, clients, model, yes=yes, as_json=as_json)


def _write_bundle(context: typer.Context, file: Path, as_json: bool) -> None:
    from portico.connect.bundle import bundle

    with connected(context) as daemon:
        url = daemon.url
    try:
        file.write_bytes(bundle(url))
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be written: {error.strerror}.", param="bundle") from error
    if as_json:
        print_json({"file": str(file), "url": url})
    else:
        typer.echo(
            f"Wrote {file}. Open it in the assistant, and give it a key: portico keys create --name NAME "
            "--scope 'tools:*:call' --scope 'stores:*:read'"
        )


def _find_clients(name: str | None, *, every: bool, needs_connection: bool) -> list[Client]:
    """Return the clients that the command line names. Raises `InvalidRequest`."""
    from portico.connect.clients import CLIENTS
    from portico.connect.connection import read_connection

    if name is not None and every:
        raise InvalidRequest("Give either a client or --all, not both.", param="client")
    if name is not None and name not in CLIENTS:
        raise InvalidRequest(
            f"'{name}' is not a client that Portico can connect.{nearest(name, CLIENTS)} Clients: "
            f"{', '.join(CLIENTS)}.",
            param="client",
        )
    if name is not None:
        return [CLIENTS[name]]
    if needs_connection:
        return [client for client in CLIENTS.values() if read_connection(client.name) is not None]
    if not every:
        raise InvalidRequest(f"Give a client, or --all. Clients: {', '.join(CLIENTS)}.", param="client")
    clients = [client for client in CLIENTS.values() if client.find() is not None]
    if not clients:
        raise InvalidRequest(
            "No client is installed. Portico looks for its program on PATH and for its settings. To connect a client "
            f"anyway, name it: {', '.join(CLIENTS)}.",
            param="client",
        )
    return clients


def _connect(
    context: typer.Context, clients: Sequence[Client], model: str, *, yes: bool, as_json: bool
) -> None:
    from portico.connect.clients import DaemonAccess
    from portico.connect.connection import plan_connection, plan_skills

    with connected(context) as daemon:
        models = [item for item in daemon.models.list() if "chat" in item.capabilities]
        if model and model not in {item.id for item in models}:
            names = [item.id for item in models]
            raise InvalidRequest(
                f"'{model}' is not a model that chats here.{nearest(model, names)} List them: portico models list",
                param="model",
            )
        archives = {skill.name: daemon.skills.content(skill.name) for skill in daemon.skills.list()}
        preview = DaemonAccess(daemon.url, _PLACEHOLDER, models, model)
        locations = {item.name: item.find() for item in clients}
        problems: dict[str, PorticoError] = {}
        plans = []
        for item in clients:
            with _collect_problem(item, clients, problems):
                plans.append((item, plan_connection(item, preview), plan_skills(item, archives)))
        if not as_json:
            for item in clients:
                if locations[item.name] is not None:
                    typer.echo(f"Found {item.title}: {locations[item.name]}")
        changes = [change for _, files, skills in plans for change in (*files, *skills)]
        titles = ", ".join(item.title for item, _, _ in plans)
        is_agreed = bool(plans) and _agrees(
            f"Connect {titles} to {daemon.url}?", changes, yes=yes, quiet=as_json
        )
        keys: dict[str, NewKey] = {}
        tools: dict[str, list[str] | None] = {}
        for item, _, _ in plans if is_agreed else ():
            with _collect_problem(item, clients, problems):
                keys[item.name] = _write(daemon, item, preview, archives)
                tools[item.name] = _tools_of(daemon.url, keys[item.name])
        url = daemon.url
    files_by_client = {item.name: [*files, *skills] for item, files, skills in plans}
    results = [
        _result(
            item,
            files_by_client.get(item.name, []),
            item.name in keys,
            url=url,
            key=keys[item.name].id if item.name in keys else None,
            tools=tools.get(item.name),
            found=str(locations[item.name]) if locations[item.name] else None,
            error=problems[item.name].message if item.name in problems else None,
        )
        for item in clients
    ]
    if as_json:
        print_json({"data": results})
    else:
        _print_results(
            [result for result in results if result["error"] is None],
            "Connected" if is_agreed else "Would connect",
            as_json,
            "Nothing was connected.",
        )
        for item in clients:
            if item.name in keys:
                if (tool_names := tools.get(item.name)) is not None:
                    typer.echo(_tools_sentence(item.title, tool_names))
                typer.echo(f"Restart {item.title} if it is running." + (f" {item.note}" if item.note else ""))
            elif item.name in problems:
                message = f"{item.title} is not connected: {problems[item.name].message}"
                typer.secho(safe(message), fg="red", err=True)
        if keys:
            typer.echo(_ASKS)
    if problems:
        raise typer.Exit(1)


@contextmanager
def _collect_problem(
    client: Client, clients: Sequence[Client], problems: dict[str, PorticoError]
) -> Iterator[None]:
    """Add an error to ``problems``, so that the other clients are connected. Raise it if there is only one client."""
    try:
        yield
    except PorticoError as error:
        if len(clients) == 1:
            raise
        problems[client.name] = error
    except OSError as error:
        if len(clients) == 1:
            raise
        problems[client.name] = InvalidRequest(
            f"{error.filename or 'A file'} cannot be read or written: {error.strerror or error}.",
            param="client",
        )


def _tools_of(url: str, key: NewKey) -> list[str] | None:
    """Return the names of the tools that a client gets over MCP, or ``None`` after printing why they are unknown."""
    from portico._transport import Address
    from portico.connect.tool_list import listed_tools

    try:
        return listed_tools(Address.of(url, key.key))
    except PorticoError as error:
        typer.secho(safe(f"The tools could not be counted: {error.message}"), fg="yellow", err=True)
        return None


def _tools_sentence(title: str, tools: Sequence[str]) -> str:
    """Return a sentence that says how many tools a client gets."""
    count = f"{len(tools)} tool{'' if len(tools) == 1 else 's'}"
    if _FIND_TOOLS in tools:
        return f"{title} sees {count} over MCP; '{_FIND_TOOLS}' finds the others."
    return f"{title} sees {count} over MCP."


def _write(daemon: Daemon, client: Client, preview: DaemonAccess, archives: dict[str, bytes]) -> NewKey:
    """Connect a client with a new key, and revoke the key of its former connection. Return the key."""
    from dataclasses import replace

    from portico.connect import connection

    former = connection.read_connection(client.name)
    key = daemon.keys.add(f"connect {client.name}", SCOPES)
    try:
        link = replace(preview, key=key.key)
        changes = connection.plan_connection(client, link)
        connection.apply(client, link, key.id, changes, connection.plan_skills(client, archives))
    except BaseException:
        daemon.keys.revoke(key.id)
        raise
    if former is not None and former.url == daemon.url:
        _revoke(daemon, former.key_id)
    return key


def _remove(context: typer.Context, clients: Sequence[Client], *, yes: bool, as_json: bool) -> None:
    from portico.connect import connection

    connections = {item.name: connection.read_connection(item.name) for item in clients}
    clients = [item for item in clients if connections[item.name] is not None]
    plans = [(item, connection.plan_removal(item)) for item in clients]
    titles = ", ".join(item.title for item in clients)
    changes = [change for _, files in plans for change in files]
    is_agreed = bool(clients) and _agrees(f"Disconnect {titles}?", changes, yes=yes, quiet=as_json)
    problems = []
    for item, files in plans:
        if not is_agreed:
            continue
        connection.disconnect(item, files)
        former = connections[item.name]
        assert former is not None
        try:
            _revoke_at(context, former.url, former.key_id)
        except PorticoError as error:
            problems.append(
                f"The key of {item.title} could not be revoked at {former.url}: {error.message} Revoke it: "
                f"portico --url {former.url} keys revoke {former.key_id}"
            )
    results = [_result(item, files, is_agreed) for item, files in plans]
    _print_results(
        results, "Disconnected" if is_agreed else "Would disconnect", as_json, "Nothing is connected."
    )
    for problem in problems:
        typer.secho(safe(problem), fg="red", err=True)
    if problems:
        raise typer.Exit(1)


def _check(context: typer.Context, clients: Sequence[Client], as_json: bool) -> None:
    from portico.connect import connection

    results: list[dict[str, Any]] = []
    for item in clients:
        state, reason = connection.state_of(item)
        former = connection.read_connection(item.name)
        if state == "connected" and former is not None:
            try:
                _whoami(former.url, connection.key_in_files(former))
            except PorticoError as error:
                state, reason = "changed", error.message
        url = former.url if former is not None else ""
        results.append({"client": item.name, "state": state, "url": url, "reason": reason})
    if as_json:
        print_json({"data": results})
    elif not results:
        typer.echo("Nothing is connected: portico connect CLIENT")
    else:
        columns = ("client", "state", "url", "reason")
        print_rows(("CLIENT", "STATE", "DAEMON", "WHY"), ([row[name] for name in columns] for row in results))
    if any(row["state"] != "connected" for row in results) or not results:
        raise typer.Exit(1)


def _agrees(question: str, changes: Sequence[ConfigChange], *, yes: bool, quiet: bool) -> bool:
    """Show the changes, and return whether to make them: with --yes, or if the person at the terminal agrees."""
    if not quiet:
        for change in changes:
            typer.echo(safe(change.show()))
    if yes:
        return True
    if not sys.stdin.isatty() or quiet:
        return False
    return bool(typer.confirm(question))


def _result(
    client: Client, changes: Sequence[ConfigChange], is_changed: bool, **fields: Any
) -> dict[str, Any]:
    files = [{"path": str(change.path), "change": change.verb} for change in changes]
    return {"client": client.name, "title": client.title, "changed": is_changed, "files": files, **fields}


def _print_results(results: Sequence[dict[str, Any]], verb: str, as_json: bool, empty: str = "") -> None:
    if as_json:
        print_json({"data": results})
        return
    for result in results:
        count = len(result["files"])
        typer.echo(f"{verb} {result['title']}: {count} file{'' if count == 1 else 's'}.")
    if not results:
        typer.echo(empty)
    elif not results[0]["changed"]:
        typer.echo("Nothing was changed. Use --yes to make these changes.", err=True)


def _whoami(url: str, key: str) -> None:
    from portico import Client as Daemon

    with Daemon(url, key) as daemon:
        daemon.whoami()


def _revoke_at(context: typer.Context, url: str, key_id: str) -> None:
    from portico import Client as Daemon

    with Daemon(url, invocation(context).key) as daemon:
        _revoke(daemon, key_id)


def _revoke(daemon: Daemon, key_id: str) -> None:
    """Revoke a key, unless it does not exist any more."""
    from portico.errors import NotFound

    try:
        daemon.keys.revoke(key_id)
    except NotFound:
        return
