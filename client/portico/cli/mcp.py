"""`portico mcp`: makes the daemon an MCP server on standard input and output, and manages external MCP servers."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import threading
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.mcp_server_json import server_json
from portico.cli.nouns import (
    fields_of,
    print_item,
    print_listing,
    print_outcome,
    print_removed,
    print_table,
)
from portico.cli.pairs import pairs
from portico.cli.progress import Spinner
from portico.cli.render import moment, one_line, print_json, safe, shorten
from portico.cli.session import AsJson, DryRun, Yes, connected, invocation, may_remove
from portico.errors import InvalidRequest, PorticoError
from portico.schemas.mcp_servers import MCP, McpServer
from portico.schemas.resource import Column

_SETTINGS = '{"mcpServers": {"portico": {"command": "portico", "args": ["mcp"]}}}'

MAX_INSTRUCTIONS_CHARS = 1_000
"""Maximum number of characters to print of a server's usage instructions; ``--json`` prints the full text."""

app = typer.Typer(invoke_without_command=True, epilog=f"Example, in an assistant's settings: {_SETTINGS}")

Name = Annotated[str, typer.Argument(help="The name of the server.")]


@app.callback()
def mcp(context: typer.Context) -> None:
    """Serve the daemon's tools and documents to an assistant that uses MCP over standard input and output.

    Assistants that use MCP over HTTP need no bridge: give them the daemon's URL followed by /mcp. The commands below
    manage external MCP servers, whose tools the daemon offers as its own.
    """
    if context.invoked_subcommand is not None:
        return
    # Import here and not at the top: importing httpx takes a quarter of a second.
    from portico._mcp_bridge import Bridge
    from portico._transport import Address

    connection = invocation(context)
    bridge = Bridge(Address.of(connection.url, connection.key), _write)
    try:
        asyncio.run(bridge.run(_lines(sys.stdin.fileno())))
    except* BrokenPipeError:
        # The client has disconnected without closing our input. Discard output that Python still buffers, as
        # it has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    """Yield lines from a file descriptor of any kind, until the end of its input.

    A thread reads the lines, because event loops can wait for pipes, but not for files and terminals. The thread reads
    the descriptor directly: a thread blocked in a buffered reader would break the interpreter's exit.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def read() -> None:
        remainder = b""
        try:
            while chunk := os.read(descriptor, 65_536):
                *complete_lines, remainder = (remainder + chunk).split(b"\n")
                for line in complete_lines:
                    loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, remainder)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except RuntimeError:
            return  # the loop has ended, so the lines have no reader

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line


