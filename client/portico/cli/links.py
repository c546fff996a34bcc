"""`portico stores links` and `graph`: lists or exports the links between the passages of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.nouns import print_outcome, print_table
from portico.cli.render import amount, print_json, shorten
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest

Name = Annotated[str, typer.Argument(help="The name or id of the store.")]


def neighbours(
    context: typer.Context,
    name: Name,
    chunk: Annotated[
        int | None, typer.Option(min=1, help="The number of a passage, as shown by portico search --explain.")
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="Instead of --chunk: the id of the file that contains the passage.")
    ] = None,
    start: Annotated[
        int, typer.Option(min=0, help="The position of a character of the passage in that file.")
    ] = 0,
    after: Annotated[int, typer.Option(min=0, help="Skip this many passages.")] = 0,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=100, help="How many.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List the passages that mention the same names as a given passage."""
    if (chunk is None) == (file is None):
        raise InvalidRequest("Use either --chunk or --file to choose the passage.", param="chunk")
    with connected(context) as client:
        linked_passages = client.stores.neighbours(
            name, chunk=chunk, file=file, start=start, after=after, limit=number
        )
    if as_json:
        print_json(linked_passages)
        return
    print_table(
        linked_passages.passages,
        False,
        ("CHUNK", "TERM", "KIND", "FILE", "TEXT"),
        lambda p: (p.chunk, p.term, p.kind, f"{p.filename} {p.place.label()}", shorten(p.text, 80)),
        f"No other passage mentions a name from the passage {linked_passages.chunk}.",
    )
    if linked_passages.has_more and linked_passages.passages:
        typer.echo(f"There are more: use --after {after + len(linked_passages.passages)}")


def export_graph(
    context: typer.Context,
    name: Name,
    out: Annotated[Path, typer.Argument(help="The file to write.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the links between a store's passages as GraphML, which graph drawing programs can read."""
    if out.exists() and not overwrite:
        raise InvalidRequest(f"{out} already exists: use --overwrite to replace it.", param="out")
    with connected(context) as client:
        size = client.stores.export_graph(name, out)
    print_outcome(
        {"store": name, "file": str(out), "bytes": size},
        as_json,
        f"Wrote the links of '{name}' to {out} ({amount(size)}).",
    )
