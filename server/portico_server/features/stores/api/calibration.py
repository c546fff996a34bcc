"""``/api/stores/{store}/calibrate``: measure, with questions, how useful the vectors of a store are."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices, new_router
from portico_server.api.shapes import StartedRun

router = new_router(prefix="/api/stores/{store}/calibrate", tags=["Stores"])


class CalibrationRequest(BaseModel, extra="forbid"):
    """``questions``, each with the ``file`` or ``passage`` that answers it, or the number of questions that a chat
    ``model`` writes.
    """

    questions: list[dict[str, Any]] | None = None
    generate: int | None = Field(default=None, ge=1, le=500)
    model: str = "default"
    apply: bool = False
    """Whether the store uses the best weight from now on."""


@router.post("")
async def calibrate_store(
    store: str, body: CalibrationRequest, services: TheServices, caller: Caller
) -> StartedRun:
    """Measure the ranking with different vector weights; the result of the run contains the scores."""
    row = await services.stores.get(store, caller, "manage")
    run = await services.stores.jobs.calibrate(row, caller, body.model_dump())
    return StartedRun(run=run)
