"""`portico apps`: everything that answers conversations, and deployed apps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli.apps_deploy import deploy, diff, set_
from portico.cli.cite import print_hint
from portico.cli.complete import app_names
from portico.cli.limits import format_limits as limits_shown
from portico.cli.limits import limits_of
from portico.cli.nouns import ID, OWNER, Everyone, print_listing, print_outcome, print_removed, print_table
from portico.cli.render import moment, print_fields, print_json, safe
from portico.cli.root import group
from portico.cli.running import given_input, show_run
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import InvalidRequest
from portico.schemas.apps import APPS
from portico.schemas.resource import Column

app = group("apps", "portico apps deploy story.py:story")

Name = Annotated[str, typer.Argument(help="The app.", autocompletion=app_names)]


@app.command("list", epilog="Example: portico apps list")
def show_all(context: typer.Context, everyone: Everyone = False, as_json: AsJson = False) -> None:
    """List the apps that you can call. The name of each app is also a model name."""
    columns = (ID, Column("NAME"), OWNER, Column("KIND"), Column("VERSION", kind="count"))
    with connected(context) as client:
        apps = client.apps.list(everyone=everyone)
    print_listing(
        apps, as_json, columns if everyone else APPS.columns, "No apps yet: portico stores add ./docs"
    )


@app.command(epilog="Example: portico apps show story")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show an app: its input, its output, its limits."""
    with connected(context) as client:
        app = client.apps.get(name)
    if as_json:
        print_json(app)
        return
    print_fields(
        [
            ("name", app.name),
            ("title", app.title if app.title != app.name else ""),
            ("what", app.description),
            ("kind", app.kind),
            ("version", app.version or ""),
            ("limits", limits_shown(app.limits)),
        ]
    )
    for title, schema in (("Takes", app.input_schema), ("Gives", app.output_schema)):
        if schema:
            typer.echo(f"{title}:\n{safe(json.dumps(schema, ensure_ascii=False, indent=2))}")


@app.command(epilog="Example: portico apps run story 'A handbook of bread'")
def run(
    context: typer.Context,
    name: Name,
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="[INPUT]", help="The input; valid JSON is parsed as JSON, - reads standard input."
        ),
    ] = None,
    file: Annotated[Path | None, typer.Option("--input", help="A JSON file with the input.")] = None,
    session: Annotated[
        str | None, typer.Option(help="The conversation to continue, if the app stores conversations.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run an app: print its text as it arrives, then its value. Its questions are asked at the terminal."""
    with connected(context) as client:
        app = client.apps.get(name)
        input_value = given_input(text, file, app.input_schema)
        if app.kind == "store":
            if not isinstance(input_value, str) or not input_value.strip():
                raise InvalidRequest(f"'{name}' answers questions: give a question as INPUT.", param="input")
            with client.ask(input_value, name) as answer:
                answer.read()
            print_outcome({"run": answer.run, "value": answer.text}, as_json, safe(answer.text))
            return
        show_run(client, client.apps.start(name, input_value, session=session), as_json=as_json)
        if not as_json:
            print_hint(client, name)


app.command(epilog="Example: portico apps deploy story.py:story --note 'shorter chapters'")(deploy)
app.command("set", epilog="Example: portico apps set story outline.system=@prompt.txt")(set_)
app.command(epilog="Example: portico apps diff story 1 2")(diff)


@app.command(epilog="Example: portico apps versions story")
def versions(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the versions of an app, newest first."""
    with connected(context) as client:
        app_versions = client.apps.versions(name)
    headings = ("VERSION", "ANSWERS", "SINCE", "BY", "NOTE")
    print_table(
        app_versions,
        as_json,
        headings,
        lambda v: (v.version, v.current, moment(v.created_at), v.created_by, v.note),
    )


@app.command(epilog="Example: portico apps rollback story --to 2")
def rollback(
    context: typer.Context,
    name: Name,
    to: Annotated[int | None, typer.Option(min=1, help="The version (default: the previous one).")] = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version the current one. Runs in progress finish unchanged."""
    with connected(context) as client:
        app_version = client.apps.roll_back(name, to)
    print_outcome(app_version, as_json, f"'{app_version.name}' is back at version {app_version.version}.")


@app.command(epilog="Example: portico apps limit story concurrency=4 tokens_per_day=100000")
def limit(
    context: typer.Context,
    name: Name,
    limits: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME=NUMBER…",
            help="concurrency, requests_per_minute, tokens_per_minute or tokens_per_day; omit to remove all "
            "limits.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set the limits of an app for all callers. They replace the previous limits."""
    wanted_limits = limits_of(limits or ())
    with connected(context) as client:
        client.apps.limit(name, wanted_limits)
        app = client.apps.get(name)
    if as_json:
        print_json(app)
    else:
        limit_text = ", ".join(limits_shown(app.limits))
        typer.echo(
            f"'{app.name}' is limited to {limit_text}." if limit_text else f"'{app.name}' has no limits."
        )


@app.command(epilog="Example: portico apps draw story --svg story.svg")
def draw(
    context: typer.Context,
    name: Name,
    svg: Annotated[Path | None, typer.Option(help="Write an SVG file instead of printing text.")] = None,
    mermaid: Annotated[
        bool, typer.Option("--mermaid", help="Print a Mermaid flowchart, the default without --svg.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw a deployed app: Mermaid text on standard output, or an SVG file."""
    if svg is not None and mermaid:
        raise InvalidRequest("Give either --svg or --mermaid, not both.", param="svg")
    with connected(context) as client:
        drawing = client.apps.drawing(name, "mermaid" if svg is None else "svg")
    if svg is not None:
        svg.write_text(drawing, encoding="utf-8")
    result: dict[str, Any] = {"mermaid": drawing} if svg is None else {"svg": str(svg)}
    print_outcome(result, as_json, safe(drawing).rstrip() if svg is None else f"Drawn to {svg}.")


@app.command(epilog="Example: portico apps remove story --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove a deployed app with all its versions. Runs in progress continue."""
    with connected(context) as client:
        count = len(client.apps.versions(name))
        if may_remove(f"Remove '{name}' with {count} versions?", yes=yes, dry_run=dry_run):
            client.apps.remove(name)
    print_removed(name, f"'{name}'", dry_run, as_json)
