"""Relays requests in Anthropic's format and their answers unchanged, and counts their tokens. Pure."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import orjson

from portico.wire import Usage
from portico_server.core.errors import PorticoError
from portico_server.core.relay import OriginalRequest
from portico_server.models.engines.remote.anthropic_answers import (
    error_of_event,
    usage_of,
)

BETA_HEADER = "anthropic-beta"


def body_of(original: OriginalRequest, model: str) -> dict[str, Any]:
    """Return the request body with the provider's name for the model."""
    return {**original.body, "model": model}


def headers_of(original: OriginalRequest, own_headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a call: ``own_headers``, and the caller's headers that describe the form of the request.

    If both contain ``anthropic-beta``, their values are combined.
    """
    headers = {**own_headers, **original.headers}
    configured_beta = next((value for name, value in own_headers.items() if name.lower() == BETA_HEADER), "")
    requested_beta = original.headers.get(BETA_HEADER, "")
    if configured_beta and requested_beta:
        headers = {name: value for name, value in headers.items() if name.lower() != BETA_HEADER}
        headers[BETA_HEADER] = f"{configured_beta},{requested_beta}"
    return headers


class AnthropicUsage:
    """An observer of a relayed stream. It records token counts and the end of the message, and reports errors."""

    def __init__(self, name: str) -> None:
        self.ended = False
        """True once the message has ended."""
        self._name = name
        self._counts: dict[str, Any] = {}

    @property
    def usage(self) -> Usage:
        """Return the usage counted so far."""
        return usage_of(self._counts)

    def read(self, frames: bytes) -> tuple[bytes, PorticoError | None]:
        """Return the frames up to the first error, and that error."""
        if b'"usage"' not in frames and b"message_stop" not in frames and b"error" not in frames:
            return frames, None
        start = 0
        for part in frames.split(b"\n\n"):
            for line in part.split(b"\n"):
                if line.startswith(b"data:") and (error := self._event(line[5:])) is not None:
                    return frames[:start], error
            start += len(part) + 2
        return frames, None

    def _event(self, data: bytes) -> PorticoError | None:
        event: Any = None
        with contextlib.suppress(
            orjson.JSONDecodeError
        ):  # the client that parses the frame reports the invalid JSON
            event = orjson.loads(data)
        if not isinstance(event, dict):
            return None
        match event.get("type"):
            case "message_start":
                self._counts |= (event.get("message") or {}).get("usage") or {}
            case "message_delta":
                # Each event contains totals; null means that a count has not changed.
                usage = event.get("usage") or {}
                self._counts |= {key: value for key, value in usage.items() if value is not None}
            case "message_stop":
                self.ended = True
            case "error":
                return error_of_event(event, self._name)
        return None
