"""Determines the session that a chat completion continues."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest


def session_name(options: Mapping[str, Any]) -> str:
    """Return the session name in the options of a chat completion, or an empty string if the options name no
    session.
    """
    value = options.get("conversation") or options.get("user") or ""
    if isinstance(value, Mapping):
        value = value.get("id") or ""
    if not isinstance(value, str):
        raise InvalidRequest(
            "'conversation' must be the name of a session, or an object with its 'id'.", param="conversation"
        )
    return value
