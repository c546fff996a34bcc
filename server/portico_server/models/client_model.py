"""The model named `client`: the model of the calling client, which lends it to the apps and tools it calls."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from portico.wire import Delta
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.core.principal import Principal
from portico_server.core.question import NewQuestion
from portico_server.core.request import CalledTool, Chat, ChatReply, Request
from portico_server.core.servable import Card, Kind, Servable

CLIENT_MODEL_NAME: Final = "client"

ANSWER_SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "content": {"type": "string"},
        "model": {"type": "string"},
        "finish_reason": {"type": "string"},
        "tool_calls": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "string"},
                    "name": {"type": "string"},
                    "arguments": {"type": "string", "description": "JSON"},
                },
                "required": ["id", "name", "arguments"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["content"],
}
"""Schema of a client's answer to a ``chat`` question. The arguments of the question are OpenAI's ``messages`` and
``options``.
"""


class ClientModel:
    """Asks the client that started the run. If this client lends no model, the call fails with status 400."""

    card = Card(
        CLIENT_MODEL_NAME,
        "model",
        title="The caller's own model",
        description="The model that a client lends over MCP to the apps and tools it calls.",
        capabilities=frozenset({"chat"}),
        labels={"fallback": True},
    )

    async def call(self, request: Request, context: Context) -> ChatReply:
        if not isinstance(request, Chat):
            raise InvalidRequest(f"The model '{CLIENT_MODEL_NAME}' supports only chat.", param="model")
        arguments = {
            "messages": [dict(message) for message in request.messages],
            "options": dict(request.options),
        }
        answer = await context.ask(
            NewQuestion(
                "chat",
                CLIENT_MODEL_NAME,
                "Requests a completion from your own model.",
                arguments=arguments,
                answer_schema=ANSWER_SCHEMA,
            )
        )
        if not answer.accepted:
            reason = answer.note or "it gave no reason"
            raise Conflict(f"The client did not lend its model: {reason}", code="model_refused")
        answered_message = answer.value
        if answered_message["content"]:
            await context.emit(Delta(answered_message["content"]))
        return ChatReply(
            answered_message["content"],
            answered_message.get("finish_reason", "stop"),
            tuple(CalledTool(**call) for call in answered_message.get("tool_calls", ())),
            model=answered_message.get("model", CLIENT_MODEL_NAME),
        )


class ClientModels:
    """Provides the model named `client`. It is searched last, so a model or app of the same name takes precedence. Not
    listed.
    """

    kinds: frozenset[Kind] = frozenset({"model"})

    def __init__(self) -> None:
        self._model = ClientModel()

    async def find(self, key: str, owner: str | None) -> Servable | None:
        return self._model if key == CLIENT_MODEL_NAME and owner is None else None

    async def by_id(self, key: str, caller: Principal) -> Servable | None:
        return None

    async def cards(
        self, caller: Principal, kinds: Collection[Kind] = (), listed_cards: Sequence[Card] = ()
    ) -> Sequence[Card]:
        return ()

    async def similar(self, name: str, caller: Principal) -> Sequence[Card]:
        return ()

    def has(self, key: str, owner: str) -> bool:
        return False
