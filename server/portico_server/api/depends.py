"""What a FastAPI endpoint may ask for as a parameter."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request

from portico_server.api.parts import Parts
from portico_server.core.principal import Principal


def _parts(request: Request) -> Parts:
    parts: Parts = request.scope["portico.parts"]
    return parts


def _caller(request: Request) -> Principal:
    caller: Principal = request.scope["portico.caller"]
    return caller


TheParts = Annotated[Parts, Depends(_parts)]
"""The daemon's parts."""

Caller = Annotated[Principal, Depends(_caller)]
"""Who is calling, as the door found out."""
