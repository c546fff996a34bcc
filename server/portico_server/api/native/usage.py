"""``/api/usage``: calls and tokens, by requested name, operation, and model that answered."""

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
    """Total of the calls of one operation on one name that one model answered.

    ``milliseconds`` is the mean duration. ``cost`` is in US dollars for the calls with a known price, null if no price
    is known.

    ``name`` is the requested name. ``model`` is the actual name of the model that answered, even if it was requested
    by an alias or answered as a fallback. If all models failed, it is the requested model. It is empty for apps and
    stores, and if the model is unknown, as for calls before models were recorded.
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
    """Return the usage since a given time. Admins see the usage of all keys, other callers only their own."""
    key_id = None if caller.admin else caller.id
    await services.usage.flush()
    rows = await services.database.read(usage.totals, since, key_id)
    return Listed(data=[Total(**row) for row in rows])


MAX_COURSE_S = {"hour": 14 * 86_400.0, "day": 400 * 86_400.0}
"""How far back usage over time reaches, in seconds, by length of a step."""


class UsagePoint(BaseModel):
    """The usage of one hour or day that begins ``at``, in seconds since 1970.

    ``series`` is the model, the id of the key, or the requested name; ``name`` is its display name. Both are null for
    the point that combines the series with few calls.
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
    """Return the usage over time. Admins see the usage of all keys, other callers only their own. Hours go back two
    weeks, days 400 days; days are in UTC.
    """
    key_id = None if caller.admin else caller.id
    await services.usage.flush()
    first = max(since, time.time() - MAX_COURSE_S[step])
    rows = await services.database.read(usage.course, first, step, by, key_id)
    series_names = {row.id: row.name for row in auth.keys.list()} if by == "key" else {}
    return Listed(
        data=[UsagePoint(**row, name=series_names.get(row["series"], row["series"])) for row in rows]
    )
