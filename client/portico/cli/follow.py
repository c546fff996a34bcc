"""Follows runs, and the runs that they start, with progress bars until they end."""

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
"""Kinds of runs that the start of a daemon or a sync can cause, and the label for each."""

LABELS = {**KINDS, "better-model": "Fetching"}
"""`KINDS`, and kinds of runs that a command need not wait for."""


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
    """Show the progress of runs until they end. Then follow the background runs that ``further`` selects, until none
    remain.

    Without ``ended_too``, runs that have already ended are skipped. ``last_line`` returns the text to print for a
    successful run: "" prints nothing, ``None`` prints the message of the run's last event.

    A failed run does not raise an exception: its error is in the result. Unknown runs are skipped, because the daemon
    deletes old runs but keeps reporting the ids of those from its startup.
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
            # The watcher of a folder may already be retrying a failed run, whose error has been shown.
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
    """Follow the runs of a command, and raise an error if a run fails. The progress bars have already shown all
    failures.
    """
    for item in follow_here(client.url, invocation(context).key, run_ids, further):
        if item.error:
            raise ReportedError(item.error, code="run_failed")
