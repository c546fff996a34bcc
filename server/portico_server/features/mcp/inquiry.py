"""A run's questions in MCP terms: a form for a person, or a conversation for the client's own model
(`portico_server.models.client_model` asks the latter).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico.wire import Asked
from portico_server.features.mcp.elicit import ElicitedAnswer, can_elicit, elicited, form
from portico_server.features.mcp.sampling import client_model_features, sampled_answer, sampling_request


def can_ask(context: ServerRequestContext[Any]) -> bool:
    """Return whether the client of this request can answer questions, through a person or through its model."""
    return can_elicit(context) or bool(client_model_features(context))


def request(context: ServerRequestContext[Any], question: Asked) -> types.InputRequest | None:
    """Return the request for a question, or ``None`` if this client cannot answer it."""
    if question.kind == "chat":
        return sampling_request(question) if client_model_features(context) else None
    return form(question) if can_elicit(context) else None


def requests(context: ServerRequestContext[Any], questions: Iterable[Asked]) -> dict[str, types.InputRequest]:
    """Return the requests for the questions that this client can answer, keyed by question id."""
    input_requests = {question.id: request(context, question) for question in questions}
    return {key: input_request for key, input_request in input_requests.items() if input_request is not None}


def answer_in(question: Asked, result: types.InputResponse) -> ElicitedAnswer | None:
    """Return a client's answer to the question, or ``None`` if the result is of another kind than the question."""
    match result:
        case types.CreateMessageResult() | types.CreateMessageResultWithTools() if question.kind == "chat":
            return ElicitedAnswer(True, sampled_answer(result))
        case types.ElicitResult() if question.kind != "chat":
            return elicited(question, result)
    return None


def read(question: Asked, response: dict[str, Any]) -> types.InputResponse:
    """Parse the JSON response to a question. Raises pydantic's `ValidationError`."""
    if question.kind == "chat":
        return types.CreateMessageResultWithTools.model_validate(response)
    return types.ElicitResult.model_validate(response)
