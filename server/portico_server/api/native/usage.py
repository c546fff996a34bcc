"""``/api/usage``: calls and tokens, by name, operation and the model that answered."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import Query
from pydantic import BaseModel

from portico_server.api.endpoint import Caller, TheAuth, TheServices, new_router
from portico_server.api.shapes import Listed
from portico_server.db import usage

router = new_router(prefix="/api/usage", tags=["Usage"])


class Total(BaseModel):
    """Calls of one operation on one name that one model answered; ``milliseconds`` is the mean duration, ``cost`` in US
    dollars for the calls whose price is known, null if none is.

    ``name`` is what was asked for. ``model`` is the model that answered, by its own name: behind an alias, or as a
    fallback. It is the one that was asked if all of them failed, and empty for apps and stores and where it is not
    known, as of calls that were made before it was kept.
    """

    name: str
    operation: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost: float | None
    milliseconds: float


@router.get("")
async def usage_totals(
    services: TheServices,
    caller: Caller,
    since: Annotated[float, Query(ge=0, description="Seconds since 1970")] = 0.0,
) -> Listed[Total]:
    """What was used since a moment: by all keys for an admin, by the caller's own otherwise."""
    key_id = None if caller.admin else caller.id
    await services.usage.flush()
    rows = await services.database.read(usage.totals, since, key_id)
    return Listed(data=[Total(**row) for row in rows])


MAX_COURSE_S = {"hour": 14 * 86_400.0, "day": 400 * 86_400.0}
"""How far back usage over time goes, by the length of a step."""


class UsagePoint(BaseModel):
    """What was used in one hour or day, which begins ``at``, in seconds since 1970.

    ``series``: the model, the id of the key, or the name that was asked for, and ``name``: what it is called. Both are
    null of those together that have few calls.
    """

    at: float
    series: str | None
    name: str | None
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None


@router.get("/course")
async def usage_course(
    services: TheServices,
    auth: TheAuth,
    caller: Caller,
    since: Annotated[float, Query(ge=0, description="Seconds since 1970")] = 0.0,
    step: Literal["hour", "day"] = "day",
    by: Literal["model", "key", "name"] = "model",
) -> Listed[UsagePoint]:
    """What was used over time: by all keys for an admin, by the caller's own otherwise. Hours go back two weeks, days
    400 days; a day is one of UTC.
    """
    key_id = None if caller.admin else caller.id
    await services.usage.flush()
    first = max(since, time.time() - MAX_COURSE_S[step])
    rows = await services.database.read(usage.course, first, step, by, key_id)
    series_names = {row.id: row.name for row in auth.keys.list()} if by == "key" else {}
    return Listed(
        data=[UsagePoint(**row, name=series_names.get(row["series"], row["series"])) for row in rows]
    )
