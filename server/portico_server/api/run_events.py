"""The events of a durable run, from its journal and from the run while it is active."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, TypeAlias

from portico.wire import ErrorBody, Event, Failed, Finished, event_to_json
from portico_server.api.services import ApiServices
from portico_server.db import runs
from portico_server.db.runs import RunRow
from portico_server.runs.run import Run

PAGE_SIZE: Final = 500
"""Number of journal events that are read in one query."""

POLL_INTERVAL_S: Final = 1.0
"""Seconds between two checks of a run that is waiting, or that another daemon on the same database executes."""

ENDINGS: Final = (Failed.type, Finished.type)

NumberedEvent: TypeAlias = tuple[int, str, Mapping[str, Any]]
"""The number, the type and the content of an event."""


async def durable_events(services: ApiServices, run_id: str, after: int = 0) -> AsyncIterator[NumberedEvent]:
    """Yield the events in the journal, then the events of the active run; repeat this if the run is interrupted and
    resumed.
    """
    run: Run | None = None
    end = after + 1
    while True:
        row = await services.database.read(runs.get, run_id)
        while batch := await services.database.read(runs.events, run_id, after, PAGE_SIZE):
            for number, event in batch:
                after = number
                # An end event before the end of the journal belongs to an interrupted attempt; the code below
                # sends the last end event.
                kind = str(event.get("type"))
                end = number if kind in ENDINGS else number + 1
                if kind not in (*ENDINGS, runs.TAKEN_UP):
                    yield number, kind, event
        if row is None:
            return
        if row.finished_at is not None:
            yield _numbered(end, _ending(row))
            return
        if services.scheduler.stopping:
            return  # the run is queued again: the client's next request gets the remaining events
        arrived_run = await services.runner.arrival(run_id, POLL_INTERVAL_S, after=run)
        if arrived_run is None:
            continue
        run = arrived_run
        async for number, live in run.log.follow(after):
            if not isinstance(
                live, Finished | Failed
            ):  # the end event is sent after the run's row contains the end
                after, end = number, number + 1
                yield _numbered(number, live)
        await services.scheduler.wait_for_end(run_id)


def _numbered(number: int, event: Event) -> NumberedEvent:
    return number, event.type, event_to_json(event)


def _ending(row: RunRow) -> Finished | Failed:
    if row.status == "completed":
        return Finished(row.result)
    error: Mapping[str, Any] = row.error or {"message": "The run failed.", "type": "server_error"}
    return Failed(ErrorBody(**{name: error.get(name) for name in ("message", "type", "code", "param")}))  # type: ignore[arg-type]
