"""``/api/runs``: current and past runs, their events, and their cancellation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas import runs as schemas
from portico.schemas.runs import Pruned
from portico.wire import ErrorBody, Usage
from portico_server.api import internal
from portico_server.api.declarations import RUN_EVENTS
from portico_server.api.endpoint import Admin, Caller, Seen, TheServices, new_router
from portico_server.api.run_events import durable_events
from portico_server.api.services import ApiServices
from portico_server.api.shapes import ListedPart, shaped
from portico_server.api.sse import EventStream, event_frame, frame
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import NotFound, Unavailable
from portico_server.core.ids import is_id
from portico_server.core.principal import Principal
from portico_server.db import runs, steps
from portico_server.db.runs import RunRow
from portico_server.runs.run import Run

router = new_router(prefix="/api/runs", tags=["Runs"])


class RunTokens(BaseModel):
    """Token counts of one run; ``cost`` is in US dollars, null if no price is known."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: float | None


@dataclass(frozen=True, slots=True)
class RunDescription(schemas.Run):
    """One run. Times are in seconds since 1970; ``error`` is in OpenAI's format, ``last_event`` is the number of the
    last event.
    """

    status: Literal["queued", "running", "waiting", "completed", "failed", "cancelled"]
    error: dict[str, Any] | None  # type: ignore[assignment]  # the SDK has it as an `ErrorBody`
    usage: RunTokens | None  # type: ignore[assignment]  # the SDK has no usage as one of nothing


@router.get("")
async def list_runs(
    services: TheServices,
    caller: Caller,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    after: Annotated[str | None, Query(max_length=200)] = None,
) -> ListedPart[RunDescription]:
    """List the newest runs of the caller: all durable runs, and the runs in memory that are active or ended recently.

    If ``has_more`` is true, pass the last id as ``after`` to get the next page. The individual requests of a batch are
    not listed, only the run of the batch.
    """
    if after is not None and not is_id(after, "run_"):
        raise NotFound(f"The run '{after[:80]}' in 'after' does not exist.", param="after")
    owner = None if caller.admin else caller.id
    page = await services.database.read(runs.newest, limit, owner, after=after)
    # A run in memory that is older than the last row of this page appears on a later page.
    oldest = page.data[-1].id if page.has_more else ""
    run_descriptions = {
        run.id: _living(run)
        for run in services.runner.list()
        if not run.behind and caller.sees(run.caller.id)
        if run.id > oldest and (after is None or run.id < after)
    }
    for row in page.data:
        run_descriptions[row.id] = _describe(row, services.runner.get(row.id))
    newest = sorted(run_descriptions.values(), key=lambda run: run.id, reverse=True)
    return ListedPart(data=newest[:limit], has_more=page.has_more or len(newest) > limit)


class PruneRequest(BaseModel, extra="forbid"):
    """``days``: minimum age of the runs to remove, instead of the setting ``keep_runs_days``; ``dry_run``: only count
    the runs.
    """

    days: float | None = Field(default=None, ge=0, le=36_500)
    dry_run: bool = False


@router.post("/prune")
async def prune_runs(body: PruneRequest, services: TheServices, _caller: Admin) -> Pruned:
    """Remove old runs that have ended, together with their data, as the daemon does every hour."""
    pruned_counts = await services.retention.prune(runs_days=body.days, dry_run=body.dry_run)
    return shaped(Pruned, pruned_counts, dry_run=body.dry_run)


@router.get("/{run_id}")
async def retrieve_run(run_id: str, services: TheServices, caller: Caller) -> RunDescription:
    """Return a run."""
    found_run = await find_run(services, run_id, caller)
    row, living = found_run.row, found_run.living
    if found_run.elsewhere is not None:
        return found_run.elsewhere.description
    if row is None:
        assert living is not None
        return _living(living)
    run_description = _describe(row, living)
    if living is None:
        run_description = replace(
            run_description, last_event=await services.database.read(runs.last_event, run_id)
        )
    usage = await services.database.read(steps.run_usage, run_id)
    return replace(run_description, usage=tokens(usage) if usage is not None else None)


@router.post("/{run_id}/cancel")
async def cancel_run(run_id: str, services: TheServices, caller: Caller) -> RunDescription:
    """Cancel a run and wait until it has stopped. A run that has ended stays unchanged."""
    found_run = await find_run(services, run_id, caller)
    row, living = found_run.row, found_run.living
    if found_run.elsewhere is not None:
        while (description := await found_run.elsewhere.ask(services, "cancel"))["finished_at"] is None:
            continue  # each query waits on the other daemon for the run to end
        return _elsewhere(description)
    if living is not None:
        await living.cancel()
        await services.scheduler.wait_for_end(run_id)
    elif row is not None:
        error = ErrorBody("The run was cancelled.", "server_error", "cancelled")
        await services.database.write(runs.cancel_elsewhere, run_id, error.to_json()["error"])
    return await retrieve_run(run_id, services, caller)


