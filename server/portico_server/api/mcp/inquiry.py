"""Everything that a run may ask of the client that began it: a person, by a form, or a model, by a conversation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico.wire import Asked
from portico_server.api.mcp import elicit, sampling
from portico_server.api.mcp.elicit import ElicitedAnswer


def can_ask(context: ServerRequestContext[Any]) -> bool:
    """Whether the client of this request can be asked anything."""
    return elicit.can_ask(context) or bool(sampling.lent(context))


def request(context: ServerRequestContext[Any], asked: Asked) -> types.InputRequest | None:
    """The request for a question; ``None`` if this client cannot answer it."""
    if asked.kind == "chat":
        return sampling.request(asked) if sampling.lent(context) else None
    return elicit.form(asked) if elicit.can_ask(context) else None


def requests(context: ServerRequestContext[Any], asks: Iterable[Asked]) -> dict[str, types.InputRequest]:
    """The requests for questions, by their ids, as far as this client can answer them."""
    found = {asked.id: request(context, asked) for asked in asks}
    return {key: one for key, one in found.items() if one is not None}


def said(asked: Asked, result: types.InputResponse) -> ElicitedAnswer | None:
    """What a client has answered; ``None`` if that is an answer to something else."""
    match result:
        case types.CreateMessageResult() | types.CreateMessageResultWithTools() if asked.kind == "chat":
            return ElicitedAnswer(True, sampling.answer(result))
        case types.ElicitResult() if asked.kind != "chat":
            return elicit.said(asked, result)
    return None


def read(asked: Asked, response: dict[str, Any]) -> types.InputResponse:
    """An answer from its JSON. Raises pydantic's `ValidationError`."""
    if asked.kind == "chat":
        return types.CreateMessageResultWithTools.model_validate(response)
    return types.ElicitResult.model_validate(response)