@app.command("list", epilog="Example: portico mcp list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the external MCP servers that the daemon uses."""
    with connected(context) as client:
        mcp_servers = client.mcp.list()
    print_listing(mcp_servers, as_json, MCP.columns, "No servers yet: portico mcp add NAME -- COMMAND …")


@app.command(epilog="Example: portico mcp show files")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show a server, its description, and the names of its tools."""
    with connected(context) as client:
        _print(client.mcp.get(name), as_json)


@app.command(epilog="Example: portico mcp add files -- npx -y @modelcontextprotocol/server-filesystem ./docs")
def add(
    context: typer.Context,
    name: Name,
    command: Annotated[
        list[str] | None, typer.Argument(metavar="[-- COMMAND…]", help="The program and its arguments.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="The URL of a running server, instead of a command.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An environment variable for the server; repeatable."),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A header for a URL; repeatable."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(help="Only tools with this name, such as read_*; repeatable."),
    ] = None,
    deny: Annotated[list[str] | None, typer.Option(help="Exclude tools with this name; repeatable.")] = None,
    prefix: Annotated[
        str | None,
        typer.Option(help="Prefix for the names of the server's tools (default: the server's name and _)."),
    ] = None,
    approval: Annotated[
        str,
        typer.Option(help="When a person must approve a call: always, destructive, data, refuse or never."),
    ] = "",
    sampling: Annotated[
        str, typer.Option(metavar="MODEL", help="The model that the server itself can call (default: none).")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Add an external MCP server: a command to start, or a URL to connect to."""
    options: dict[str, Any] = {
        "env": pairs(env, "--env"),
        "headers": pairs(header, "--header"),
        "allow": allow or [],
        "deny": deny or [],
        "prefix": prefix,
        "folder": os.getcwd() if command else "",
        **({"approval": approval} if approval else {}),
        **({"sampling": {"model": sampling}} if sampling else {}),
    }
    with connected(context) as client, Spinner(f"Starting {name}"):
        mcp_server = client.mcp.add(name, command or (), url=url, **options)
    _print(mcp_server, as_json)


@app.command(epilog="Example: portico mcp remove files --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Stop a server and remove it. Its tools become unavailable immediately."""
    with connected(context) as client:
        mcp_server = client.mcp.get(name)
        if may_remove(f"Remove the MCP server '{mcp_server.name}'?", yes=yes, dry_run=dry_run):
            client.mcp.remove(name)
    print_removed(mcp_server.name, f"'{mcp_server.name}'", dry_run, as_json)


@app.command(epilog="Example: portico mcp restart files")
def restart(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Restart a server."""
    with connected(context) as client:
        mcp_server = client.mcp.restart(name)
    print_outcome(mcp_server, as_json, f"'{mcp_server.name}' has been restarted.")


@app.command(epilog="Example: portico mcp logs files --lines 20")
def logs(
    context: typer.Context,
    name: Name,
    lines: Annotated[int, typer.Option(min=1, max=1000, help="Number of lines.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Print the last lines that a server wrote to standard error."""
    with connected(context) as client:
        lines_found = client.mcp.logs(name, lines)
    if as_json:
        print_json({"data": list(lines_found)})
    elif not lines_found:
        typer.echo(f"'{name}' has not written anything yet.")
    else:
        for line in lines_found:
            typer.echo(one_line(line))


@app.command(epilog="Example: portico mcp resources files file:///srv/handbook/lease.md")
def resources(
    context: typer.Context,
    name: Name,
    uri: Annotated[
        str | None,
        typer.Argument(metavar="[URI]", help="Print the contents of the resource at this URI instead."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the resources of a server, or print the contents of one resource."""
    with connected(context) as client:
        if uri is None:
            print_table(
                client.mcp.resources(name),
                as_json,
                ("ADDRESS", "NAME", "TYPE", "WHAT IT IS"),
                lambda resource: (
                    resource.uri,
                    resource.title or resource.name,
                    resource.mime_type,
                    shorten(resource.description, 80),
                ),
            )
            return
        contents = client.mcp.read(name, uri)
    if as_json:
        print_json({"data": contents})
        return
    for content in contents:
        size = len(content.data or "") * 3 // 4
        unread = f"[{content.mime_type}, {size} bytes; use --json to print it]"
        typer.echo(unread if content.text is None else safe(content.text))


@app.command(epilog="Example: portico mcp prompts files review --argument language=python")
def prompts(
    context: typer.Context,
    name: Name,
    prompt: Annotated[
        str | None, typer.Argument(metavar="[PROMPT]", help="Print the messages of this prompt instead.")
    ] = None,
    argument: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An argument of the prompt; repeatable."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the prompts of a server, or fill in the arguments of a prompt and print its messages."""
    with connected(context) as client:
        if prompt is None:
            columns = (
                Column("PROMPT", "name"),
                Column("TAKES", "arguments", kind="names"),
                Column("WHAT IT IS", "description", width=80),
            )
            print_listing(client.mcp.prompts(name), as_json, columns)
            return
        messages = client.mcp.render(name, prompt, pairs(argument, "--argument"))
    if as_json:
        print_json({"data": messages})
        return
    for message in messages:
        typer.echo(f"{message.role}: {safe(message.text)}")


@app.command("import", epilog="Example: portico mcp import ~/.cursor/mcp.json")
def take_over(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Settings of an assistant, with 'mcpServers'.")
    ],
    as_json: AsJson = False,
) -> None:
    """Add every server in an assistant's settings file. ${NAME} in the file is replaced by the environment
    variable NAME.
    """
    servers = read_settings(file.read_text(encoding="utf-8"), os.environ)
    mcp_servers: list[McpServer] = []
    failures: dict[str, str] = {}
    with connected(context) as client:
        for name, server_fields in servers.items():
            try:
                with Spinner(f"Starting {name}"):
                    mcp_servers.append(client.mcp.add(name, **server_fields))
            except PorticoError as error:
                failures[name] = error.message
    if as_json:
        print_json({"data": mcp_servers, "failed": failures})
    else:
        for server in mcp_servers:
            typer.echo(f"{server.name}: {server.state}, {len(server.tools)} tools")
        for name, reason in failures.items():
            typer.secho(f"{name}: {safe(reason)}", fg="red", err=True)
    if failures:
        raise typer.Exit(1)


app.command("server-json", epilog="Example: portico mcp server-json com.example/handbook --app docs")(
    server_json
)


def read_settings(text: str, environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """Parse an assistant's settings. Return arguments for ``Client.mcp.add``, keyed by server name; disabled servers
    are omitted.

    Accepts ``{"mcpServers": {…}}`` and ``{"servers": {…}}``. Raises `InvalidRequest`.
    """
    try:
        document = json.loads(text)
        servers = document.get("mcpServers") or document.get("servers")
        assert isinstance(servers, dict)
        return {
            name: _server(_expanded(item, environment))
            for name, item in servers.items()
            if item.get("disabled") is not True
        }
    except (ValueError, AttributeError, AssertionError, TypeError) as error:
        raise InvalidRequest(
            'This is not a settings file with MCP servers: expected {"mcpServers": {"NAME": {"command": …}}}.',
            param="file",
        ) from error


def _server(item: Mapping[str, Any]) -> dict[str, Any]:
    command = [item["command"], *item.get("args", ())] if item.get("command") else []
    server_fields: dict[str, Any] = {
        "command": command,
        "url": item.get("url") or item.get("serverUrl") or item.get("httpUrl"),
        "env": item.get("env") or {},
        "headers": item.get("headers") or {},
    }
    if command:
        server_fields["folder"] = item.get("cwd") or os.getcwd()
    return server_fields


def _expanded(value: Any, environment: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _expanded(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [_expanded(item, environment) for item in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"\$\{(?:env:)?([A-Za-z_]\w*)\}", lambda match: environment.get(match[1], match[0]), value)


def _print(mcp_server: McpServer, as_json: bool) -> None:
    print_item(
        mcp_server,
        as_json,
        *fields_of(mcp_server, "name", "state", "error"),
        ("title", mcp_server.card.title),
        ("version", mcp_server.card.version),
        ("protocol", mcp_server.card.protocol),
        ("capabilities", mcp_server.card.capabilities),
        ("reached", moment(mcp_server.reached_at)),
        ("command", " ".join(mcp_server.command)),
        ("url", mcp_server.url),
        ("variables", mcp_server.env),
        ("headers", mcp_server.headers),
        ("restarts", mcp_server.restarts or None),
        ("tools", mcp_server.tools),
        ("problems", "\n".join(mcp_server.problems)),
        ("instructions", shorten(mcp_server.card.instructions, MAX_INSTRUCTIONS_CHARS)),
    )
