"""``/api/agents``: run an agent that is not deployed, such as an agent composed with the SDK."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from portico.schemas.flows import CheckedSpec
from portico_server.api.declarations import RUN_EVENTS
from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.sse import EventStream, events_of
from portico_server.core.errors import PorticoError
from portico_server.features.agents import read
from portico_server.features.agents.api.agent_service import TheAgents
from portico_server.features.agents.message import message_of
from portico_server.features.agents.read import schema

router = new_router(tags=["Agents"])


class SessionName(BaseModel, extra="forbid"):
    """A session, identified by its app and its name. Its first turn creates it."""

    app: str
    name: str


class AgentInput(BaseModel, extra="forbid"):
    """An agent (docs/agents.md) and its input: text, parts, or a message.

    The agent remembers the conversation in ``session``, under ``path``, its position in a tree of agents. Without a
    session it remembers nothing. ``variables`` are inserted into the instructions.
    """

    agent: dict[str, Any]
    message: Any
    session: SessionName | None = None
    path: str = Field("", max_length=512)
    variables: dict[str, Any] = Field(default_factory=dict)


class AgentToCheck(BaseModel, extra="forbid"):
    """An agent to check without running it."""

    agent: dict[str, Any]


@router.post("/api/agents/check")
async def check_agent(body: AgentToCheck, agents: TheAgents, caller: Caller) -> CheckedSpec:
    """Check an agent and that everything it names exists, without running the agent."""
    try:
        spec = read.agent(body.agent)
        await agents.exists(spec, caller)
    except PorticoError as error:
        return CheckedSpec(ok=False, error=error.body().to_json()["error"])
    return CheckedSpec(ok=True, name=spec.name)


@router.get("/api/schemas/agent")
async def agent_schema() -> dict[str, Any]:
    """Return the JSON schema of an agent's specification."""
    return schema()


@router.post(
    "/api/agents/run",
    response_class=EventStream,
    responses=RUN_EVENTS,
)
async def run_agent(
    body: AgentInput, services: TheServices, agents: TheAgents, caller: Caller
) -> EventStream:
    """Run an agent on one message and stream its events; the last event contains the answer as a message.

    If the client leaves, the turn is cancelled and none of it is stored.
    """
    spec = read.agent(body.agent)
    run = await agents.begin(
        spec,
        message_of(body.message),
        caller,
        session=None if body.session is None else (body.session.app, body.session.name),
        path=body.path,
        variables=body.variables,
    )
    return EventStream(events_of(services.runner, run, stay=False), {"x-portico-run": run.id})
