"""Batches: their status, the errors in their files, and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from portico._read import Page
from portico.schemas import json_at
from portico.schemas.resource import Column, Resource, Verb

ENDED = ("completed", "failed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """An error in an input file; ``line`` is set if the error belongs to a single line."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. ``status``: ``validating``, ``in_progress``, ``finalizing``, ``completed``, ``cancelling``,
    ``cancelled``, ``expired`` or ``failed``. Times are in seconds since 1970. ``completed`` and ``failed`` count
    requests; the rest of ``total`` has not been processed.
    """

    id: str
    endpoint: str
    status: str
    created_at: float
    expires_at: float
    run_id: str = ""
    model: str | None = None
    input_file_id: str = ""
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = field(default=0, metadata=json_at("request_counts.total"))
    completed: int = field(default=0, metadata=json_at("request_counts.completed"))
    failed: int = field(default=0, metadata=json_at("request_counts.failed"))
    prompt_tokens: int = field(default=0, metadata=json_at("usage.input_tokens"))
    completion_tokens: int = field(default=0, metadata=json_at("usage.output_tokens"))
    in_progress_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelled_at: float | None = None
    errors: tuple[BatchProblem, ...] = field(default=(), metadata=json_at("errors.data"))
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def ended(self) -> bool:
        return self.status in ENDED

    @property
    def ended_at(self) -> float | None:
        """When the batch completed, failed, expired or was cancelled; ``None`` if it has not ended."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    @property
    def done(self) -> int:
        """Number of requests processed."""
        return self.completed + self.failed

    @property
    def progress(self) -> str:
        """The number of processed requests, such as ``3 of 10``; empty before the requests are counted."""
        return f"{self.done:,} of {self.total:,}" if self.total else ""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request: ``status_code`` and ``body``, or ``error`` if the request got no response.

    ``line`` is the number of the request's line in the input file, from 1.
    """

    line: int
    custom_id: str
    status_code: int | None = None
    body: Any = None
    request_id: str | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.status_code is not None and self.status_code < 400


@dataclass(frozen=True, slots=True)
class CheckedBatch:
    """The result of checking an input file: the number of requests, their model, and the errors."""

    total: int
    model: str | None
    errors: tuple[BatchProblem, ...]


BATCHES = Resource(
    "Batches",
    "/v1/batches",
    "Many requests in a file, processed in the background.",
    {"batch_id": "a batch"},
    (
        Verb("list", "GET", Page[Batch]),
        Verb("get", "GET {batch_id}", Batch),
        Verb("cancel", "POST {batch_id}/cancel", Batch),
    ),
    columns=(
        Column("ID"),
        Column("ENDPOINT"),
        Column("MODEL"),
        Column("STATUS"),
        Column("DONE", "progress"),
        Column("FAILED", kind="count"),
        Column("BEGAN", "created_at", kind="moment"),
    ),
)
