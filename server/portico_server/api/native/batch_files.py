"""``/api/batches``: what a batch would find in its file, without asking anything."""

from __future__ import annotations

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheServices
from portico_server.api.endpoint import new_router as new_router
from portico_server.batches.spec import LineProblem

router = new_router(prefix="/api/batches", tags=["Batches"])


class BatchFileRequest(BaseModel):
    """An uploaded file, and the endpoint that its requests are for."""

    input_file_id: str = Field(min_length=1, max_length=200)
    endpoint: str = Field(min_length=1, max_length=200)


class CheckedFile(BaseModel):
    """How many requests a file holds, for which model, and what is wrong with it."""

    total: int
    model: str | None
    errors: list[LineProblem]


@router.post("/check")
async def check_batch_file(body: BatchFileRequest, services: TheServices, caller: Caller) -> CheckedFile:
    """Check each line of a file as a batch would."""
    found = await services.batches.check(body.input_file_id, body.endpoint, caller)
    return CheckedFile(total=found.total, model=found.model or None, errors=list(found.problems))
