"""`portico tools`: manages tools that models can call, and calls them from the command line."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico._filenames import to_local_filename
from portico._read import read
from portico.cli.approvals import decide
from portico.cli.nouns import print_listing, print_outcome, print_removed, print_table
from portico.cli.pairs import json_or_text, pairs
from portico.cli.render import print_fields, print_json, print_rows, safe, shorten
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import Forbidden, InvalidRequest, NotFound, from_body
from portico.schemas.artifacts import Artifact
from portico.schemas.tools import TOOLS, Tool, ToolResult
from portico.wire import Asked, Failed, Finished

if TYPE_CHECKING:
    from portico.client import Client

app = group("tools", "portico tools call current_time")


@app.command("list", epilog="Example: portico tools list --search 'read a page'")
def show_all(
    context: typer.Context,
    group: Annotated[str | None, typer.Option(help="Only tools of this group.")] = None,
    search: Annotated[str | None, typer.Option(help="Only the best matching tools, best first.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=100, help="Number of search results (default: 5).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the tools."""
    with connected(context) as client:
        tools = client.tools.list(group=group, search=search, limit=limit)
    empty = "No matching tools." if group or search else "No tools are available."
    print_listing(tools, as_json, TOOLS.columns, empty)


@app.command(epilog="Example: portico tools show search")
def show(
    context: typer.Context, name: Annotated[str, typer.Argument(help="The tool.")], as_json: AsJson = False
) -> None:
    """Show a tool and its arguments."""
    with connected(context) as client:
        tool = client.tools.get(name)
        warning = _warning(client, tool)
    if as_json:
        print_json(tool)
        return
    changes = (
        "nothing"
        if tool.read_only
        else "changes that may be irreversible"
        if tool.destructive
        else "something"
    )
    print_fields(
        [
            ("name", tool.name),
            ("from", tool.source),
            ("group", tool.group),
            ("changes", changes),
            ("costs", f"{tool.cost:g} US dollars per call" if tool.cost else None),
            ("what", tool.description),
            ("warning", warning or None),
        ]
    )
    required_names = tool.input_schema.get("required") or ()
    print_rows(
        ("ARGUMENT", "TYPE", "NEEDED", "MEANING"),
        (
            (
                key,
                schema.get("type", ""),
                "yes" if key in required_names else "",
                schema.get("description", ""),
            )
            for key, schema in (tool.input_schema.get("properties") or {}).items()
        ),
    )


def _warning(client: Client, tool: Tool) -> str:
    """Return a warning about the source of a tool. Return an empty text for users who cannot change the source."""
    if tool.source != "database":
        return ""
    try:
        return client.tools.source(tool.name.removesuffix("_schema")).warning
    except (Forbidden, NotFound):
        return ""


@app.command(epilog="Example: portico tools sources")
def sources(context: typer.Context, as_json: AsJson = False) -> None:
    """List the added tools: commands, functions, APIs and databases."""
    with connected(context) as client:
        tool_sources = client.tools.sources()
    print_table(
        tool_sources,
        as_json,
        ("NAME", "KIND", "STATE", "TOOLS", "WHAT", "ERROR"),
        lambda s: (s.name, s.kind, s.state, len(s.tools), s.what, shorten(s.error or "", 80)),
        "No tools added yet: portico tools add NAME -- COMMAND …",
    )


