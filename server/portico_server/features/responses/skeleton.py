"""The initial response document in OpenAI's format, before the model answers."""

from __future__ import annotations

import time
from typing import Any

from portico_server.features.responses.request import ResponseRequest


def skeleton(ask: ResponseRequest, response_id: str) -> dict[str, Any]:
    """Return a response document with every field, filled from the request."""
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "background": ask.background,
        "error": None,
        "incomplete_details": None,
        "model": ask.model,
        "output": [],
        "previous_response_id": ask.previous or None,
        "conversation": {"id": ask.conversation} if ask.conversation else None,
        "service_tier": "default",
        "store": ask.store,
        "usage": None,
        **ask.echo,
    }
