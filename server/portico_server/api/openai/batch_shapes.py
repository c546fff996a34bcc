"""Batches in OpenAI's words: what is asked for, and what is answered.

https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from portico_server.api.openai.files import LONGEST, SHORTEST
from portico_server.batches.spec import WINDOW, BatchSpec
from portico_server.core.errors import InvalidRequest
from portico_server.db.batches import BatchRow
from portico_server.knowledge.contents import check_metadata


class ExpiresAfter(BaseModel):
    """How long the files of the end are kept, from the moment that they are made."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=SHORTEST, le=LONGEST)]


class BatchWish(BaseModel):
    """A batch to be begun: an uploaded file of requests, all for one endpoint and one model."""

    input_file_id: str = Field(min_length=1, max_length=200)
    endpoint: str = Field(min_length=1, max_length=200)
    completion_window: str
    metadata: dict[str, Any] | None = None
    output_expires_after: ExpiresAfter | None = None

    def spec(self) -> BatchSpec:
        """As the daemon takes it. Raises `InvalidRequest`."""
        if self.completion_window != WINDOW:
            raise InvalidRequest(
                f"'completion_window' is '{self.completion_window[:40]}'; send '{WINDOW}', the only one that there is.",
                param="completion_window",
            )
        keep = None if self.output_expires_after is None else self.output_expires_after.seconds
        return BatchSpec(check_metadata(self.metadata), keep)


class BatchError(BaseModel):
    """What is wrong with the file, at a ``line`` from 1, or what ended the batch."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class BatchErrors(BaseModel):
    """At most a hundred of them."""

    object: Literal["list"] = "list"
    data: list[BatchError]


class RequestCounts(BaseModel):
    """Requests of the file; those neither completed nor failed were not asked, or not yet."""

    total: int
    completed: int
    failed: int


class InputDetails(BaseModel):
    """Of the tokens that were read, those that were not computed again."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """Of the tokens that were said, those of thoughts; not counted here."""

    reasoning_tokens: int = 0


class BatchUsage(BaseModel):
    """Tokens of all answers so far."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Batch(BaseModel):
    """A batch. Times in seconds since 1970; ``run_id`` is ours: the run whose events tell how it goes."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    model: str | None
    errors: BatchErrors | None
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
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    usage: BatchUsage
    metadata: dict[str, str] | None
    run_id: str


class BatchList(BaseModel):
    """One page of batches."""

    object: Literal["list"] = "list"
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


def batch(row: BatchRow) -> Batch:
    """A batch as OpenAI describes it."""
    errors = [BatchError(**error) for error in row.errors or ()]
    return Batch(
        id=row.id,
        endpoint=row.endpoint,
        model=row.model or None,
        errors=BatchErrors(data=errors) if errors else None,
        input_file_id=row.input_file_id,
        status=row.status,  # type: ignore[arg-type]  # only ours are written
        output_file_id=row.output_file_id,
        error_file_id=row.error_file_id,
        created_at=int(row.created_at),
        in_progress_at=_at(row, "in_progress"),
        expires_at=int(row.expires_at),
        finalizing_at=_at(row, "finalizing"),
        completed_at=_at(row, "completed"),
        failed_at=_at(row, "failed"),
        expired_at=_at(row, "expired"),
        cancelling_at=_at(row, "cancelling"),
        cancelled_at=_at(row, "cancelled"),
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
        usage=BatchUsage(
            input_tokens=row.prompt_tokens,
            input_tokens_details=InputDetails(cached_tokens=row.cached_tokens),
            output_tokens=row.completion_tokens,
            output_tokens_details=OutputDetails(),
            total_tokens=row.prompt_tokens + row.completion_tokens,
        ),
        metadata=dict(row.spec.get("metadata") or {}) or None,
        run_id=row.run_id,
    )


def _at(row: BatchRow, status: str) -> int | None:
    moment = row.times.get(status)
    return None if moment is None else int(moment)
