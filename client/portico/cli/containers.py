"""`portico containers`: sandbox folders that the code of several calls shares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portico._filenames import to_local_filename
from portico.cli.nouns import print_listing, print_outcome, print_removed
from portico.cli.render import moment, print_fields, print_json, print_rows, safe
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import NotFound
from portico.schemas.containers import CONTAINERS, ContainerFile

if TYPE_CHECKING:
    from portico.client import Client

app = group("containers", "portico containers create analysis")

WORKING_FOLDER = "/work/"

Id = Annotated[str, typer.Argument(metavar="CONTAINER", help="The id of the container.")]


@app.command(epilog="Example: portico containers create analysis --minutes 60")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the container.")],
    file: Annotated[
        list[str] | None, typer.Option(help="The id of an uploaded file to copy into it. Repeatable.")
    ] = None,
    skill: Annotated[
        list[str] | None, typer.Option(help="A skill that code finds under /skills. Repeatable.")
    ] = None,
    minutes: Annotated[
        int | None, typer.Option(help="Minutes to keep it after its last use (default: 20).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Create a container."""
    with connected(context) as client:
        container = client.containers.create(name, files=file or (), skills=skill or (), minutes=minutes)
    print_outcome(container, as_json, container.id)


@app.command("list", epilog="Example: portico containers list")
def show_all(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only containers with this name.")] = None,
    as_json: AsJson = False,
) -> None:
    """List your containers, newest first."""
    with connected(context) as client:
        containers = client.containers.list(name=name)
    print_listing(containers, as_json, CONTAINERS.columns, "No containers: portico containers create NAME")


@app.command(epilog="Example: portico containers show cntr_123")
def show(context: typer.Context, container: Id, as_json: AsJson = False) -> None:
    """Show a container and its files."""
    with connected(context) as client:
        found_container = client.containers.get(container)
        files = client.containers.files(container)
    if as_json:
        print_json({"container": found_container, "files": files})
        return
    print_fields(
        [
            ("name", found_container.name),
            ("since", moment(found_container.created_at)),
            ("last used", moment(found_container.last_active_at)),
            ("kept for", f"{found_container.minutes} minutes"),
            ("memory", found_container.memory_limit or "the daemon's default"),
        ]
    )
    print_rows(
        ("FILE", "PATH", "BYTES", "FROM"), ((file.id, file.path, file.bytes, file.source) for file in files)
    )


@app.command(epilog="Example: portico containers put cntr_123 table.csv")
def put(
    context: typer.Context,
    container: Id,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to add.")],
    as_json: AsJson = False,
) -> None:
    """Add a file to a container, replacing a file with the same name."""
    with connected(context) as client:
        container_file = client.containers.add_file(container, file)
    print_outcome(container_file, as_json, f"{container_file.id} is {safe(container_file.path)}.")


@app.command(epilog="Example: portico containers get cntr_123 table.csv --to here.csv")
def get(
    context: typer.Context,
    container: Id,
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file, by path or id.")],
    to: Annotated[
        Path | None, typer.Option(help="The file to write (default: its name, in the current folder).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Save a file of a container."""
    with connected(context) as client:
        container_file = _file(client, container, file)
        data = client.containers.content(container, container_file.id)
    path = to or Path(to_local_filename(container_file.path))
    path.write_bytes(data)
    print_outcome(
        {"id": container_file.id, "file": str(path), "bytes": len(data)}, as_json, f"Wrote {safe(str(path))}."
    )


@app.command(epilog="Example: portico containers remove cntr_123 --yes")
def remove(
    context: typer.Context,
    container: Id,
    file: Annotated[str | None, typer.Option(help="Remove only this file, by path or id.")] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete a container with its files, or a single file."""
    with connected(context) as client:
        found_container = client.containers.get(container)
        container_file = None if file is None else _file(client, container, file)
        subject = (
            f"'{found_container.name}'"
            if container_file is None
            else f"{container_file.path} of '{found_container.name}'"
        )
        if may_remove(f"Remove {subject}?", yes=yes, dry_run=dry_run):
            if container_file is None:
                client.containers.remove(container)
            else:
                client.containers.remove_file(container, container_file.id)
    print_removed(found_container.id, subject, dry_run, as_json)


def _file(client: Client, container: str, file_name: str) -> ContainerFile:
    """Return a file of the container, given its id or path. The path can include the folder in which code finds the
    files.
    """
    for file in client.containers.files(container):
        if file_name in (file.id, file.path, file.path.removeprefix(WORKING_FOLDER)):
            return file
    raise NotFound(
        f"The container has no file '{safe(file_name)}'. Its files: portico containers show {safe(container)}",
        param="file",
    )
