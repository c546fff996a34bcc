"""`portico stores`: knowledge bases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from portico.cli import groups, store_guards
from portico.cli.archives import export_store, import_store
from portico.cli.calibrate import calibrate
from portico.cli.follow import follow_to_success
from portico.cli.links import export_graph, neighbours
from portico.cli.nouns import (
    After,
    Limit,
    NameQuery,
    fields_of,
    print_item,
    print_listing,
    print_outcome,
    print_removed,
)
from portico.cli.render import (
    amount,
    count_reasons,
    moment,
    one_line,
    print_fields,
    print_json,
    print_rows,
    safe,
    shorten,
)
from portico.cli.root import group
from portico.cli.search import StepsChoice
from portico.cli.session import AsJson, DryRun, Yes, connected, may_remove
from portico.cli.themes import show_themes
from portico.client import Client
from portico.errors import InvalidRequest, NotFound
from portico.schemas.stores import STORES, SkippedFiles, Store, StoreFile, SyncPlan

app = group("stores", "portico stores add ./docs")

app.add_typer(groups.app, name="groups")
app.add_typer(store_guards.app, name="guards")
app.command(epilog="Example: portico stores calibrate docs --questions questions.jsonl")(calibrate)
app.command("export", epilog="Example: portico stores export docs docs.zip")(export_store)
app.command("import", epilog="Example: portico stores import docs.zip --name docs2")(import_store)
app.command("links", epilog="Example: portico stores links docs --chunk 12")(neighbours)
app.command("themes", epilog="Example: portico stores themes docs")(show_themes)
app.command("graph", epilog="Example: portico stores graph docs links.graphml")(export_graph)

MAX_SKIPPED = 10
"""Maximum number of skipped files listed after a sync."""

Name = Annotated[str, typer.Argument(help="The name or id of the store.")]
Answers = Annotated[
    str | None,
    typer.Option(
        metavar="auto|write|quote",
        help="How the store's app answers: in a model's words, by quotation, or in the way for which its "
        "model passed the test (auto).",
    ),
]

Linked = Annotated[
    bool | None,
    typer.Option(
        "--links/--no-links",
        help="Link the store's passages by the names that they mention, and follow these links in searches.",
    ),
]
Kept = Annotated[
    bool | None,
    typer.Option(
        "--keep-removed/--no-keep-removed", help="Keep files that no longer exist in the followed source."
    ),
]
Index = Annotated[
    str | None,
    typer.Option(
        metavar="embedded|qdrant|pgvector",
        help="Where the store's vectors are searched: in the daemon's memory, its files, or its PostgreSQL.",
    ),
]
RightsOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--rights",
        metavar="source|off|PREFIX=GROUP[,GROUP]|NAME=GROUP[,GROUP]",
        help="Who may read the mirrored files: groups that may read them at the source, or groups by the beginnings "
        "of file names (repeatable; * for everybody). After --rights source, more options map names of the source.",
    ),
]
Steps = Annotated[
    StepsChoice | None,
    typer.Option(
        help="How often the store's app searches again for information that the first passages lack."
    ),
]

Reranker = Annotated[
    str | None,
    typer.Option(
        help="The model that orders the passages for the store's app: auto for the daemon's choice, off, or a name."
    ),
]


def _search_options(steps: StepsChoice | None, reranker: str | None) -> dict[str, Any] | None:
    """Return how a store's app searches, or ``None`` if no option is given."""
    options = {"steps": steps.given if steps else None, "reranker": reranker}
    return {name: value for name, value in options.items() if value is not None} or None


@app.command("list", epilog="Example: portico stores list --query handbook")
def show_all(
    context: typer.Context,
    limit: Limit = None,
    after_id: After = None,
    query: NameQuery = None,
    as_json: AsJson = False,
) -> None:
    """List the stores, oldest first."""
    with connected(context) as client:
        stores = client.stores.list(limit=limit, after=after_id, query=query)
    print_listing(stores, as_json, STORES.columns, "No stores yet: portico stores add ./docs")


