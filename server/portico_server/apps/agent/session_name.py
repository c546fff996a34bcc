"""Which session a chat completion continues with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest


def session_name(options: Mapping[str, Any]) -> str:
    """The name of the session in the options of a chat completion; empty if there is none."""
    value = options.get("conversation") or options.get("user") or ""
    if isinstance(value, Mapping):
        value = value.get("id") or ""
    if not isinstance(value, str):
        raise InvalidRequest(
            "'conversation' is the name of a session, or an object with its 'id'.", param="conversation"
        )
    return value
