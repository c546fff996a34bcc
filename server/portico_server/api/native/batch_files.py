"""``/api/batches``: what a batch would find in its file, without asking anything."""

from __future__ import annotations

from pydantic import BaseModel, Field

from portico_server.api.endpoint import Caller, TheParts
from portico_server.api.endpoint import new_router as new_router
from portico_server.api.openai.batch_shapes import BatchError

router = new_router(prefix="/api/batches", tags=["Batches"])


class FileWish(BaseModel):
    """An uploaded file, and the endpoint that its requests are for."""

    input_file_id: str = Field(min_length=1, max_length=200)
    endpoint: str = Field(min_length=1, max_length=200)


class CheckedFile(BaseModel):
    """How many requests a file holds, for which model, and what is wrong with it."""

    total: int
    model: str | None
    errors: list[BatchError]


@router.post("/check")
async def check_batch_file(wish: FileWish, parts: TheParts, caller: Caller) -> CheckedFile:
    """Check each line of a file as a batch would."""
    found = await parts.batches.check(wish.input_file_id, wish.endpoint, caller)
    errors = [BatchError(**problem.to_json()) for problem in found.problems]
    return CheckedFile(total=found.total, model=found.model or None, errors=errors)
