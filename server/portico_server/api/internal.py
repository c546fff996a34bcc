"""Answers to other daemons on the same database, which query the runs in this daemon's memory."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

import orjson

from portico.wire import event_to_json
from portico_server.api.services import ApiServices
from portico_server.db.feed import Answer
from portico_server.runs.run import Run

RUN_QUESTION: Final = "run"
"""Kind of question that another daemon asks about a run: ``do`` is ``describe``, ``cancel``, ``events`` or
``steps``.
"""

EVENT_WAIT_S: Final = 1.0
"""Seconds for which a query for a run's next events waits if there are none yet."""

CANCEL_WAIT_S: Final = 2.0
"""Seconds for which a query that cancels a run waits for the run to end."""

MAX_EVENT_BYTES: Final = 256 * 1024
"""Maximum size of the events in one answer, in bytes. The remaining events need another query."""


def runs_in_memory(services: ApiServices) -> Answer:
    """Return the function that answers other daemons' queries about the runs in this daemon's memory.

    The querying daemon decides who may see a run. It has the same rights as anyone with access to the database.
    """

    async def answer(question: Mapping[str, Any]) -> Any:
        run = services.runner.get(question["run"])
        if run is None or run.durable:
            return None
        match question["do"]:
            case "events":
                return await _next_events(run, question["after"])
            case "steps":
                journals = (await services.features.load("flows")).journals
                rows = [list(row) for row in await journals.steps(run.id)]
                return {"steps": rows, "result": journals.without_secrets(run.id, run.result)}
            case "cancel" if run.task is not None and not run.task.done():
                run.task.cancel()
                await asyncio.wait([run.task], timeout=CANCEL_WAIT_S)
        return {
            **{
                name: getattr(run, name)
                for name in ("id", "kind", "name", "status", "created_at", "finished_at")
            },
            "error": run.error.to_json()["error"] if run.error else None,
            "usage": asdict(run.usage),
            "last_event": run.log.last,
            "owner": run.caller.id,
        }

    return answer


async def _next_events(run: Run, after: int) -> Mapping[str, Any]:
    numbered_events, has_ended = await run.log.since(after, EVENT_WAIT_S)
    events: list[Any] = []
    size = 0
    for number, event in numbered_events:
        events.append((number, event.type, event_to_json(event)))
        size += len(orjson.dumps(events[-1]))
        if size > MAX_EVENT_BYTES:
            break
    return {"events": events, "ended": has_ended and len(events) == len(numbered_events)}
