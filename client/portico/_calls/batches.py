"""Requests about batches, and how to read what comes back, as `portico._calls` has the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portico import _read as read
from portico._calls.call import Call, at, given, named
from portico.batches import Batch, BatchProblem, BatchResult, CheckedBatch
from portico.errors import InvalidRequest, NotPortico
from portico.values import Page

WINDOW = "24h"

_AFTER_LINE = len('{"id":"batch_req_')


def batch_create(
    input_file: str, endpoint: str, metadata: Mapping[str, str] | None, keep: int | None
) -> Call[Batch]:
    body = given(
        input_file_id=input_file,
        endpoint=endpoint,
        completion_window=WINDOW,
        metadata=dict(metadata) if metadata else None,
        output_expires_after=None if keep is None else {"anchor": "created_at", "seconds": keep},
    )
    return Call("POST", "/v1/batches", batch, json=body)


def batch_check(input_file: str, endpoint: str) -> Call[CheckedBatch]:
    body = {"input_file_id": input_file, "endpoint": endpoint}
    return Call("POST", "/api/batches/check", _checked, json=body, slow=True)


def batches_list(after: str | None, limit: int) -> Call[Page[Batch]]:
    return Call("GET", "/v1/batches", read.page(batch), query=given(after=after, limit=limit))


def batch_get(batch_id: str) -> Call[Batch]:
    return Call("GET", _one(batch_id), batch)


def batch_cancel(batch_id: str) -> Call[Batch]:
    return Call("POST", f"{_one(batch_id)}/cancel", batch)


def written(requests: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]], endpoint: str) -> bytes:
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


def merged(*files: bytes) -> Iterator[BatchResult]:
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
        yield result(json.loads(data[start:end]))


def _number(beginning: bytes) -> int:
    """The line of the input, at the end of the id with which a line begins."""
    number = beginning[_AFTER_LINE:].partition(b'"')[0].rpartition(b"_")[2]
    return int(number) if number.isdigit() else 0


def result(value: Any) -> BatchResult:
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


def batch(value: Any) -> Batch:
    """A batch as the daemon shows it."""
    if not isinstance(value, Mapping):
        raise NotPortico("The answer is not a batch. Is there a Portico daemon at this URL?")
    counts, usage = value.get("request_counts") or {}, value.get("usage") or {}
    return read.value_of(
        Batch,
        value,
        total=int(counts.get("total", 0)),
        completed=int(counts.get("completed", 0)),
        failed=int(counts.get("failed", 0)),
        prompt_tokens=int(usage.get("input_tokens", 0)),
        completion_tokens=int(usage.get("output_tokens", 0)),
        errors=_problems((value.get("errors") or {}).get("data")),
    )


def _checked(value: Any) -> CheckedBatch:
    errors = value.get("errors") if isinstance(value, Mapping) else None
    return read.value_of(CheckedBatch, value, errors=_problems(errors))


def _problems(given: Any) -> tuple[BatchProblem, ...]:
    return tuple(read.value_of(BatchProblem, problem) for problem in given or ())


def _one(batch_id: str) -> str:
    return at("v1", "batches", named(batch_id, "a batch"))
