"""`portico stores groups`: chunk groups, which contain the same files split in different ways."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from portico.cli.follow import follow_to_success
from portico.cli.nouns import print_listing, print_outcome, print_removed
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.errors import NotFound
from portico.schemas.resource import Column

app = typer.Typer(
    no_args_is_help=True,
    help="Chunk groups: the same files split in other ways, in a tree.",
    epilog="Example: portico stores groups add docs FineChunk",
)

Store = Annotated[str, typer.Argument(help="The name or id of the store.")]
Group = Annotated[str, typer.Argument(help="The name of the group.")]


@app.command("list", epilog="Example: portico stores groups list docs")
def show_all(context: typer.Context, store: Store, as_json: AsJson = False) -> None:
    """List the groups of a store, its default group first."""
    with connected(context) as client:
        chunk_groups = client.stores.groups(store)
    columns = (
        Column("GROUP", "name"),
        Column("PARENT"),
        Column("CHUNKER", "chunking"),
        Column("MODEL", "embedding_model"),
        Column("FILES", "completed"),
        Column("WAITING"),
        Column("FAILED"),
        Column("CHUNKS"),
    )
    print_listing(chunk_groups, as_json, columns, cells={"CHUNKER": lambda group: _chunker(group.chunking)})


@app.command(epilog="Example: portico stores groups add docs small --strategy sentence --size 300")
def add(
    context: typer.Context,
    store: Store,
    group: Group,
    strategy: Annotated[
        str | None, typer.Option(help="The chunker: see portico chunkers (default: by the kind of file).")
    ] = None,
    size: Annotated[int | None, typer.Option(help="Approximate size of a chunk, in columns.")] = None,
    overlap: Annotated[int | None, typer.Option(help="Overlap with the previous chunk, in columns.")] = None,
    model: Annotated[
        str | None, typer.Option(help="The model that creates the chunks, if the chunker needs one.")
    ] = None,
    parent: Annotated[
        str | None, typer.Option(help="The parent group whose chunks contain these chunks.")
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="Its embedding model (default: the store's; '' for none).")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is complete.")] = True,
    as_json: AsJson = False,
) -> None:
    """Split the files of a store in another way. The names CoarseChunk, MediumChunk and FineChunk need no other
    options.
    """
    chunking: dict[str, Any] | None = None
    if strategy is not None:
        options = {"type": strategy, "size": size, "overlap": overlap, "model": model}
        chunking = {name: value for name, value in options.items() if value is not None}
    with connected(context) as client:
        run = client.stores.add_group(
            store, group, chunking=chunking, parent=parent, embedding_model=embedding_model
        )
        if wait:
            follow_to_success(context, client, [run])
    print_outcome(
        {"run": run},
        as_json,
        f"Created the group '{group}'." if wait else f"Started: portico runs tail {run}",
    )


@app.command(epilog="Example: portico stores groups retry docs")
def retry(
    context: typer.Context,
    store: Store,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is complete.")] = True,
    as_json: AsJson = False,
) -> None:
    """Retry the files that failed in a group. Text that a model has already written for them is kept."""
    with connected(context) as client:
        failed_files = [error for group in client.stores.groups(store) for error in group.errors]
        runs = list(client.stores.retry_groups(store))
        if wait and runs:
            follow_to_success(context, client, runs)
    print_outcome(
        {"runs": runs}, as_json, f"Retried {len(failed_files)} files." if runs else "No files had failed."
    )


@app.command(epilog="Example: portico stores groups remove docs small --yes")
def remove(
    context: typer.Context,
    store: Store,
    group: Group,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove a group with its chunks. The files and the other groups remain."""
    with connected(context) as client:
        chunk_group = next((item for item in client.stores.groups(store) if item.name == group), None)
        if chunk_group is None:
            raise NotFound(f"The store '{store}' has no group '{group}'.", param="group")
        if may_remove(
            f"Remove the group '{group}' with {chunk_group.chunks} chunks?", yes=yes, dry_run=dry_run
        ):
            client.stores.remove_group(store, group)
    print_removed(group, f"the group '{group}' with {chunk_group.chunks} chunks", dry_run, as_json)


def _chunker(chunking: Any) -> str:
    """Describe a chunker in a word or two."""
    values = chunking.get("static", chunking)
    size = values.get("size") or values.get("max_chunk_size_tokens")
    return f"{chunking.get('type', '')} {size}" if size else str(chunking.get("type", ""))
