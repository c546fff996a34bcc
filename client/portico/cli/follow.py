"""Follows runs to their end with progress bars, and the runs that they start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import typer

from portico.cli.progress import Bars
from portico.cli.session import ReportedError, invocation
from portico.client import AsyncClient, Client
from portico.errors import NotFound, PorticoError
from portico.schemas.runs import Run
from portico.wire import Finished

KINDS = {"pull": "Fetching", "sync": "Reading", "ingest": "Indexing", "environment": "Installing"}
"""Kinds of runs that a start or a sync causes, and their activity."""

LABELS = {**KINDS, "better-model": "Fetching"}
"""`KINDS`, and the kinds that nobody has to wait for."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that was followed; ``error`` is the message of its failure, if any."""

    run: Run
    error: str | None = None


async def follow(
    client: AsyncClient,
    run_ids: Sequence[str],
    further: Callable[[Run], bool] | None = None,
    *,
    ended_too: bool = True,
    last_line: Callable[[Run], Awaitable[str | None]] | None = None,
) -> list[Ended]:
    """Show the runs until they end, then the background runs that ``further`` selects, until none remains.

    Without ``ended_too``, runs that have already ended are skipped. ``last_line`` returns the text to print for a
    successful run; "" for nothing, ``None`` for the message of its last event.

    A failed run is part of the result, not an exception. A run that ended so long ago that it is unknown is skipped: a
    daemon reports its start for its whole lifetime.
    """
    endeds: list[Ended] = []
    status = await client.status()
    names = {model.source: model.name for model in status.models}
    names |= {store.id: store.name for store in status.stores}
    with Bars() as bars:
        runs: list[Run] = []
        for run_id in dict.fromkeys(run_ids):
            with suppress(NotFound):
                run = await client.runs.get(run_id)
                if ended_too or not run.ended:
                    runs.append(run)
        while runs:
            async with asyncio.TaskGroup() as tasks:
                watching = [tasks.create_task(_watch(client, run, names, bars, last_line)) for run in runs]
            endeds += [task.result() for task in watching]
            seen_ids = {item.run.id for item in endeds}
            # The watcher of a folder may retry meanwhile: its error has already been shown.
            failed_runs = {(item.run.kind, item.run.name) for item in endeds if item.error}
            runs = [
                run
                for run in (await client.runs.list(100) if further else ())
                if further and run.kind in KINDS and not run.ended and run.id not in seen_ids and further(run)
                if (run.kind, run.name) not in failed_runs
            ]
    return endeds


async def _watch(
    client: AsyncClient,
    run: Run,
    names: dict[str, str],
    bars: Bars,
    last_line: Callable[[Run], Awaitable[str | None]] | None,
) -> Ended:
    bar = bars.bar(f"{LABELS.get(run.kind, run.kind)} {names.get(run.name, run.name)}")
    try:
        async for item in client.runs.events(run.id):
            line = await last_line(run) if last_line and isinstance(item.event, Finished) else None
            if line is None:
                bar.take(item)
            else:
                bar.end(line)
    except PorticoError as error:
        bar.fail(error.message)
    return Ended(run, bar.failed)


def follow_here(
    url: str | None, key: str | None, run_ids: Sequence[str], further: Callable[[Run], bool] | None = None
) -> list[Ended]:
    """Call `follow` from a blocking command."""

    async def work() -> list[Ended]:
        async with AsyncClient(url, key) as client:
            return await follow(client, run_ids, further)

    return asyncio.run(work())


def follow_to_success(
    context: typer.Context,
    client: Client,
    run_ids: Sequence[str],
    further: Callable[[Run], bool] | None = None,
) -> None:
    """Follow the runs of a command. Raise the first failure; the progress bars have already shown all failures."""
    for item in follow_here(client.url, invocation(context).key, run_ids, further):
        if item.error:
            raise ReportedError(item.error, code="run_failed")
