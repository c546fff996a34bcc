"""`portico files`: uploaded files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.nouns import print_item, print_listing, print_removed
from portico.cli.progress import Spinner
from portico.cli.render import amount, moment, print_json, print_rows
from portico.cli.root import group
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import ConnectionFailed, InvalidRequest
from portico.schemas.files import FILES, File

if TYPE_CHECKING:
    from portico.client import Client

app = group("files", "portico files add report.pdf --store handbook")

MIN_PARTED_BYTES = 64 * 1024 * 1024
"""Size above which a file is uploaded in parts, in bytes."""

Identity = Annotated[str, typer.Argument(metavar="ID", help="The id of the file.")]


@app.command("list", epilog="Example: portico files list --limit 20")
def show_all(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Number of files, newest first.")] = 100,
    as_json: AsJson = False,
) -> None:
    """List uploaded files, newest first."""
    with connected(context) as client:
        page = client.files.list(limit=limit)
    print_listing(page, as_json, FILES.columns, "No files yet: portico files add FILE")
    if page.has_more and not as_json:
        typer.echo(f"There are more: use --limit {limit * 2}", err=True)


@app.command(epilog="Example: portico files add report.pdf --store handbook")
def add(
    context: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="The files to upload.")],
    store: Annotated[str | None, typer.Option(help="Also add them to this store.")] = None,
    purpose: Annotated[str, typer.Option(help="Their purpose, as defined by OpenAI.")] = "assistants",
    resume: Annotated[
        str | None, typer.Option(metavar="UPLOAD", help="Resume this upload of a single file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Upload files, optionally into a store. Large files are uploaded in parts."""
    if resume and len(files) != 1:
        raise InvalidRequest("--resume needs exactly one file.", param="resume")
    added_files: list[File] = []
    with connected(context) as client:
        into = client.stores.get(store) if store else None
        for path in files:
            with Spinner(f"Uploading {path.name}"):
                file = _send(client, path, purpose, resume)
            added_files.append(file)
            if into:
                client.stores.attach(into.id, file.id)
    if as_json:
        print_json({"data": added_files, "store": into.name if into else None})
    else:
        print_rows(("ID", "NAME", "SIZE"), ((f.id, f.filename, amount(f.bytes)) for f in added_files))


def _send(client: Client, path: Path, purpose: str, resume: str | None) -> File:
    """Upload a file, in parts if it is large. If an upload in parts is interrupted, print how to resume it."""
    if resume is None and (not path.is_file() or path.stat().st_size <= MIN_PARTED_BYTES):
        return client.files.add(path, purpose=purpose)
    upload = resume or client.files.begin_upload(path, purpose=purpose).id
    try:
        return client.files.continue_upload(upload, path)
    except (ConnectionFailed, KeyboardInterrupt):
        typer.echo(f"To resume within the hour: portico files add '{path}' --resume {upload}", err=True)
        raise


@app.command(epilog="Example: portico files show file-0192f6")
def show(context: typer.Context, file_id: Identity, as_json: AsJson = False) -> None:
    """Show a file."""
    with connected(context) as client:
        file = client.files.get(file_id)
    print_item(
        file,
        as_json,
        ("id", file.id),
        ("name", file.filename),
        ("size", amount(file.bytes)),
        ("purpose", file.purpose),
        ("added", moment(file.created_at)),
    )


@app.command(epilog="Example: portico files remove file-0192f6 --yes")
def remove(
    context: typer.Context,
    file_id: Identity,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Delete a file, and remove it from every store."""
    with connected(context) as client:
        file = client.files.get(file_id)
        if may_remove(f"Delete the file '{file.filename}' from every store?", yes=yes, dry_run=dry_run):
            client.files.remove(file_id)
    print_removed(file.id, f"'{file.filename}'", dry_run, as_json, "delete")
