"""The lines of a batch's input file, checked and parsed.

Format: https://platform.openai.com/docs/guides/batch and https://platform.openai.com/docs/api-reference/batch
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from portico.schemas.batches import BatchProblem
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import nearest
from portico_server.features.batches.spec import MAX_FILE_BYTES, MAX_LINES, CheckedLines

MAX_PROBLEMS: Final = 100
"""Maximum number of problems reported for a file."""

MAX_ID_CHARS: Final = 512
"""Maximum length of a custom_id, in characters."""

BLOCK_LINES: Final = 64
"""Maximum number of requests in a block."""

BLOCK_BYTES: Final = 4 * 1024 * 1024
"""Total size of requests, in bytes, above which a block ends."""

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class BatchLine:
    """One request of a file; ``line`` is its line number, and ``body`` is JSON."""

    line: int
    custom_id: str
    body: bytes


class _InvalidLine(Exception):
    """A line is invalid."""

    def __init__(self, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.param = code, message, param


def check(path: Path, endpoint: str, longest: int) -> CheckedLines:
    """Check the whole file line by line. ``longest`` is the maximum size of a line in bytes. Slow: do not call it in
    the event loop.
    """
    if path.stat().st_size > MAX_FILE_BYTES:
        words = f"The file exceeds {MAX_FILE_BYTES // 1024**2} MB, the maximum for a batch. Split it."
        return CheckedLines(0, "", (BatchProblem("file_too_large", words, "input_file_id"),))
    problems: list[BatchProblem] = []
    seen_ids: set[str] = set()
    total, model = 0, ""
    with path.open("rb") as file:
        for number, raw in _raw(file, longest):
            total += 1
            if total > MAX_LINES:
                words = f"The file has more than {MAX_LINES:,} requests, the maximum for a batch. Split it."
                return CheckedLines(total, model, (BatchProblem("too_many_tasks", words, "input_file_id"),))
            if len(problems) >= MAX_PROBLEMS:
                continue
            try:
                model = _require(raw, endpoint, longest, seen_ids, model)
            except _InvalidLine as wrong:
                problems.append(BatchProblem(wrong.code, wrong.message, wrong.param, number))
    if not total:
        words = (
            "The file is empty. Each line must be one request as JSON, with custom_id, method, url and body."
        )
        problems.append(BatchProblem("empty_file", words, "input_file_id"))
    return CheckedLines(total, model, tuple(problems))


def _require(raw: bytes, endpoint: str, longest: int, seen_ids: set[str], model: str) -> str:
    """Check a line and return the model that it names; if ``model`` is empty, any model is valid. Raises
    `_InvalidLine`.
    """
    if len(raw) > longest:
        limit = longest // 1024**2
        raise _InvalidLine(
            "request_too_large", f"The line exceeds {limit} MB, the maximum size of a request."
        )
    value = _object(raw)
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= MAX_ID_CHARS:
        raise _InvalidLine(
            *_lacks("custom_id", f"a string of 1 to {MAX_ID_CHARS} characters", custom_id), "custom_id"
        )
    if custom_id in seen_ids:
        words = f"Another line has the same custom_id '{custom_id[:80]}'; each must be unique."
        raise _InvalidLine("duplicate_custom_id", words, "custom_id")
    seen_ids.add(custom_id)
    if value.get("method") != "POST":
        raise _InvalidLine(*_lacks("method", "'POST'", value.get("method")), "method")
    if value.get("url") != endpoint:
        if not value.get("url"):
            raise _InvalidLine(*_lacks("url", f"'{endpoint}'", None), "url")
        words = f"The url '{str(value['url'])[:80]}' is not the endpoint of the batch, '{endpoint}'."
        raise _InvalidLine("url_mismatch", words, "url")
    body = value.get("body")
    if not isinstance(body, dict):
        raise _InvalidLine(*_lacks("body", "a JSON object", body), "body")
    return _model(body, model)


def _model(body: dict[str, Any], model: str) -> str:
    model_name = body.get("model")
    if not isinstance(model_name, str) or not model_name:
        raise _InvalidLine(*_lacks("body.model", "the name of a model or an app", model_name), "body.model")
    for field in ("stream", "background"):
        if body.get(field):
            words = (
                f"'{field}' has no meaning in a batch, because the answers are written to a file; leave it "
                "out."
            )
            raise _InvalidLine("unsupported_parameter", words, f"body.{field}")
    if model and model_name != model:
        words = (
            f"The model '{model_name[:80]}' differs from the first line's model, '{model[:80]}'; create a "
            "batch for each model."
        )
        raise _InvalidLine("model_mismatch", words + nearest(model_name, [model]), "body.model")
    return model_name


def _object(raw: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        problem = str(error).partition(": line")[0]
        raise _InvalidLine(
            "invalid_json_line", f"This line is not JSON: {problem}, at column {error.colno}."
        ) from None
    if not isinstance(value, dict):
        raise _InvalidLine("invalid_json_line", "This line is not a JSON object.")
    return value


def _lacks(name: str, expectation: str, value: object) -> tuple[str, str]:
    if value is None:
        return "missing_required_parameter", f"'{name}' is missing; it must be {expectation}."
    return "invalid_value", f"'{name}' must be {expectation}."


def _raw(file: BinaryIO, longest: int) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers from 1. A line above ``longest`` bytes is cut, but still
    exceeds ``longest``.
    """
    number = 0
    while raw := file.readline(longest + 2):
        number += 1
        remainder = raw
        while not remainder.endswith(b"\n") and (remainder := file.readline(1024 * 1024)):
            pass
        text = raw.removeprefix(_BOM) if number == 1 else raw
        if text := text.strip():
            yield number, text


def blocks(path: Path, done_lines: Collection[int], longest: int) -> Iterator[list[BatchLine]]:
    """Yield blocks of the requests of a checked file, except the lines in ``done_lines``."""
    block: list[BatchLine] = []
    size = 0
    with path.open("rb") as file:
        for number, raw in _raw(file, longest):
            if number in done_lines:
                continue
            value = orjson.loads(raw)
            line = BatchLine(number, value["custom_id"], orjson.dumps(value["body"]))
            block.append(line)
            size += len(line.body)
            if len(block) == BLOCK_LINES or size > BLOCK_BYTES:
                yield block
                block, size = [], 0
    if block:
        yield block