@app.command(epilog="Example: portico tools add disk --describe 'Free space of a folder' -- df -h {folder}")
def add(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="The name of the tool; the prefix for the operations of an API.")
    ],
    command: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[-- COMMAND…]", help="A program and its arguments, with {name} for arguments of a call."
        ),
    ] = None,
    function: Annotated[
        str | None,
        typer.Option(
            help="A Python function, as module:function; modules are searched in this folder first."
        ),
    ] = None,
    requirement: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PACKAGE", help="A package that the function needs, such as 'pandas>=2'; repeatable."
        ),
    ] = None,
    openapi: Annotated[
        str | None, typer.Option(help="URL or path of an OpenAPI 3 document; each operation becomes a tool.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="postgresql://USER@HOST/NAME, or the path of a SQLite or DuckDB file; it is read only."
        ),
    ] = None,
    group: Annotated[str, typer.Option(help="The heading under which tools are listed.")] = "",
    cost: Annotated[float, typer.Option(min=0, help="US dollars per call.")] = 0.0,
    describe: Annotated[str, typer.Option(help="What the tool does, for the models that choose it.")] = "",
    url: Annotated[str, typer.Option(help="The URL of the API, if its document does not contain it.")] = "",
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A header for the API; repeatable.")
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="An environment variable for the program; repeatable."),
    ] = None,
    approval: Annotated[
        str,
        typer.Option(help="When a person must approve a call: always, destructive, data, refuse or never."),
    ] = "",
    read_only: Annotated[bool, typer.Option("--read-only", help="The tool changes nothing.")] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Maximum duration of a call, in seconds.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Add a tool: a command, a Python function, the operations of an HTTP API, or a database."""
    with connected(context) as client:
        tool_source = client.tools.add(
            name,
            command=command or [],
            function=function or "",
            requirements=requirement or [],
            openapi=openapi or "",
            database=database or "",
            group=group,
            cost=cost,
            description=describe,
            url=url,
            headers=pairs(header, "--header"),
            env=pairs(env, "--env"),
            folder=os.getcwd(),
            read_only=read_only,
            timeout=timeout,
            **({"approval": approval} if approval else {}),
        )
    print_outcome(tool_source, as_json, f"Added {', '.join(tool_source.tools)}.")
    if tool_source.warning:
        typer.echo(tool_source.warning, err=True)


@app.command(epilog="Example: portico tools remove disk --yes")
def remove(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the added tool.")],
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove an added tool."""
    with connected(context) as client:
        tool_source = client.tools.source(name)
        if may_remove(
            f"Remove {', '.join(tool_source.tools) or tool_source.name}?", yes=yes, dry_run=dry_run
        ):
            client.tools.remove(name)
    print_removed(tool_source.name, f"'{tool_source.name}'", dry_run, as_json)


@app.command(epilog="Example: portico tools call search store=docs query='which port'")
def call(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The tool.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE…", help="The tool's arguments; valid JSON is parsed as JSON."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--arguments", help="All arguments as a JSON object instead.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Save the figures and files that the tool creates in this folder."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Call a tool and print its result."""
    arguments_given = _arguments(arguments or [], document)
    with connected(context) as client:
        asks = client.tools.get(name).needs_approval
        result = (
            _approved(client, name, arguments_given) if asks else client.tools.call(name, arguments_given)
        )
        paths = [_save(client, item, out) for item in result.artifacts] if out else []
    if as_json:
        print_json(result)
    else:
        typer.echo(safe(result.text), err=result.is_error)
        for path in paths:
            typer.echo(f"Saved {safe(str(path))}")
    if result.is_error:
        raise typer.Exit(1)


def _approved(client: Client, name: str, arguments: dict[str, Any]) -> ToolResult:
    """Call a tool that needs approval, and return its result. The person at this terminal answers; without a terminal,
    print how to answer from elsewhere.
    """
    run = client.tools.start(name, arguments)
    result: ToolResult | None = None
    try:
        for item in client.runs.events(run):
            match item.event:
                case Asked(id=question_id):
                    if sys.stdin.isatty():
                        decide(client, client.questions.get(question_id))
                    else:
                        typer.echo(f"Waiting for approval: portico approvals approve {question_id}", err=True)
                case Finished(result=value):
                    result = read(ToolResult, value)
                case Failed(error=body):
                    raise from_body(body)
    finally:
        if result is None:
            client.runs.cancel(run)  # without its caller, the run must not keep asking
    assert result is not None
    return result


def _save(client: Client, artifact: Artifact, folder: Path) -> Path:
    """Write an artifact to ``folder`` under an unused name."""
    folder.mkdir(parents=True, exist_ok=True)
    data = client.artifacts.content(artifact.id)
    name = to_local_filename(artifact.name or artifact.id)
    for number in range(1, 10_000):
        path = folder / (name if number == 1 else f"{Path(name).stem}-{number}{Path(name).suffix}")
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            continue
        return path
    raise InvalidRequest(f"{folder} contains too many files named like '{name}'.", param="out")


def _arguments(given_pairs: list[str], document: str | None) -> dict[str, Any]:
    arguments_found: dict[str, Any] = {}
    if document is not None:
        try:
            arguments_found = json.loads(document)
        except ValueError as error:
            raise InvalidRequest(f"--arguments is not JSON: {error}.", param="arguments") from error
        if not isinstance(arguments_found, dict):
            raise InvalidRequest("--arguments must be a JSON object.", param="arguments")
    for pair in given_pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"'{pair}' is not NAME=VALUE.", param="arguments")
        arguments_found[name] = json_or_text(value)
    return arguments_found
