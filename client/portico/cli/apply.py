"""`portico apply`: apply a configuration file, or the daemon's own file, to a running daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from portico._document import UnsetError, expand
from portico.cli.render import console, one_line, print_json
from portico.cli.session import AsJson, DryRun, Yes, confirm, connected
from portico.errors import InvalidRequest
from portico.schemas.configuration import Applied, Change

app = typer.Typer()

SIGNS = {
    "create": ("+", "green"),
    "change": ("~", "yellow"),
    "remove": ("-", "red"),
    "unchanged": (" ", "dim"),
}
WOULD = {"create": "would be created", "change": "would be changed", "remove": "would be removed"}
DID = {"create": "created", "change": "changed", "remove": "removed"}


@app.command(epilog="Example: portico apply -f portico.yaml --dry-run")
def apply(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", help="A configuration file (YAML); by default, the daemon's own file."),
    ] = None,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune", help="For the kinds in the file (models, apps …), remove what the file does not name."
        ),
    ] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Create and change what a file defines: models, stores, tools, MCP servers, prompts, skills, apps, agents,
    schedules.

    Items that already match are left unchanged. Nothing is removed without --prune. Without --file, the daemon reads
    the file that it was started with again, as after SIGHUP.
    """
    if file is None:
        if prune:
            raise InvalidRequest("--prune needs a configuration file: pass one with --file.", param="file")
        with connected(context) as client:
            _show(client.apply(dry_run=dry_run), as_json=as_json)
        return
    document = configuration(file, os.environ)
    folder = str(file.absolute().parent)
    with connected(context) as client:
        kinds = pruned(document) if prune else ()
        plan = client.apply(document, folder=folder, prune=kinds, dry_run=True)
        changes = [change for change in plan.changes if change.action == "remove"]
        if not dry_run:
            if changes:
                confirm(f"Remove {', '.join(f'{x.kind}/{x.name}' for x in changes)}?", yes=yes)
            plan = client.apply(document, folder=folder, prune=kinds)
    _show(plan, as_json=as_json)


def configuration(file: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the contents of a file, with variables replaced, and with flows and agents from other files inserted."""
    from portico.cli.source import document_of

    document = document_of(file)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidRequest(
            f"{file} must contain a mapping with keys such as 'models' and 'apps'.", param="file"
        )
    try:
        expanded_configuration: dict[str, Any] = expand(document, environment)
    except UnsetError as error:
        raise InvalidRequest(f"{file}: {error}", code="missing_variable") from error
    for key in ("apps", "agents"):
        items = expanded_configuration.get(key)
        if isinstance(items, list):
            expanded_configuration[key] = [_inlined(item, key, file.absolute().parent) for item in items]
    return expanded_configuration


def _inlined(item: Any, key: str, folder: Path) -> Any:
    """Return an app or agent entry with its ``file`` replaced by the contents of that file."""
    if not isinstance(item, dict) or not isinstance(item.get("file"), str):
        return item
    from portico.cli.source import document_of

    inner = document_of(folder / Path(item["file"]).expanduser())
    other_fields = {name: value for name, value in item.items() if name != "file"}
    if not isinstance(inner, dict):
        return item  # return the entry unchanged: the daemon reports the error
    if key == "agents":
        return {**inner, **other_fields}
    return {**other_fields, "agent" if "portico_agent" in inner else "flow": inner}


def pruned(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds that a document contains, including kinds with empty lists. Objects of other kinds are not
    removed.
    """
    kinds = (
        "models",
        "stores",
        "tools",
        "mcp",
        "prompts",
        "skills",
        "apps",
        "agents",
        "schedules",
        "aliases",
    )
    return tuple(kind for kind in kinds if kind in document)


def _show(applied: Applied, *, as_json: bool) -> None:
    if as_json:
        print_json(applied)
        return
    out = console()
    for change in applied.changes:
        sign, style = SIGNS[change.action]
        detail = f" ({', '.join(change.detail)})" if change.detail else ""
        out.print(f"{sign} {one_line(f'{change.kind}/{change.name}{detail}')}", style=style, markup=False)
    words = WOULD if applied.dry_run else DID
    counts = [f"{_count(applied.changes, action)} {words[action]}" for action in words]
    typer.echo(f"{', '.join(counts)}, {_count(applied.changes, 'unchanged')} unchanged.")
    if applied.ignored:
        typer.echo(
            f"Ignored: {', '.join(applied.ignored)}; the daemon reads these parts of its file when it starts.",
            err=True,
        )


def _count(changes: tuple[Change, ...], action: str) -> int:
    return sum(change.action == action for change in changes)
