"""What the SDK says of batches: where they stand, what is wrong with their files, and what was answered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.errors import InvalidRequest, NotPortico
from portico.schemas import json_at

ENDED = ("completed", "failed", "expired", "cancelled")

_AFTER_LINE = len('{"id":"batch_req_')


@dataclass(frozen=True, slots=True)
class BatchProblem:
    """What is wrong with a file, at a ``line`` from 1, or what ended a batch."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch. ``status``: ``validating``, ``in_progress``, ``finalizing``, ``completed``, ``cancelling``,
    ``cancelled``, ``expired`` or ``failed``. Times in seconds since 1970; of ``total`` requests, those neither
    ``completed`` nor ``failed`` were not asked, or not yet.
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
        """When it ended, however that was."""
        return self.completed_at or self.failed_at or self.expired_at or self.cancelled_at

    @property
    def done(self) -> int:
        """Requests that were asked."""
        return self.completed + self.failed


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What one request was answered with: ``status_code`` and ``body``, or the ``error`` for which it has neither.

    ``line`` is that of the input, from 1.
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
    """What a file holds: so many requests for ``model``, if there are no ``errors``."""

    total: int
    model: str | None = None
    errors: tuple[BatchProblem, ...] = ()


def requests_file(
    requests: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]], endpoint: str
) -> bytes:
    """Bodies of requests as the file of a batch, under their own names or ``request-1`` and so on."""
    if isinstance(requests, Mapping):
        pairs = list(requests.items())
    else:
        pairs = [(f"request-{number}", body) for number, body in enumerate(requests, 1)]
    if not pairs:
        raise InvalidRequest("A batch needs at least one request.", param="requests")
    return b"".join(
        json.dumps(
            {"custom_id": name, "method": "POST", "url": endpoint, "body": dict(body)}, ensure_ascii=False
        ).encode()
        + b"\n"
        for name, body in pairs
    )


def results_of(*files: bytes) -> Iterator[BatchResult]:
    """The lines of the files of a batch together, in the order of its input."""
    found: list[tuple[int, bytes, int, int]] = []
    for data in files:
        start = 0
        while start < len(data):
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
            if end > start:
                found.append((_number(data[start : start + 128]), data, start, end))
            start = end + 1
    found.sort(key=lambda item: item[0])
    for _line, data, start, end in found:
        yield _result(json.loads(data[start:end]))


def _number(beginning: bytes) -> int:
    """The line of the input, at the end of the id with which a line begins."""
    number = beginning[_AFTER_LINE:].partition(b'"')[0].rpartition(b"_")[2]
    return int(number) if number.isdigit() else 0


def _result(value: Any) -> BatchResult:
    """A line of a file of results or of errors."""
    if not isinstance(value, Mapping):
        raise NotPortico("The file is not one of the results of a batch.")
    response, error = value.get("response") or {}, value.get("error") or {}
    body = response.get("body")
    if not error and isinstance(body, Mapping) and response.get("status_code", 0) >= 400:
        error = body.get("error") or {}
    return BatchResult(
        _number(f'{{"id":"{value.get("id", "")}"'.encode()),
        str(value.get("custom_id", "")),
        response.get("status_code"),
        body,
        response.get("request_id"),
        str(error.get("message") or ""),
    )
