"""`portico agents`: deployed agents, and conversations with them."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.apps_deploy import deploy
from portico.cli.cite import print_hint, write_answer
from portico.cli.nouns import print_listing, print_removed
from portico.cli.render import print_fields, print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import NotFound
from portico.schemas.apps import APPS, AppVersion

if TYPE_CHECKING:
    from portico.client import Client

app = group("agents", "portico agents chat clerk --session monday")

Name = Annotated[str, typer.Argument(help="The agent.")]

app.command("deploy", epilog="Example: portico agents deploy weather.py:agent --name weather")(deploy)


@app.command("list", epilog="Example: portico agents list")
def show_all(context: typer.Context, as_json: AsJson = False) -> None:
    """List the deployed agents."""
    with connected(context) as client:
        apps = [item for item in client.apps.list() if item.kind == "agent"]
    columns = [column for column in APPS.columns if column.heading != "KIND"]
    print_listing(apps, as_json, columns, "No agents yet: portico agents deploy FILE")


@app.command(epilog="Example: portico agents show clerk")
def show(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Show an agent: its model, instructions and tools."""
    with connected(context) as client:
        version = _agent(client, name)
        sessions = client.sessions.list(name, limit=1000)
    if as_json:
        print_json(version)
        return
    spec = version.spec
    print_fields(
        [
            ("name", version.name),
            ("version", version.version),
            ("what", spec.get("description") or spec.get("title") or ""),
            ("model", spec.get("model") or ("" if "forward" in spec else "default")),
            ("served as", spec.get("forward") or ""),
            ("tools", ", ".join(_label_of(item, "tool") for item in spec.get("tools") or ())),
            ("stores", ", ".join(spec.get("stores") or ())),
            ("agents", ", ".join(_label_of(item, "agent") for item in spec.get("agents") or ())),
            ("strategy", spec.get("strategy") or ""),
            ("sessions", f"{len(sessions)}"),
        ]
    )
    if spec.get("instructions"):
        typer.echo(f"\n{safe(str(spec['instructions']))}")


@app.command(epilog="Example: portico agents chat clerk --session monday")
def chat(
    context: typer.Context,
    name: Name,
    session: Annotated[
        str, typer.Option(help="The conversation to continue; a new name starts a new conversation.")
    ] = "cli",
    as_json: AsJson = False,
) -> None:
    """Chat with an agent, which remembers the conversation under the session's name. Empty lines are skipped."""
    asking = sys.stdin.isatty() and not as_json
    messages: list[dict[str, Any]] = []
    with connected(context) as client:
        if client.apps.get(name).kind != "agent":
            raise _no_agent(name)
        if asking:
            typer.echo(f"Talking to {safe(name)} in the session '{safe(session)}'. Press Ctrl-D to leave.")
            print_hint(client, name)
        while (line := _line(asking)) is not None:
            if not line.strip():
                continue
            with closing(client.apps.start(name, line.strip(), session=session)) as turn:
                text = "".join(turn) if as_json else write_answer(client, turn)
            messages += [
                {"role": "user", "content": line.strip()},
                {"role": "assistant", "content": text},
            ]
    if as_json:
        print_json({"agent": name, "session": session, "messages": messages})


@app.command(epilog="Example: portico agents remove clerk --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Remove an agent with all its versions. Its sessions remain: portico sessions list."""
    with connected(context) as client:
        app_version = _agent(client, name)
        if may_remove(
            f"Remove '{app_version.name}' with {app_version.version} versions?", yes=yes, dry_run=dry_run
        ):
            client.apps.remove(name)
    print_removed(name, f"'{name}'", dry_run, as_json)


def _agent(client: Client, name: str) -> AppVersion:
    """Return the current version of an agent. Raises `NotFound` if the name is not an agent."""
    for version in client.apps.versions(name):
        if version.current and "portico_agent" in version.spec:
            return version
    raise _no_agent(name)


def _no_agent(name: str) -> NotFound:
    return NotFound(f"'{name}' is not an agent. List them: portico agents list", param="name")


def _label_of(item: Any, key: str) -> str:
    function = item.get(key) or item.get("function") if isinstance(item, dict) else item
    return (
        str(function.get("name") or "…") if isinstance(function, dict) else str(function or json.dumps(item))
    )


def _line(asking: bool) -> str | None:
    try:
        return input("› " if asking else "")
    except EOFError:
        return None
