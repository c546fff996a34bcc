"""``/api/stores/{store}/calibrate``: what the vectors of a store are worth, measured on questions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import StartedRun

router = new_router(prefix="/api/stores/{store}/calibrate", tags=["Stores"])


class CalibrationRequest(BaseModel, extra="forbid"):
    """``questions`` with the ``file`` or the ``passage`` that answers each, or so many as a chat ``model`` asks."""

    questions: list[dict[str, Any]] | None = None
    generate: int | None = Field(default=None, ge=1, le=500)
    model: str = "default"
    apply: bool = False
    """Use the best weight from now on."""


@router.post("")
async def calibrate_store(
    store: str, body: CalibrationRequest, services: TheServices, caller: Caller
) -> StartedRun:
    """Measure the ranking with more and less weight for the vectors; the run's result has the scores."""
    row = await services.stores.get(store, caller, "manage")
    run = await services.stores.jobs.calibrate(row, caller, body.model_dump())
    return StartedRun(run=run)
