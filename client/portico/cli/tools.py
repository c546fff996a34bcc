"""`portico tools`: what models may call, called by hand."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from portico.cli.render import print_json, print_rows, safe, shorten
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

app = typer.Typer(
    no_args_is_help=True,
    help="Tools: what models may call.",
    epilog="Example: portico tools call current_time",
)


@app.command("list", epilog="Example: portico tools list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the tools."""
    with connected(context) as client:
        found = client.tools.list()
    if as_json:
        print_json({"data": found})
    elif not found:
        typer.echo("No tools here.")
    else:
        print_rows(
            ("NAME", "TAKES", "DESCRIPTION"),
            (
                (t.name, tuple(t.input_schema.get("properties") or ()), shorten(t.description, 100))
                for t in found
            ),
        )


@app.command(epilog="Example: portico tools call search store=docs query='which port'")
def call(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The tool.")],
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE…", help="Its arguments; a value that is JSON is read as JSON."),
    ] = None,
    document: Annotated[
        str | None, typer.Option("--arguments", help="All arguments as one JSON object instead.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Call a tool and print what it answers."""
    with connected(context) as client:
        result = client.tools.call(name, _arguments(arguments or [], document))
    if as_json:
        print_json(result)
    else:
        typer.echo(safe(result.text), err=result.is_error)
    if result.is_error:
        raise typer.Exit(1)


def _arguments(pairs: list[str], document: str | None) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if document is not None:
        try:
            given = json.loads(document)
        except ValueError as error:
            raise InvalidRequest(f"--arguments is not JSON: {error}.", param="arguments") from error
        if not isinstance(given, dict):
            raise InvalidRequest("--arguments must be a JSON object.", param="arguments")
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidRequest(f"'{pair}' is not NAME=VALUE.", param="arguments")
        try:
            given[name] = json.loads(value)
        except ValueError:
            given[name] = value
    return given
