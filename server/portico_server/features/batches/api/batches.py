"""``/v1/batches``: a file of requests, answered in the background.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import Query
from pydantic import BaseModel, Field

from portico.schemas.batches import BatchProblem
from portico_server.api.endpoint import Caller, feature_service, new_router
from portico_server.api.shapes import Moment, OpenAIList, Page, shaped
from portico_server.core.attributes import check_metadata
from portico_server.core.errors import InvalidRequest
from portico_server.db.batches import BatchRow
from portico_server.features.batches.batches import BatchService
from portico_server.features.batches.spec import WINDOW, BatchSpec
from portico_server.features.files.api.files import OutputExpiry

router = new_router(prefix="/v1/batches", tags=["OpenAI: batches"])

TheBatches = Annotated[BatchService, feature_service("batches", BatchService)]
"""The batches of the daemon."""


class BatchRequest(BaseModel):
    """A batch to start: an uploaded file of requests, all for one endpoint and one model."""

    input_file_id: str = Field(min_length=1, max_length=200)
    endpoint: str = Field(min_length=1, max_length=200)
    completion_window: str
    metadata: dict[str, Any] | None = None
    output_expires_after: OutputExpiry | None = None

    def spec(self) -> BatchSpec:
        """Return the specification for the daemon. Raises `InvalidRequest`."""
        if self.completion_window != WINDOW:
            raise InvalidRequest(
                f"'completion_window' is '{self.completion_window[:40]}'; send '{WINDOW}', the only "
                "supported value.",
                param="completion_window",
            )
        keep = None if self.output_expires_after is None else self.output_expires_after.seconds
        return BatchSpec(check_metadata(self.metadata), keep)


class RequestCounts(BaseModel):
    """Counts of the requests in the file. Requests that are neither completed nor failed have not been processed
    yet.
    """

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """Input tokens that were read from a cache."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """Output tokens used for reasoning. Portico does not count these tokens."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Batch(BaseModel):
    """A batch. Times are in seconds since 1970. ``run_id`` is Portico's own field: the run whose events report
    progress.
    """

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: OpenAIList[BatchProblem] | None
    input_file_id: str
    completion_window: str = WINDOW
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: Moment
    in_progress_at: Moment | None
    expires_at: Moment
    finalizing_at: Moment | None
    completed_at: Moment | None
    failed_at: Moment | None
    expired_at: Moment | None
    cancelling_at: Moment | None
    cancelled_at: Moment | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    run_id: str


def _batch(row: BatchRow) -> Batch:
    """Return a batch in OpenAI's format."""
    errors = [BatchProblem(**error) for error in row.errors or ()]
    return shaped(
        Batch,
        row,
        **{name: row.times.get(name.removesuffix("_at")) for name in _MOMENTS},
        model=row.model or None,
        errors=OpenAIList(data=errors) if errors else None,
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        usage=BatchUsage(
            input_tokens=row.prompt_tokens,
            input_tokens_details=InputDetails(cached_tokens=row.cached_tokens),
            output_tokens=row.completion_tokens,
            output_tokens_details=OutputDetails(),
            total_tokens=row.prompt_tokens + row.completion_tokens,
        ),
        metadata=dict(row.spec.get("metadata") or {}) or None,
    )


_MOMENTS: Final = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)


@router.post("")
async def create_batch(body: BatchRequest, batches: TheBatches, caller: Caller) -> Batch:
    """Start a batch. The lines of its file are checked in the background; the batch's status shows the result."""
    row = await batches.create(body.input_file_id, body.endpoint, body.spec(), caller)
    return _batch(row)


@router.get("")
async def list_batches(
    batches: TheBatches,
    caller: Caller,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[Batch]:
    """Return the caller's batches, newest first."""
    page = await batches.list(caller, after=after, limit=limit)
    data = [_batch(row) for row in page.data]
    return Page.of(data, page.has_more)


@router.get("/{batch_id}")
async def retrieve_batch(batch_id: str, batches: TheBatches, caller: Caller) -> Batch:
    """Return one batch."""
    return _batch(await batches.get(batch_id, caller))


@router.post("/{batch_id}/cancel")
async def cancel_batch(batch_id: str, batches: TheBatches, caller: Caller) -> Batch:
    """Cancel a batch. Answers to lines that were processed before the cancellation are in the output file."""
    return _batch(await batches.cancel(batch_id, caller))
