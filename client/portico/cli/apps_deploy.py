"""`portico apps deploy`, `set` and `diff`: create and compare versions of an app."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.complete import app_names
from portico.cli.nouns import print_outcome
from portico.cli.pairs import json_or_text, pairs
from portico.cli.render import console, print_json, safe
from portico.cli.session import AsJson, DryRun, connected
from portico.cli.source import AppSource, read_source
from portico.errors import InvalidRequest, NotFound, from_body
from portico.wire import ErrorBody

if TYPE_CHECKING:
    from portico.client import Client

Note = Annotated[str, typer.Option(help="What changed in this version.")]


def deploy(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE.py:NAME|FILE.yaml",
            help="A flow or agent in a Python file or module, or its specification as .json or .yaml.",
        ),
    ],
    name: Annotated[str, typer.Option(help="The name of the app (default: the name in the source).")] = "",
    note: Note = "",
    serve_later: Annotated[
        bool, typer.Option("--serve-later", help="Deploy although no process serves its functions yet.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Deploy an app, or a new version of it. The new version answers from the next call on."""
    app_source = read_source(source)
    app_name = name or app_source.name
    if not app_name:
        raise InvalidRequest(f"'{source}' has no name: set one with --name.", param="name")
    with connected(context) as client:
        before = _current(client, app_name)
        _check(client, app_source)
        changes = _difference(before or {}, app_source.spec, app_name, "deployed", source)
        if dry_run:
            if as_json:
                print_json({"name": app_name, "exists": before is not None, "changed": bool(changes)})
            else:
                _print_difference(changes, f"'{app_name}' is already deployed with this content.")
            return
        app_version = client.apps.deploy(
            app_name, app_source.spec, kind=app_source.kind, note=note, serve_later=serve_later
        )
    if as_json:
        print_json(app_version)
        return
    state = "answers" if changes or before is None else "is unchanged"
    typer.echo(
        f"'{safe(app_version.name)}' {state} at version {app_version.version}. Try: portico apps run "
        f"{safe(app_version.name)}"
    )
    for label, reason in (app_source.flow.reasons if app_source.flow else {}).items():
        typer.echo(f"The function '{safe(label)}' stays in this process: {safe(reason)}.", err=True)
    for warning in app_version.warnings:
        typer.secho(safe(warning.replace(f"FILE.py:{app_version.name}", source)), fg="yellow", err=True)


def _check(client: Client, app_source: AppSource) -> None:
    """Raise an error if the app is invalid."""
    spec = (
        client.check(app_source.flow) if app_source.flow is not None else client.agents.check(app_source.spec)
    )
    if spec.error is not None:
        raise from_body(ErrorBody(**spec.error))


def set_(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The app.", autocompletion=app_names)],
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="STEP.FIELD=VALUE…",
            help="The new values by path; valid JSON is parsed as JSON, @FILE is the text of a file, null "
            "removes the field.",
        ),
    ],
    note: Note = "",
    as_json: AsJson = False,
) -> None:
    """Create a new version of a deployed app with some fields changed; the other fields stay unchanged."""
    given_changes = {place: spec_value(value) for place, value in pairs(changes, "changes").items()}
    with connected(context) as client:
        app_version = client.apps.update(name, given_changes, note=note)
    print_outcome(
        app_version, as_json, f"'{safe(app_version.name)}' is now at version {app_version.version}."
    )


def spec_value(text: str) -> Any:
    """Return a value for a specification: the text of a file for ``@FILE``, otherwise JSON or text."""
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{text[1:]} is not UTF-8 text.", param="changes") from error
    return json_or_text(text)


def diff(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The app.", autocompletion=app_names)],
    sides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE | VERSION [VERSION]]",
            help="A file, or one or two versions (default: the current version and the previous one).",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two versions of an app, or the current version with a file."""
    with connected(context) as client:
        app_versions = {version.version: version for version in client.apps.versions(name)}
    current = next(version.version for version in app_versions.values() if version.current)

    def spec(number: int) -> Mapping[str, Any]:
        if number not in app_versions:
            raise NotFound(f"'{name}' has no version {number}.", code="version_not_found", param="version")
        return app_versions[number].spec

    match list(sides or ()):
        case []:
            earlier = [number for number in app_versions if number < current]
            old = max(earlier, default=current)
            changes = _difference(spec(old), spec(current), name, f"version {old}", f"version {current}")
        case [one] if not one.isdecimal():
            changes = _difference(spec(current), read_source(one).spec, name, f"version {current}", one)
        case [one]:
            changes = _difference(spec(int(one)), spec(current), name, f"version {one}", f"version {current}")
        case [one, two] if one.isdecimal() and two.isdecimal():
            changes = _difference(spec(int(one)), spec(int(two)), name, f"version {one}", f"version {two}")
        case _:
            raise InvalidRequest("Give a file, one version, or two versions to compare.", param="sides")
    if as_json:
        print_json({"name": name, "diff": list(changes)})
    else:
        _print_difference(changes, "No differences.")


def _current(client: Client, name: str) -> Mapping[str, Any] | None:
    """Return the specification of the app's current version, or ``None`` if the app does not exist."""
    try:
        return next(version.spec for version in client.apps.versions(name) if version.current)
    except NotFound:
        return None


def _difference(
    old: Mapping[str, Any], new: Mapping[str, Any], name: str, before: str, after: str
) -> Sequence[str]:
    """Return a unified diff of two specifications as YAML, without line endings."""
    from portico.cli.yaml_text import to_yaml

    first, second = (to_yaml(dict(spec)).splitlines() if spec else [] for spec in (old, new))
    return list(
        difflib.unified_diff(first, second, f"{name}, {before}", f"{name}, {after}", lineterm="", n=3)
    )


def _print_difference(lines: Sequence[str], empty_text: str) -> None:
    if not lines:
        typer.echo(empty_text)
        return
    out = console()
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in lines:
        style = "bold" if line.startswith(("+++", "---")) else styles.get(line[:1])
        out.print(safe(line), style=style, markup=False)