@router.get(
    "/{run_id}/events",
    response_class=EventStream,
    responses=RUN_EVENTS,
)
async def run_events(
    run_id: str,
    services: TheServices,
    caller: Caller,
    after: Seen,
) -> EventStream:
    """Stream the events of a run until it ends, starting with the first event or with the event after
    ``Last-Event-ID``.
    """
    found_run = await find_run(services, run_id, caller)
    if found_run.elsewhere is not None:
        return EventStream(_events_elsewhere(services, found_run.elsewhere, after))
    if found_run.row is None:
        assert found_run.living is not None
        return EventStream(_live_events(found_run.living, after))
    return EventStream(_durable_events(services, run_id, after))


@dataclass(frozen=True, slots=True)
class RunElsewhere:
    """A run in the memory of another daemon on this database. ``daemon`` is that daemon's name in the feed."""

    daemon: str
    description: RunDescription

    async def ask(self, services: ApiServices, do: str, **arguments: Any) -> Any:
        """Return the reply of the daemon that executes the run. Raise `Unavailable` if that daemon does not reply, or
        if it has stopped and the run is lost.
        """
        run_id = self.description.id
        question = {"do": do, "run": run_id, **arguments}
        reply = await services.feed.ask(internal.RUN_QUESTION, question, self.daemon)
        if reply is None:
            raise Unavailable(
                f"The daemon that had the run '{run_id}' in memory has stopped or forgotten the run, so the "
                "run is lost. Durable runs outlive their daemon.",
                code="run_lost",
                param="id",
            )
        return reply[1]


@dataclass(frozen=True, slots=True)
class FoundRun:
    """The row of a durable run, the run itself if it is on this daemon, or a run in the memory of another daemon."""

    row: RunRow | None
    living: Run | None
    elsewhere: RunElsewhere | None = None


async def find_run(services: ApiServices, run_id: str, caller: Principal) -> FoundRun:
    """Return a run that the caller may see. Raise `NotFound`, or `Unavailable` if a daemon that may be executing the
    run does not respond.
    """
    living = services.runner.get(run_id)
    row = await services.database.read(runs.get, run_id)
    if row is None and living is None and is_id(run_id, "run_"):
        description = await services.feed.ask(internal.RUN_QUESTION, {"do": "describe", "run": run_id})
        if description is not None and caller.sees(description[1]["owner"]):
            return FoundRun(None, None, RunElsewhere(description[0], _elsewhere(description[1])))
    owner = row.owner if row else living.caller.id if living else ""
    if (row is None and living is None) or not caller.sees(owner):
        loss_notice = " A run in memory is lost when its daemon stops." if services.database.postgres else ""
        raise NotFound(
            f"The run '{run_id}' does not exist, or it ended long ago.{loss_notice}",
            code="run_not_found",
            param="id",
        )
    return FoundRun(row, living)


async def _events_elsewhere(services: ApiServices, run: RunElsewhere, after: int) -> AsyncIterator[bytes]:
    yield b": %s\n\n" % run.description.id.encode()
    has_ended = False
    while not has_ended:
        reply = await run.ask(services, "events", after=after)
        has_ended = reply["ended"]
        for number, kind, event in reply["events"]:
            after = number
            yield frame(number, kind, event)


async def _live_events(run: Run, after: int) -> AsyncIterator[bytes]:
    yield b": %s\n\n" % run.id.encode()
    async for number, event in run.log.follow(after):
        yield event_frame(number, event)


async def _durable_events(services: ApiServices, run_id: str, after: int) -> AsyncIterator[bytes]:
    yield b": %s\n\n" % run_id.encode()
    async for number, kind, event in durable_events(services, run_id, after):
        yield frame(number, kind, event)


def _living(run: Run) -> RunDescription:
    return shaped(
        RunDescription,
        run,
        error=run.error.to_json()["error"] if run.error else None,
        usage=tokens(run.usage),
        last_event=run.log.last,
    )


def _elsewhere(description: Mapping[str, Any]) -> RunDescription:
    return shaped(
        RunDescription, None, **{field.name: description[field.name] for field in fields(RunDescription)}
    )


def tokens(usage: Usage) -> RunTokens:
    """Return the usage in the API's format."""
    return RunTokens.model_validate(usage, from_attributes=True)


def _describe(row: RunRow, living: Run | None) -> RunDescription:
    """Return the description of a durable run: its status comes from the row, its progress from the active run."""
    return shaped(RunDescription, row, usage=None, last_event=living.log.last if living else 0)