@app.command(epilog="Example: portico stores add ./docs --name handbook")
def add(
    context: typer.Context,
    folder: Annotated[
        Path | None, typer.Argument(help="A folder on the daemon's machine that the store mirrors.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="The name of the store (default: the folder's name).")
    ] = None,
    embedding_model: Annotated[
        str | None, typer.Option(help="The embedding model (default: default-embedding).")
    ] = None,
    description: Annotated[
        str | None, typer.Option(help="A one-sentence description of the store's contents.")
    ] = None,
    with_app: Annotated[
        bool, typer.Option("--app/--no-app", help="Add a chat app that answers from the store.")
    ] = True,
    answers: Answers = None,
    links: Linked = None,
    keep_removed: Kept = None,
    index: Index = None,
    rights: RightsOptions = None,
    steps: Steps = None,
    reranker: Reranker = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the store is indexed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Create a store, either empty or as the mirror of a folder."""
    path = folder.expanduser().absolute() if folder else None
    title = name or (path.resolve().name if path else "")
    if not title:
        raise InvalidRequest("Give a folder, or a --name for an empty store.", param="name")
    with connected(context) as client:
        store = client.stores.add(
            title,
            folder=path,
            embedding_model=embedding_model,
            description=description,
            app=with_app,
            answers=answers,
            links=links,
            keep_removed=keep_removed,
            index=index,
            rights=_rights_of(rights),
            search=_search_options(steps, reranker),
        )
        if path and wait:
            _show_synced(client, _synced(context, client, store), as_json)
            return
    _print(store, as_json)


@app.command(epilog="Example: portico stores follow manual --source https://docs.example.com/sitemap.xml")
def follow(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the store; it is created if it does not exist.")],
    source: Annotated[
        list[str],
        typer.Option(
            help="s3://BUCKET/PREFIX, git+https://HOST/PATH, webdav+https://HOST/PATH, imaps://HOST/FOLDER, "
            "or the URL of a sitemap, a feed, a list, a directory index or a document. If repeated: the "
            "URLs of single documents."
        ),
    ],
    keep_removed: Kept = None,
    rights: RightsOptions = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the store is indexed.")] = True,
    as_json: AsJson = False,
) -> None:
    """Make a store mirror URLs, a bucket, a repository or a mailbox, instead of the source that it followed before."""
    sources = source[0] if len(source) == 1 else source
    given_rights = _rights_of(rights)
    with connected(context) as client:
        try:
            store = client.stores.change(name, source=sources, keep_removed=keep_removed, rights=given_rights)
        except NotFound:
            store = client.stores.add(name, source=sources, keep_removed=keep_removed, rights=given_rights)
        if wait:
            _show_synced(client, _synced(context, client, store), as_json)
            return
    _print(store, as_json)


@app.command(epilog="Example: portico stores show docs --files")
def show(
    context: typer.Context,
    name: Name,
    files: Annotated[
        bool, typer.Option(help="Also list its files and skipped files, each with its reason.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show a store."""
    with connected(context) as client:
        store = client.stores.get(name)
        inside = list(_files(client, store)) if files else None
        skipped_files = client.stores.skipped(store.id) if files and store.skipped else SkippedFiles()
    if as_json:
        print_json(store if inside is None else {"store": store, "files": inside, "skipped": skipped_files})
        return
    _print(store, is_listed=inside is not None)
    if inside is not None:
        typer.echo()
        rows = [
            *((file.filename, file.status, file.error) for file in inside),
            *((file.name, "skipped", file.reason) for file in skipped_files.files),
        ]
        print_rows(("FILE", "STATUS", "REASON"), rows)
        if skipped_files.total > len(skipped_files.files):
            typer.echo(f"{skipped_files.total - len(skipped_files.files)} more were skipped.")


@app.command(epilog="Example: portico stores chunks docs lease.pdf")
def chunks(
    context: typer.Context,
    name: Name,
    file: Annotated[str, typer.Argument(help="The name or id of a file in the store.")],
    group: Annotated[
        str | None, typer.Option(help="A chunk group of the store (default: the store's default group).")
    ] = None,
    after: Annotated[int | None, typer.Option(min=0, help="Start after the chunk with this number.")] = None,
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=1000, help="How many.")] = 100,
    text: Annotated[
        bool, typer.Option("--text", help="Print the text that is read from the file, and what is not read.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List the chunks of a file, with their positions in the file."""
    with connected(context) as client:
        store = client.stores.get(name)
        found_store_file = _file(client, store, file)
        if text:
            file_text = "\n".join(part.text for part in client.stores.text(store.id, found_store_file.id))
            if as_json:
                print_json({"text": file_text})
            else:
                typer.echo(safe(file_text))
            return
        page = client.stores.chunks(store.name, found_store_file.id, group=group, after=after, limit=number)
    if as_json:
        print_json({"data": list(page), "has_more": page.has_more})
        return
    print_rows(
        ("NUMBER", "CHARACTERS", "PLACE", "TEXT"),
        (
            (
                file_chunk.number,
                f"{file_chunk.place.start}-{file_chunk.place.end}",
                file_chunk.place.label(),
                shorten(file_chunk.text, 80),
            )
            for file_chunk in page
        ),
    )
    if page.has_more:
        typer.echo(f"There are more: use --after {page.data[-1].number}")


@app.command(epilog="Example: portico stores access docs lease.pdf --as ada")
def access(
    context: typer.Context,
    name: Name,
    file: Annotated[str, typer.Argument(help="The name or id of a file in the store.")],
    key: Annotated[
        str | None,
        typer.Option("--as", metavar="KEY", help="The id or name of a key or of a person who signs in."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain whether a key may read a file of a store: which rule decides, here and at the source."""
    with connected(context) as client:
        store = client.stores.get(name)
        answer = client.stores.access(store.name, _file(client, store, file).id, key=key)
    print_item(
        answer,
        as_json,
        *fields_of(answer, "filename", "caller"),
        ("may read", answer.permitted),
        *fields_of(answer, "rule", "reason"),
        ("groups", ", ".join(answer.groups) or None),
        *(("needs one of", ", ".join(groups) or "nobody") for groups in answer.readers or ()),
        *(
            (
                f"source, {rule.place or 'all names'}",
                (", ".join(rule.groups) or "nobody")
                + (f" (from {', '.join(rule.names)})" if rule.names else ""),
            )
            for rule in answer.source
        ),
    )


def _file(client: Client, store: Store, name: str) -> StoreFile:
    """Return the file with a name or id. Raise `NotFound` if the store has none."""
    for store_file in _files(client, store):
        if name in (store_file.id, store_file.filename):
            return store_file
    raise NotFound(
        f"The store '{store.name}' has no file '{name}'; list its files: portico stores show {store.name} --files",
        status=404,
        param="file",
    )


@app.command(epilog="Example: portico stores sync docs --dry-run")
def sync(
    context: typer.Context,
    name: Name,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the store is indexed.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would happen.")] = False,
    as_json: AsJson = False,
) -> None:
    """Update a store from the source that it follows."""
    with connected(context) as client:
        store = client.stores.get(name)
        if dry_run:
            _print_plan(client.stores.plan(name), as_json)
            return
        if wait:
            _show_synced(client, _synced(context, client, store), as_json)
            return
        run = client.stores.sync(store.name)
    print_outcome({"run": run}, as_json, f"Started: portico runs tail {run}")


@app.command(epilog="Example: portico stores reindex docs --files")
def reindex(
    context: typer.Context,
    name: Name,
    files: Annotated[bool, typer.Option("--files", help="First read all its files again.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until the store can be searched.")
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Rebuild a store's indexes from scratch. No data is lost; searches wait until the indexes are ready."""
    with connected(context) as client:
        run = client.stores.reindex(name, files=files)
        if wait:
            follow_to_success(context, client, [run])
            _print(client.stores.get(name), as_json)
            return
    print_outcome({"run": run}, as_json, f"Started: portico runs tail {run}")


@app.command(epilog="Example: portico stores change docs --embedding-model wordllama-256")
def change(
    context: typer.Context,
    name: Name,
    description: Annotated[
        str | None, typer.Option(help="A one-sentence description of the store's contents.")
    ] = None,
    embedding_model: Annotated[
        str | None,
        typer.Option(
            help="A different embedding model ('' for none); old vectors are used until the new ones are "
            "ready."
        ),
    ] = None,
    answers: Answers = None,
    vector_weight: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="The weight of the store's vectors relative to words, as measured by calibrate.",
        ),
    ] = None,
    guard: Annotated[
        str | None,
        typer.Option(
            metavar="hold|warn|off",
            help="What happens to changes that turn answers of guard questions wrong.",
        ),
    ] = None,
    links: Linked = None,
    keep_removed: Kept = None,
    index: Index = None,
    rights: RightsOptions = None,
    steps: Steps = None,
    reranker: Reranker = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Change a store's description, embedding model, vector weight, guard, index or links, whether it keeps removed
    files, or how its app answers.
    """
    options: dict[str, Any] = {
        "description": description,
        "embedding_model": embedding_model,
        "answers": answers,
        "vector_weight": vector_weight,
        "guard": guard,
        "links": links,
        "keep_removed": keep_removed,
        "index": index,
        "rights": _rights_of(rights),
        "search": _search_options(steps, reranker),
    }
    with connected(context) as client:
        if dry_run:
            changes = {name: value for name, value in options.items() if value is not None}
            _print_change(client.stores.get(name), changes, as_json)
            return
        if options["search"]:
            options["search"] = {**client.stores.get(name).search, **options["search"]}
        _print(client.stores.change(name, **options), as_json)


@app.command(epilog="Example: portico stores pause docs")
def pause(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Ignore changes in the source that a store follows, until the store is resumed."""
    with connected(context) as client:
        _print(client.stores.change(name, paused=True), as_json)


@app.command(epilog="Example: portico stores resume docs")
def resume(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Follow the store's source again, and update the store."""
    with connected(context) as client:
        _print(client.stores.change(name, paused=False), as_json)


@app.command(epilog="Example: portico stores remove docs --yes")
def remove(
    context: typer.Context, name: Name, yes: Yes = False, dry_run: DryRun = False, as_json: AsJson = False
) -> None:
    """Delete a store and its index. The mirrored source stays unchanged."""
    with connected(context) as client:
        store = client.stores.get(name)
        subject = f"the store '{store.name}' with {store.file_counts.total} files"
        if may_remove(f"Delete {subject}?", yes=yes, dry_run=dry_run):
            client.stores.remove(name)
    print_removed(store.id, subject, dry_run, as_json, "delete")


def _print_change(store: Store, wanted_changes: Mapping[str, Any], as_json: bool) -> None:
    """Print what would change, and how much work the change would cause."""
    changes = {
        name: {"before": getattr(store, name), "after": value}
        for name, value in wanted_changes.items()
        if (getattr(store, name) or "") != value
    }
    if as_json:
        print_json({"store": store.name, "changes": changes, "files": store.file_counts.total})
        return
    if not changes:
        typer.echo(f"No changes in '{one_line(store.name)}'.")
    for name, change in changes.items():
        words = f"{change['before'] or 'none'} → {change['after'] or 'none'}"
        typer.echo(f"{name.replace('_', ' ')}: {one_line(words)}")
    if "embedding_model" in changes and changes["embedding_model"]["after"]:
        typer.echo(
            f"New vectors would be created for all passages of {store.file_counts.total:,} files, "
            f"{amount(store.usage_bytes)} of text; the old vectors are used until they are ready."
        )


def _print_plan(plan: SyncPlan, as_json: bool) -> None:
    if as_json:
        print_json(plan)
        return
    rows = [
        *(("add", name) for name in plan.added),
        *(("change", name) for name in plan.changed),
        *(("move", f"{old} -> {new}") for old, new in plan.moved),
        *(("remove", name) for name in plan.removed),
        *((f"skip {count}", reason) for reason, count in plan.skipped.items()),
    ]
    if rows:
        print_rows(("WOULD", "FILE"), rows)
    typer.echo(f"{plan.unchanged} files stay unchanged.")


def _files(client: Client, store: Store) -> Iterator[StoreFile]:
    after = None
    while True:
        page = client.stores.files(store.id, after=after)
        yield from page
        if not page.has_more:
            return
        after = page.last_id


def _synced(context: typer.Context, client: Client, store: Store) -> Store:
    """Sync a store, follow its runs, and return the updated store."""
    run = client.stores.sync(store.name)
    follow_to_success(context, client, [run], further=lambda r: r.name == store.id)
    return client.stores.get(store.id)


def _show_synced(client: Client, store: Store, as_json: bool) -> None:
    """Print the store and its skipped files. Raise an error if no file could be read."""
    skipped_files = client.stores.skipped(store.id) if store.skipped else SkippedFiles()
    _print(store, as_json)
    if not as_json and skipped_files.files:
        typer.echo()
        print_rows(
            ("SKIPPED", "REASON"), ((item.name, item.reason) for item in skipped_files.files[:MAX_SKIPPED])
        )
        extra_count = skipped_files.total - min(len(skipped_files.files), MAX_SKIPPED)
        if extra_count:
            typer.echo(f"{extra_count} more: portico stores show {store.name} --files")
    if not store.file_counts.total and store.skipped:
        raise InvalidRequest(
            f"No file in {store.follows} could be read, so '{store.name}' is empty. Skipped "
            f"{count_reasons(store.skipped, 0)}. The store still follows it.",
            code="nothing_readable",
            param="folder",
        )


def _rights_of(options: Sequence[str] | None) -> str | dict[str, Any] | None:
    """Return the rights that the options state: ``source``, ``off``, lists of groups by prefix, or after ``source``
    lists of groups by the names of the source.
    """
    if not options:
        return None
    if len(options) == 1 and "=" not in options[0]:
        return options[0]
    is_mapped = options[0] == "source"
    prefixes = [option.rpartition("=") for option in options[is_mapped:]]
    if not all(sign for _, sign, _ in prefixes):
        raise InvalidRequest(
            "Expected --rights source, --rights off, or only prefixes with groups, such as --rights finance/=finance; "
            "names of the source follow --rights source.",
            param="rights",
        )
    groups_by_name = {prefix: groups.split(",") for prefix, _, groups in prefixes}
    return {"source": groups_by_name} if is_mapped else groups_by_name


def _format_rights(rights: str | Mapping[str, Any] | None) -> str | None:
    if rights is None or isinstance(rights, str):
        return rights
    if isinstance(names := rights.get("source"), Mapping):
        return f"source, {_format_rights(names)}"
    return ", ".join(f"{prefix}={','.join(groups)}" for prefix, groups in rights.items())


def _print(store: Store, as_json: bool = False, *, is_listed: bool = False) -> None:
    """Print a store. ``is_listed``: the caller will list the store's files, with a reason for each failure."""
    if as_json:
        print_json(store)
        return
    counts = store.file_counts
    reasons = f"portico stores show {store.name} --files" if counts.failed and not is_listed else None
    print_fields(
        [
            *fields_of(store, "name", "id", "description"),
            ("follows", f"{store.follows} (paused)" if store.paused else store.follows),
            ("keeps removed files", store.keep_removed or None),
            ("rights", _format_rights(store.rights)),
            ("app", store.app),
            ("answers", store.answers if store.app else None),
            ("guard", None if store.guard == "hold" else store.guard),
            (
                "change under review",
                f"portico stores guards review {store.name}" if store.has_review else None,
            ),
            ("links", store.links or None),
            ("search", ", ".join(f"{key} {value}" for key, value in store.search.items()) or None),
            ("embedding model", store.embedding_model),
            ("in progress", store.next_embedding_model),
            ("index", store.index),
            ("moving to", store.next_index),
            ("files", f"{counts.completed} ready, {counts.in_progress} waiting, {counts.failed} failed"),
            ("problem", store.problem),
            ("reasons for failures", reasons),
            ("skipped", count_reasons(store.skipped, counts.total)),
            ("size", amount(store.usage_bytes)),
            ("made", moment(store.created_at)),
        ]
    )
