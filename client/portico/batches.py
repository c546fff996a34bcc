"""Input files of batches, and the results in their output files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portico.errors import InvalidRequest, NotPortico
from portico.schemas.batches import BatchResult

_AFTER_LINE = len('{"id":"batch_req_')


def requests_file(
    requests: Mapping[str, Mapping[str, Any]] | Iterable[Mapping[str, Any]], endpoint: str
) -> bytes:
    """Return an input file for a batch. ``custom_id`` is each request's key in the mapping, or else ``request-1`` and
    so on.
    """
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
    """Yield the results in a batch's output and error files, in the order of the input file."""
    results: list[tuple[int, bytes, int, int]] = []
    for data in files:
        start = 0
        while start < len(data):
            end = data.find(b"\n", start)
            end = len(data) if end < 0 else end
            if end > start:
                results.append((_number(data[start : start + 128]), data, start, end))
            start = end + 1
    results.sort(key=lambda item: item[0])
    for _line, data, start, end in results:
        yield _result(json.loads(data[start:end]))


def _number(beginning: bytes) -> int:
    """Return the number of the input line, which is the last part of the id at the beginning of a result line."""
    number = beginning[_AFTER_LINE:].partition(b'"')[0].rpartition(b"_")[2]
    return int(number) if number.isdigit() else 0


def _result(value: Any) -> BatchResult:
    """Parse a line of an output or error file."""
    if not isinstance(value, Mapping):
        raise NotPortico("The file is not a results file of a batch.")
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
