"""``/api/flows``: check a flow, or run a flow that is not deployed. Also trace, resume and fork flow runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

import orjson
from fastapi import Query, Response
from pydantic import BaseModel, Field

from portico.schemas.flows import CheckedSpec, TraceStep
from portico.wire import Failed, Usage
from portico_server.api.declarations import DRAWING, RUN_EVENTS
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.native.runs import FoundRun, RunDescription, RunTokens, find_run, retrieve_run, tokens
from portico_server.api.services import ApiServices
from portico_server.api.shapes import shaped
from portico_server.api.sse import EventStream, event_frame
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.event import ENDINGS
from portico_server.core.principal import Principal
from portico_server.db.runs import RunRow
from portico_server.db.steps import StepRow, step_usage
from portico_server.features.flows import read
from portico_server.features.flows.drawing.diagram import DiagramNode, gantt, of_flow
from portico_server.features.flows.drawing.svg import svg
from portico_server.features.flows.flows import KIND as FLOW_KIND
from portico_server.features.flows.schema import schema
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner

router = new_router(tags=["Flows"])


class FlowInput(BaseModel, extra="forbid"):
    """A flow (docs/flow-spec.md) and its input. ``history``: earlier messages, oldest first.

    ``functions``: the client functions that the client reading the events executes and answers. By default, these are
    all functions that no worker serves. Workers execute all other functions.
    """

    flow: dict[str, Any]
    input: Any = None
    history: list[dict[str, Any]] = Field(default_factory=list)
    functions: list[str] | None = None


class FlowToCheck(BaseModel, extra="forbid"):
    """A flow to check without running it."""

    flow: dict[str, Any]


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


@router.post("/api/flows/check")
async def check_flow(body: FlowToCheck, services: TheServices, caller: Caller) -> CheckedSpec:
    """Check a flow without running it."""
    try:
        flow = await services.flows.read(body.flow, caller)
    except PorticoError as error:
        return CheckedSpec(ok=False, error=error.body().to_json()["error"])
    return CheckedSpec(ok=True, name=flow.name)


@router.get("/api/schemas/flow")
async def flow_schema() -> dict[str, Any]:
    """Return the JSON schema of a flow's specification."""
    return schema()


@router.post(
    "/api/flows/run",
    response_class=EventStream,
    responses=RUN_EVENTS,
)
async def run_flow(body: FlowInput, services: TheServices, caller: Caller) -> EventStream:
    """Run a flow and stream its events; the header ``x-portico-run`` contains the run id.

    If the client leaves, the run is cancelled. A durable flow continues; its events are at ``/api/runs/{id}/events``.
    """
    flow = await services.flows.read(body.flow, caller)
    function_names = None if body.functions is None else frozenset(body.functions)
    run = await services.flows.begin(
        flow, body.input, caller, body.history, answered_functions=function_names
    )
    return EventStream(
        events_of(services.runner, run, stay=flow.durability != "off"), {"x-portico-run": run.id}
    )


async def events_of(runner: Runner, run: Run, *, stay: bool) -> AsyncIterator[bytes]:
    """Yield all events of a run. If the run fails immediately, raise its error, so that the response has an error
    status. ``stay``: the run continues if the client leaves.
    """
    try:
        async for events in run.log.batches():
            number, event = events[-1]
            if number == 1 and isinstance(event, Failed):
                await runner.wait(run)
            if isinstance(event, ENDINGS) and run.recorded is not None:
                await (
                    run.recorded.wait()
                )  # a client that sees the last event can resume or fork the run immediately
            yield b"".join(event_frame(number, event) for number, event in events)
    finally:
        if not stay:
            await run.cancel()


@router.get("/api/runs/{run_id}/trace", tags=["Runs"], response_model=RunTrace, responses=DRAWING)
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
    if format == "svg":
        return Response(svg(_diagram(services, caller, found_run)), media_type="image/svg+xml")
    if found_run.elsewhere is None:
        rows, result = (
            await services.flows.journals.steps(run_id),
            _result(services, found_run.row, found_run.living),
        )
    else:
        trace = await found_run.elsewhere.ask(services, "steps")
        rows, result = [StepRow(*step) for step in trace["steps"]], trace["result"]
    if format == "mermaid":
        return Response(gantt(run_id, rows), media_type="text/plain")
    return RunTrace(
        run=run_id,
        usage=tokens(sum(map(step_usage, rows), Usage())),
        steps=[_step(row, full) for row in _with_result(rows, result)],
    )


@router.post("/api/runs/{run_id}/resume", tags=["Runs"])
async def resume_run(
    run_id: str, services: TheServices, caller: Caller, body: Again | None = None
) -> RunDescription:
    """Resume a durable run that has ended: after its last finished step, or from a given step."""
    await services.flows.resume(run_id, caller, start=body.start if body else "")
    return await retrieve_run(run_id, services, caller)


@router.post("/api/runs/{run_id}/fork", tags=["Runs"])
async def fork_run(run_id: str, body: RunFork, services: TheServices, caller: Caller) -> RunDescription:
    """Start a new run based on this durable run."""
    new_input = body.new_input or body.input is not None
    run = await services.flows.fork(run_id, caller, start=body.start, value=body.input, new_input=new_input)
    return await retrieve_run(run.id, services, caller)


def _diagram(services: ApiServices, caller: Principal, found_run: FoundRun) -> DiagramNode:
    row = found_run.row
    run = row or found_run.living or (found_run.elsewhere.description if found_run.elsewhere else None)
    assert run is not None
    if run.kind != FLOW_KIND:
        raise InvalidRequest(f"'{run.id}' is not a flow run, so it has no diagram.", param="format")
    if row is not None and row.payload.get("flow"):
        return of_flow(read.flow(row.payload["flow"]), conditions=caller.owns(row.payload.get("owner")))
    app, version = services.apps.index.find(run.name, caller)
    return of_flow(read.flow({**version.spec, "name": app.name}), conditions=caller.owns(app.owner))


def _result(services: ApiServices, row: RunRow | None, living: Run | None) -> Any:
    """Return the result of a flow from its run's row or from memory, or ``None`` if it has no result yet."""
    run = row or living
    if run is None or run.kind != FLOW_KIND or run.status != "completed":
        return None
    return row.result if row is not None else services.flows.journals.without_secrets(run.id, run.result)


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
