"""Output of `portico up`: a panel that says how to use the daemon, then the progress of the startup runs."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import typer
from rich.rule import Rule
from rich.text import Text

from portico.cli.follow import LABELS, follow
from portico.cli.render import console, count_reasons, one_line, print_json
from portico.client import AsyncClient, Client
from portico.errors import NotFound
from portico.schemas.daemon import Status
from portico.schemas.runs import Run
from portico.schemas.stores import Store


def show(url: str, key: str | None, *, as_json: bool, asks: bool, started_here: bool = True) -> Status:
    """Print the panel for the daemon at ``url``. With ``as_json``, follow the startup runs and print one JSON document
    instead.

    ``asks``: the command will offer a better model next, so the panel does not mention it. ``started_here``: this
    command has started the daemon. Otherwise, startup runs that have already ended are not shown.
    """
    with Client(url, key) as client:
        status = client.status()
    if not as_json:
        _print_panel(status, url, asks=asks)
        return status
    follow_start(url, key, status, started_here=started_here)
    with Client(url, key) as client:
        status = client.status()
    print_json(summary(status, url))
    return status


def follow_start(url: str, key: str | None, status: Status, *, started_here: bool = True) -> None:
    """Follow the startup runs until they end. Print one line for each store whose files are being read.

    The error of a failed run is shown, but not raised, because the daemon still serves.
    """
    asyncio.run(_follow_start(url, key, status, started_here))


async def _follow_start(url: str, key: str | None, status: Status, started_here: bool) -> None:
    lines: dict[str, str] = {}
    async with AsyncClient(url, key) as client:

        async def last_line(run: Run) -> str | None:
            if run.kind not in ("sync", "ingest"):
                return None
            store = await client.stores.get(run.name)
            if store.id in lines or store.file_counts.in_progress:
                return ""  # a later run of the same store will print the line
            lines[store.id] = files_line(store)
            return lines[store.id]

        await follow(
            client, status.startup, further=lambda run: True, ended_too=started_here, last_line=last_line
        )


def followed_folders(url: str, key: str | None, status: Status) -> set[str | None]:
    """Return the folders that the stores of the daemon at ``url`` follow."""
    with Client(url, key) as client:
        stores = client.stores.list() if status.is_part else status.stores
    return {store.folder for store in stores}


def print_unfinished(url: str, key: str | None, status: Status) -> None:
    """Print which startup runs continue in the background, and which stores are empty or have skipped files."""
    names = {store.id: store.name for store in status.stores}
    unfinished_ids: set[str] = set()
    with Client(url, key) as client:
        for run_id in status.startup:
            with suppress(NotFound):
                run = client.runs.get(run_id)
                if not run.ended:
                    unfinished_ids.add(run.name)
                    activity = f"{LABELS.get(run.kind, run.kind)} {one_line(names.get(run.name, run.name))}"
                    typer.echo(
                        f"{activity} continues in the background: portico runs tail {run.id}", err=True
                    )
    for store in status.stores:
        if store.id not in unfinished_ids and (store.skipped or not store.file_counts.total):
            typer.echo(files_line(store), err=True)


def summary(status: Status, url: str) -> dict[str, object]:
    """Return the contents of the panel as a JSON object."""
    better = status.recommended
    return {
        "url": url,
        "page": f"{url}/",
        "base_url": f"{url}/v1",
        "reference": f"{url}/docs",
        "mcp": f"{url}/mcp",
        "apps": list(status.apps),
        "stores": [store.name for store in status.stores],
        "models": [model.name for model in status.models],
        "home": status.home,
        "version": status.version,
        "recommended": better,
        "problems": [{"name": p.name, "place": p.place, "reason": p.reason} for p in status.problems],
    }


def _print_panel(status: Status, url: str, *, asks: bool) -> None:
    body = _body(status, url, asks=asks)
    out = console()
    if not out.is_terminal:
        out.print(body)
        return
    # Rules above and below instead of a box around the text, so that it can be copied without the frame.
    out.print(Rule(f"Portico {one_line(status.version)}"), body, Rule())


def _body(status: Status, url: str, *, asks: bool) -> Text:
    lines = [("Page", f"{url}/  (portico open)"), ("OpenAI API", f"{url}/v1"), ("MCP", f"{url}/mcp")]
    if status.apps:
        app = f" --app {status.apps[0]}" if len(status.apps) > 1 else ""
        lines += [("App", ", ".join(status.apps)), ("Ask", f'portico ask "What is this about?"{app}')]
    else:
        lines.append(("App", "none yet: portico stores add ./docs"))
    lines.append(("Data", status.home))
    for problem in status.problems:
        label, _, remainder = problem.line.partition(": ")
        lines.append((label.capitalize(), remainder))
    if (small := status.small_model) is not None:
        model = f"{small.names[0]} only quotes your documents."
        if small.fetching:
            model += " A better model is being downloaded."
        elif status.recommended is not None and not asks:
            model += " For a better model: portico up --model auto"
            if status.recommended.size_gb:
                model += f" ({status.recommended.size_gb:g} GB)"
        lines.append(("Model", model))
    body = Text()
    for number, (name, value) in enumerate(lines):
        body.append(f"{name:<10} ", "dim")
        body.append(f"{one_line(value)}" + ("\n" if number < len(lines) - 1 else ""))
    return body


def files_line(store: Store) -> str:
    """Return a line with the number of ready files in a store, and the number of failed and skipped files."""
    counts = store.file_counts
    if counts.total:
        ready = "1 file is" if counts.completed == 1 else f"{counts.completed} files are"
        sentences = [f"{store.name}: {ready} ready."]
    else:
        sentences = [f"{store.name} contains no documents."]
    if counts.failed:
        sentences.append(f"{counts.failed} could not be read.")
    if store.skipped:
        sentences.append(f"Skipped {count_reasons(store.skipped, counts.total)}.")
    if counts.failed or store.skipped:
        sentences.append(f"portico stores show {store.name} --files")
    return one_line(" ".join(sentences))
