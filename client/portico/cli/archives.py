"""`portico stores export` and `import`: a store as a portable file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.nouns import print_outcome
from portico.cli.progress import Spinner
from portico.cli.render import amount
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest


def export_store(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name or id of the store.")],
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    vectors: Annotated[
        bool, typer.Option("--vectors/--no-vectors", help="Include the vectors, which are large.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a store to a file: its documents, chunks and vectors."""
    if out.exists() and not overwrite:
        raise InvalidRequest(f"{out} already exists: use --overwrite to replace it.", param="out")
    with connected(context) as client, Spinner(f"Writing {out}"):
        size = client.stores.export_archive(name, out, vectors=vectors)
    print_outcome(
        {"store": name, "file": str(out), "bytes": size},
        as_json,
        f"Wrote '{name}' to {out} ({amount(size)}).",
    )


def import_store(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file written by portico stores export.")],
    name: Annotated[str | None, typer.Option(help="A different name for the store.")] = None,
    as_json: AsJson = False,
) -> None:
    """Create a store from an exported file. Vectors are reused if the embedding model is available."""
    with connected(context) as client, Spinner(f"Reading {file}"):
        store = client.stores.import_archive(file, name=name)
    print_outcome(store, as_json, f"Created the store '{store.name}' with {store.file_counts.total} files.")
