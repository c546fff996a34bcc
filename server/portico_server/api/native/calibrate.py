"""``/api/stores/{store}/calibrate``: what the vectors of a store are worth, measured on questions."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from portico_server.api.depends import Caller, TheParts
from portico_server.api.native.stores import Begun
from portico_server.api.router import router as new_router

router = new_router(prefix="/api/stores/{store}/calibrate", tags=["Stores"])


class CalibrationWish(BaseModel):
    """``questions`` with the ``file`` or the ``passage`` that answers each, or so many as a chat ``model`` asks."""

    questions: list[dict[str, Any]] | None = None
    generate: int | None = Field(default=None, ge=1, le=500)
    model: str = "default"
    apply: bool = False
    """Use the best weight from now on."""


@router.post("")
async def calibrate_store(store: str, wish: CalibrationWish, parts: TheParts, caller: Caller) -> Begun:
    """Measure the ranking with more and less weight for the vectors; the run's result has the scores."""
    row = await parts.stores.get(store, caller, "manage")
    run = await parts.stores.calibrate(row, caller, wish.model_dump())
    return Begun(run=run)
