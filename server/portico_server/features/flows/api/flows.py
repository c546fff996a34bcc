"""``/api/flows``: check a flow, or run a flow that is not deployed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from portico.schemas.flows import CheckedSpec
from portico_server.api.declarations import RUN_EVENTS
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.sse import EventStream, events_of
from portico_server.core.errors import PorticoError
from portico_server.features.flows.api.flow_service import TheFlows
from portico_server.features.flows.schema import schema

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


@router.post("/api/flows/check")
async def check_flow(body: FlowToCheck, flows: TheFlows, caller: Caller) -> CheckedSpec:
    """Check a flow without running it."""
    try:
        flow = await flows.read(body.flow, caller)
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
async def run_flow(body: FlowInput, services: TheServices, flows: TheFlows, caller: Caller) -> EventStream:
    """Run a flow and stream its events; the header ``x-portico-run`` contains the run id.

    If the client leaves, the run is cancelled. A durable flow continues; its events are at ``/api/runs/{id}/events``.
    """
    flow = await flows.read(body.flow, caller)
    function_names = None if body.functions is None else frozenset(body.functions)
    run = await flows.begin(flow, body.input, caller, body.history, answered_functions=function_names)
    return EventStream(
        events_of(services.runner, run, stay=flow.durability != "off"), {"x-portico-run": run.id}
    )
