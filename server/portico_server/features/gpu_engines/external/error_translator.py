"""Translates errors of third-party servers to OpenAI's format."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from portico.wire import ErrorBody
from portico_server.core.relay import Relay, RelayResponse
from portico_server.models.openai_wire import EngineRefused
from portico_server.models.protocol import EngineClient

Advice: TypeAlias = Callable[[str], str]
"""A function that maps an error message of a server to a sentence of advice, or to "" if it has none."""

_TOO_LONG = re.compile(
    r"(?:maximum|max) (?:context|model) (?:length|len)|session.len|context length", re.IGNORECASE
)

_WORD = re.compile(r"[a-z]+(?:_[a-z]+)*")


class ErrorTranslator:
    """An `EngineClient` that wraps another client and translates its errors to OpenAI's format."""

    def __init__(self, inner: EngineClient, advice: Advice) -> None:
        self._inner = inner
        self._advice = advice

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        try:
            return await self._inner.relay(request, deadline)
        except EngineRefused as error:
            raise translate_error(error, request, self._advice) from error


def translate_error(error: EngineRefused, request: Relay, advice: Advice) -> EngineRefused:
    """Return the error with ``type``, ``code`` and ``param`` as in OpenAI's API."""
    kind, code, param = error.type, error.code, error.param
    if not _WORD.fullmatch(kind):  # BadRequestError, NotFoundError …
        kind = "rate_limit_error" if error.status == 429 else "invalid_request_error"
    if error.status == 400 and _TOO_LONG.search(error.message):
        code = "context_length_exceeded"
        param = "messages" if request.operation == "chat/completions" else _input_of(request)
    message = " ".join(part for part in (error.message, advice(error.message)) if part)
    return EngineRefused(error.status, ErrorBody(message, kind, code, param), error.retry_after)


def _input_of(request: Relay) -> str:
    return "input" if request.operation == "embeddings" else "prompt"
