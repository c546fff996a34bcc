"""``/api/runs``: the steps of runs, and runs of flows that are resumed or forked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import orjson
from fastapi import Query, Response
from pydantic import BaseModel, Field

from portico.schemas.flows import TraceStep
from portico.wire import Usage
from portico_server.api.declarations import DRAWING
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.native.runs import FoundRun, RunDescription, RunTokens, find_run, retrieve_run, tokens
from portico_server.api.services import ApiServices
from portico_server.api.shapes import shaped
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal
from portico_server.db.runs import RunRow
from portico_server.db.steps import StepRow, step_usage
from portico_server.features.flows.feature import KIND as FLOW_KIND
from portico_server.runs.run import Run

if TYPE_CHECKING:
    from portico_server.features.flows.journals import FlowJournals

router = new_router(prefix="/api/runs", tags=["Flows", "Runs"])


class RunTrace(BaseModel):
    """The steps of a run in the order in which they ended, and the run's total usage."""

    run: str
    usage: RunTokens
    steps: list[TraceStep]


class Again(BaseModel, extra="forbid"):
    """``from``: the path or name of the step to repeat, with all steps after it."""

    start: str = Field("", alias="from")


class RunFork(BaseModel, extra="forbid"):
    """A new run based on another run: it has another ``input``, or reuses the results of all steps before ``from``."""

    start: str = Field("", alias="from")
    input: Any = None
    new_input: bool = False


@router.get("/{run_id}/trace", response_model=RunTrace, responses=DRAWING)
async def run_trace(
    run_id: str,
    services: TheServices,
    caller: Caller,
    full: Annotated[bool, Query()] = False,
    format: Literal["json", "mermaid", "svg"] = "json",
) -> RunTrace | Response:
    """Return the steps of a flow run. ``full``: outputs are not truncated. ``mermaid``: a Gantt chart of the steps.

    ``svg``: the flow's diagram as it was when the run started; the box of each step has its path as ``data-step``. For
    a run that exists only in memory, the diagram is that of the deployed app.
    """
    found_run = await find_run(services, run_id, caller)
    journals: FlowJournals = (await services.features.load("flows")).journals
    if format == "svg":
        return Response(_draw(services, caller, found_run), media_type="image/svg+xml")
    if found_run.elsewhere is None:
        rows = await journals.steps(run_id)
        result = _result(journals, found_run.row, found_run.living)
    else:
        trace = await found_run.elsewhere.ask(services, "steps")
        rows, result = [StepRow(*step) for step in trace["steps"]], trace["result"]
    if format == "mermaid":
        from portico_server.features.flows.drawing.diagram import gantt

        return Response(gantt(run_id, rows), media_type="text/plain")
    return RunTrace(
        run=run_id,
        usage=tokens(sum(map(step_usage, rows), Usage())),
        steps=[_step(row, full) for row in _with_result(rows, result)],
    )


@router.post("/{run_id}/resume")
async def resume_run(
    run_id: str, services: TheServices, caller: Caller, body: Again | None = None
) -> RunDescription:
    """Resume a durable run that has ended: after its last finished step, or from a given step."""
    flows = await services.features.load("flows")
    await flows.resume(run_id, caller, start=body.start if body else "")
    return await retrieve_run(run_id, services, caller)


@router.post("/{run_id}/fork")
async def fork_run(run_id: str, body: RunFork, services: TheServices, caller: Caller) -> RunDescription:
    """Start a new run based on this durable run."""
    new_input = body.new_input or body.input is not None
    flows = await services.features.load("flows")
    run = await flows.fork(run_id, caller, start=body.start, value=body.input, new_input=new_input)
    return await retrieve_run(run.id, services, caller)


def _draw(services: ApiServices, caller: Principal, found_run: FoundRun) -> str:
    """Return the diagram of a flow run as SVG. The modules that draw are imported for the first diagram."""
    from portico_server.features.flows import read
    from portico_server.features.flows.drawing.diagram import of_flow
    from portico_server.features.flows.drawing.svg import svg

    row = found_run.row
    run = row or found_run.living or (found_run.elsewhere.description if found_run.elsewhere else None)
    assert run is not None
    if run.kind != FLOW_KIND:
        raise InvalidRequest(f"'{run.id}' is not a flow run, so it has no diagram.", param="format")
    if row is not None and row.payload.get("flow"):
        flow, owner = read.flow(row.payload["flow"]), row.payload.get("owner")
        return svg(of_flow(flow, conditions=caller.owns(owner)))
    app, version = services.apps.index.find(run.name, caller)
    flow = read.flow({**version.spec, "name": app.name})
    return svg(of_flow(flow, conditions=caller.owns(app.owner)))


def _result(journals: FlowJournals, row: RunRow | None, living: Run | None) -> Any:
    """Return the result of a flow from its run's row or from memory, or ``None`` if it has no result yet."""
    run = row or living
    if run is None or run.kind != FLOW_KIND or run.status != "completed":
        return None
    return row.result if row is not None else journals.without_secrets(run.id, run.result)


def _with_result(rows: Sequence[StepRow], result: Any) -> Sequence[StepRow]:
    """Return the steps, with the flow's result added to the outermost step. The result is stored only once, in the
    run.
    """
    if not rows or result is None:
        return rows
    *inner, last = rows
    if last.output is not None or last.status != "completed" or "." in last.path or "[" in last.path:
        return rows
    return [*inner, last._replace(output=orjson.dumps(result).decode())]


def _step(row: StepRow, full: bool) -> TraceStep:
    return shaped(
        TraceStep,
        row,
        input=_load(row.input),
        output=_load(row.output if full else _cut(row.output)),
        error=_load(row.error),
    )


MAX_OUTPUT_CHARS = 4_000
"""Maximum length of a step's output in a trace, in characters."""


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= MAX_OUTPUT_CHARS:
        return text
    return orjson.dumps(f"{text[:MAX_OUTPUT_CHARS]} … {len(text):,} characters").decode()


def _load(text: str | None) -> Any:
    return None if text is None else orjson.loads(text)
