"""What a FastAPI endpoint may ask for as a parameter."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, Request

from portico_server.api.parts import Parts
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import Principal


def _parts(request: Request) -> Parts:
    parts: Parts = request.scope["portico.parts"]
    return parts


def _caller(request: Request) -> Principal:
    caller: Principal = request.scope["portico.caller"]
    return caller


def _seen(
    last_event_id: Annotated[str | None, Header(description="The number of the last event seen")] = None,
) -> int:
    if last_event_id is None:
        return 0
    if not (last_event_id.isascii() and last_event_id.isdigit()):
        raise InvalidRequest("Last-Event-ID must be the number of an event.", param="Last-Event-ID")
    return int(last_event_id[:18])


TheParts = Annotated[Parts, Depends(_parts)]
"""The daemon's parts."""

Caller = Annotated[Principal, Depends(_caller)]
"""Who is calling, as the door found out."""

Seen = Annotated[int, Depends(_seen)]
"""The number of the last event that a client has seen, by its ``Last-Event-ID``; 0 before the first."""
