"""`portico skills`: manages skills, which are folders with instructions and scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico._filenames import to_local_filename
from portico.cli.nouns import ID, OWNER, Everyone, print_listing, print_outcome, print_removed, print_table
from portico.cli.render import moment, print_fields, print_json, print_rows, safe, shorten
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.schemas.resource import Column
from portico.schemas.skills import SKILLS

app = group("skills", "portico skills add ./pdf-forms")

Name = Annotated[str, typer.Argument(metavar="SKILL", help="The name or id of the skill.")]
Version = Annotated[str, typer.Option(help="A number, latest or default.")]


@app.command(epilog="Example: portico skills add ./pdf-forms")
def add(
    context: typer.Context,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="The folder that contains SKILL.md, or a zip or tar archive of this folder."
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Add a skill; if the name exists, add a new default version."""
    with connected(context) as client:
        skill = client.skills.add(source)
    print_outcome(skill, as_json, f"'{safe(skill.name)}' is now at version {skill.default_version}.")


@app.command("list", epilog="Example: portico skills list")
def show_all(context: typer.Context, everyone: Everyone = False, as_json: AsJson = False) -> None:
    """List the skills."""
    columns = (ID, Column("NAME"), OWNER, Column("VERSION", "default_version"))
    with connected(context) as client:
        skills = client.skills.list(everyone=everyone)
    print_listing(
        skills, as_json, columns if everyone else SKILLS.columns, "No skills yet: portico skills add FOLDER"
    )


@app.command(epilog="Example: portico skills show pdf-forms")
def show(context: typer.Context, name: Name, version: Version = "default", as_json: AsJson = False) -> None:
    """Show a skill: the description in its SKILL.md, and its files."""
    with connected(context) as client:
        skill = client.skills.get(name)
        skill_version = client.skills.version(name, version)
    if as_json:
        print_json({"skill": skill, "version": skill_version})
        return
    print_fields(
        [
            ("name", skill_version.name),
            ("id", skill.id),
            (
                "version",
                f"{skill_version.version} of {skill.latest_version}, {skill.default_version} is the default",
            ),
            ("since", moment(skill_version.created_at)),
            ("what", skill_version.description),
            *(
                (field, value if isinstance(value, str) else ", ".join(f"{k}={v}" for k, v in value.items()))
                for field, value in skill_version.front_matter.items()
                if field not in ("name", "description")
            ),
        ]
    )
    print_rows(("FILE", "BYTES"), ((file["path"], file["bytes"]) for file in skill_version.files))


@app.command(epilog="Example: portico skills versions pdf-forms")
def versions(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """List the versions of a skill, newest first."""
    with connected(context) as client:
        skill_versions = client.skills.versions(name)
    print_table(
        skill_versions,
        as_json,
        ("VERSION", "SINCE", "FILES", "DESCRIPTION"),
        lambda skill: (
            skill.version,
            moment(skill.created_at),
            len(skill.files),
            shorten(skill.description, 60),
        ),
    )


@app.command(epilog="Example: portico skills default pdf-forms 1")
def default(
    context: typer.Context,
    name: Name,
    version: Annotated[str, typer.Argument(help="A number, or latest.")],
    as_json: AsJson = False,
) -> None:
    """Make another version the default."""
    with connected(context) as client:
        skill = client.skills.set_default(name, version)
    print_outcome(skill, as_json, f"'{safe(skill.name)}' is now at version {skill.default_version}.")


@app.command(epilog="Example: portico skills export pdf-forms --to ./out.zip")
def export(
    context: typer.Context,
    name: Name,
    to: Annotated[
        Path | None, typer.Option(help="The archive to write (default: NAME.zip in the current folder).")
    ] = None,
    version: Version = "default",
    as_json: AsJson = False,
) -> None:
    """Write a skill as a zip archive that contains the skill's folder."""
    with connected(context) as client:
        skill_version = client.skills.version(name, version)
        data = client.skills.content(name, skill_version.version)
    path = to or Path(to_local_filename(f"{skill_version.name}.zip"))
    path.write_bytes(data)
    print_outcome(
        {"name": skill_version.name, "version": skill_version.version, "file": str(path), "bytes": len(data)},
        as_json,
        f"Wrote {safe(str(path))}.",
    )


@app.command(epilog="Example: portico skills remove pdf-forms --yes")
def remove(
    context: typer.Context,
    name: Name,
    version: Annotated[
        str | None, typer.Option(help="Only this version, which must not be the default.")
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove a skill with all its versions, or one version."""
    with connected(context) as client:
        skill = client.skills.get(name)
        subject = f"'{skill.name}'" if version is None else f"version {version} of '{skill.name}'"
        if may_remove(f"Remove {subject}?", yes=yes, dry_run=dry_run):
            client.skills.remove(name, version)
    print_removed(skill.name, subject, dry_run, as_json)
