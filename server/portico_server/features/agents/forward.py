"""An agent that a client's program implements: callers use it like any agent, and a served function answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import Delta
from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, NotFound, Unavailable
from portico_server.core.json_values import JsonObject
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import (
    AppInput,
    AppOutput,
    Chat,
    ChatReply,
    Message,
    Request,
    ToolCall,
    ToolResult,
)
from portico_server.core.servable import Card
from portico_server.db.apps import AppRow
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.agents.session_name import session_name
from portico_server.features.agents.spec import VERSION
from portico_server.runs.turn_steps import TurnSteps

FORWARD = "forward"
"""The field that makes a specification a forward agent. Its value is the name of the served function."""

MESSAGE_INPUT = {
    "type": "object",
    "properties": {"message": {"type": "string", "description": "What is said to the agent."}},
    "required": ["message"],
    "additionalProperties": False,
}


class ForwardApp:
    """Passes messages to a served function, together with the name of the session, and returns the function's message
    as its answer.

    The program stores its sessions under its own key. Sessions of other callers get separate names in the program.
    """

    def __init__(self, name: str, spec: Mapping[str, Any], row: AppRow) -> None:
        self._function, title, description = self.check(name, spec)
        self.card = Card(
            name=name,
            kind="app",
            title=title or name,
            description=description,
            capabilities=frozenset({"chat", "app"}),
            input_schema=MESSAGE_INPUT,
            labels={"app": "agent", "version": row.version, "served": True},
            owner=row.owner,
            created=int(row.created_at),
            id=row.id,
        )

    @staticmethod
    def check(name: str, spec: Mapping[str, Any]) -> tuple[str, str, str]:
        """Return the function, the title and the description. If a field is invalid, raise `InvalidRequest` that names
        the field.
        """
        fields = JsonObject({**spec, "name": name}, "agent")
        version = fields.integer("portico_agent", 0)
        if version != VERSION:
            raise InvalidRequest(
                f'agent.portico_agent: add "portico_agent": {VERSION}, the version of the specification.',
                code="invalid_spec",
                param="agent.portico_agent",
            )
        fields.text("name")
        target_parts = (
            fields.required_text(FORWARD, "the name of a served function"),
            fields.text("title"),
            fields.text("description"),
        )
        fields.check_unread()
        return target_parts

    async def call(self, request: Request, context: Context) -> ChatReply | AppOutput:
        if isinstance(request, AppInput):
            arguments = request.value
            message = message_of(
                arguments["message"]
                if isinstance(arguments, Mapping) and "message" in arguments
                else arguments
            )
            return AppOutput((await self._ask(message, request.session, context)).to_json())
        if not isinstance(request, Chat):
            raise InvalidRequest(f"'{self.card.name}' is an agent: it accepts only messages.")
        message = message_of({"content": _last(request.messages).get("content") or ""})
        reply = await self._ask(message, session_name(request.options), context)
        await context.emit(Delta(reply.text))
        return ChatReply(reply.text, model=self.card.name)

    async def _ask(self, message: AgentMessage, session: str, context: Context) -> AgentMessage:
        arguments = {"message": message.to_json(), "session": _session_name(session, context)}
        steps = TurnSteps.here(context.run)
        call = ToolCall(arguments, key=steps.key(steps.place(self._function)) if steps.durable else "")
        try:
            result = await context.call(f"tool/{self._function}", call)
        except NotFound as error:
            raise Unavailable(
                f"The program that serves the agent '{self.card.name}' is not running. Restart that program.",
                code="not_served",
            ) from error
        assert isinstance(result, ToolResult)
        if result.is_error:
            raise EngineFailed(f"'{self.card.name}' failed: {result.text[:2000]}", code="forward_failed")
        return message_of(result.structured if result.structured is not None else result.text, self.card.name)


def _last(messages: Sequence[Message]) -> Message:
    if messages[-1].get("role") != "user":
        raise InvalidRequest("The last message to an agent must come from the user.", param="messages")
    return messages[-1]


def _session_name(session: str, context: Context) -> str:
    """Return the session name that the program receives. An unnamed session gets the run's id; a session of another
    caller gets the caller's id as a prefix.
    """
    caller: Principal = context.caller
    name = session or context.run
    return name if caller.id == LOCAL.id else f"{caller.id}/{name}"
