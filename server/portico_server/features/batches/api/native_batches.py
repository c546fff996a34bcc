"""``/api/batches``: the check of a file before a batch starts, which OpenAI's API lacks."""

from __future__ import annotations

from pydantic import BaseModel, Field

from portico.schemas.batches import CheckedBatch
from portico_server.api.endpoint import Caller, new_router
from portico_server.features.batches.api.batches import TheBatches

router = new_router(prefix="/api/batches", tags=["Batches"])


class BatchFileRequest(BaseModel, extra="forbid"):
    """An uploaded file, and the endpoint to which its requests are addressed."""

    input_file_id: str = Field(min_length=1, max_length=200)
    endpoint: str = Field(min_length=1, max_length=200)


@router.post("/check")
async def check_batch_file(body: BatchFileRequest, batches: TheBatches, caller: Caller) -> CheckedBatch:
    """Check each line of a file as a batch would check it."""
    lines = await batches.check(body.input_file_id, body.endpoint, caller)
    return CheckedBatch(total=lines.total, model=lines.model or None, errors=tuple(lines.problems))
