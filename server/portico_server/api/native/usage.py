"""``/api/usage``: calls and tokens, by name and operation."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.db import usage

router = new_router(prefix="/api/usage", tags=["Usage"])


class Total(BaseModel):
    """Calls of one operation on one name; ``milliseconds`` is the mean duration, ``cost`` in US dollars for the calls
    whose price is known, null if none is.
    """

    name: str
    operation: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: float | None
    milliseconds: float


class Totals(BaseModel):
    """Most calls first."""

    data: list[Total]


@router.get("")
async def usage_totals(
    parts: TheParts,
    caller: Caller,
    since: Annotated[float, Query(ge=0, description="Seconds since 1970")] = 0.0,
) -> Totals:
    """What was used since a moment: by all keys for an admin, by the caller's own otherwise."""
    key_id = None if caller.admin else caller.id
    rows = await parts.database.read(usage.totals, since, key_id)
    return Totals(data=[Total(**row) for row in rows])
