"""Every error leaves with a real status and in OpenAI's shape, message, type, param and code, or in another one
(`portico_server.api.error_shape`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import orjson

from portico_server.core.errors import (
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    PorticoError,
    Unauthenticated,
    nearest,
)

logger = logging.getLogger(__name__)

RawHeaders = list[tuple[bytes, bytes]]


class NotAllowedHere(MethodNotAllowed):
    """The path exists, the method does not; ``allow`` is the value of the ``Allow`` header."""

    def __init__(self, method: str, path: str, allow: str) -> None:
        super().__init__(f"{path} does not take {method}; it takes {allow}.")
        self.allow = allow


def body(error: PorticoError) -> bytes:
    """The JSON document of an error."""
    return orjson.dumps(error.body().to_json())


def headers(error: PorticoError) -> RawHeaders:
    """The headers that belong to an error, its content type included."""
    raw_headers: RawHeaders = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        raw_headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthenticated):
        where = f', resource_metadata="{error.metadata}"' if error.metadata else ""
        if error.ask_for:
            where += f', scope="{error.ask_for}"'
        if error.code in ("invalid_token", "token_expired"):
            where = f', error="invalid_token"{where}'
        raw_headers.append((b"www-authenticate", f'Bearer realm="portico"{where}'.encode()))
    if isinstance(error, NotAllowedHere):
        raw_headers.append((b"allow", error.allow.encode()))
    return raw_headers


def ours(error: BaseException, request_id: str, *, log: bool = True) -> PorticoError:
    """``error`` as clients see it: itself if it is ours, otherwise a generic one and a log entry."""
    if isinstance(error, PorticoError):
        return error
    if log:
        logger.error("request %s failed", request_id, exc_info=error)
    return PorticoError(f"Something went wrong inside Portico; the log has the details under {request_id}.")


def unknown_url(method: str, path: str, known_paths: Iterable[str]) -> NotFound:
    """404 for a path that no protocol adapter has, with the nearest ones that exist."""
    close = get_close_matches(path[:200], sorted(set(known_paths)), n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(close)}?" if close else " /docs lists every path."
    return NotFound(f"There is nothing at {method} {path[:500]}.{hint}", code="unknown_url")


def invalid_json(error: orjson.JSONDecodeError) -> InvalidRequest:
    """400 for a body that is not JSON, or JSON beyond what we take (NaN, nesting, numbers)."""
    problem = str(error).partition(": line")[0]
    return InvalidRequest(
        f"The body is not valid JSON: {problem} at line {error.lineno}, column {error.colno}.",
        code="invalid_json",
    )


def unknown_parameter(path: str, known_parameters: Iterable[str]) -> InvalidRequest:
    """400 for a field that a body does not have, with the nearest of those that it has."""
    hint = nearest(path.rpartition(".")[2], known_parameters)
    return InvalidRequest(f"Unknown parameter: '{path}'.{hint}", code="unknown_parameter", param=path)


_UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")
"""What pydantic calls a field that a model, and one that a data class does not have."""


def from_validation(
    problems: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None = None
) -> InvalidRequest:
    """The problem that pydantic found, as a 400 with a path such as ``items[2].name``.

    Of several it is the first, but an unknown field before all others: it may be the misspelt name of one that is
    missing. ``schema`` is the JSON schema of the body.
    """
    unknown = [problem for problem in problems if problem.get("type") in _UNKNOWN_FIELD]
    problem = (unknown or problems)[0]
    definitions = (schema or {}).get("$defs", {})
    message = str(problem.get("msg", "is not right")).removeprefix("Value error, ")
    if problem.get("type") == "dataclass_type":
        message = "Input should be a valid dictionary or object to extract fields from"
    other_count = len(problems) - 1
    if not unknown and (of_one := _alternatives(problem, problems, definitions)):
        problem, message = _expectation(of_one)
        other_count = len(problems) - len(of_one)
    path = _path([part for part in problem.get("loc", ()) if not _is_kind(part, definitions)])
    if problem.get("type") == "missing":
        subject = f"'{path}'" if path else "a JSON object as body"
        return InvalidRequest(
            f"Missing required parameter: {subject}.", code="missing_required_parameter", param=path or None
        )
    if unknown:
        return unknown_parameter(path, _siblings(schema or {}, problem["loc"][1:-1]))
    suffix = f" ({other_count} more)" if other_count else ""
    where = f"'{path}'" if path else "The body"
    return InvalidRequest(f"{where}: {message[:1].lower()}{message[1:]}.{suffix}", param=path or None)


def _is_kind(part: str | int, definitions: Mapping[str, Any]) -> bool:
    """Whether a part of a location names an alternative of a union that pydantic tried there, instead of a field."""
    return isinstance(part, str) and (part in _KINDS or part.endswith("]") or part in definitions)


_KINDS = ("str", "int", "float", "bool")


def _alternatives(
    problem: Mapping[str, Any], problems: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """What is wrong with a value by all alternatives of its union, if it has one."""
    location = problem.get("loc", ())
    at = next((at for at, part in enumerate(location) if at and _is_kind(part, definitions)), 0)
    return [each for each in problems if at and tuple(each["loc"][:at]) == tuple(location[:at])]


def _expectation(alternatives: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], str]:
    """The problem within the alternative that fitted furthest, or what all of them expect; and its message."""
    furthest = max(alternatives, key=lambda problem: len(problem["loc"]))
    within = [alternative for alternative in alternatives if len(alternative["loc"]) == len(furthest["loc"])]
    expectations = dict.fromkeys(str(problem["msg"]).removeprefix("Input should be ") for problem in within)
    if len(within) == 1 or not all(str(problem["msg"]).startswith("Input should be ") for problem in within):
        return furthest, str(furthest["msg"]).removeprefix("Value error, ")
    return furthest, f"Input should be {' or '.join(expectations)}"


def _siblings(schema: Mapping[str, Any], location: Sequence[str | int]) -> list[str]:
    """The names of the fields at a place of a JSON schema."""
    definitions = schema.get("$defs", {})
    at = [schema]
    for part in (*location, None):
        for one in at:  # grows while it is read: what stands behind references and alternatives
            at += one.get("anyOf", ())
            if "$ref" in one:
                at.append(definitions[one["$ref"].rpartition("/")[2]])
        if part is not None:
            below = [
                one.get("items") if isinstance(part, int) else one.get("properties", {}).get(part)
                for one in at
            ]
            at = [one for one in below if one] or at  # a part may name an alternative, and no field
    return [name for one in at for name in one.get("properties", ())]


def _path(location: Sequence[str | int]) -> str:
    """``("body", "items", 2, "name")`` → ``items[2].name``."""
    text = ""
    for part in location[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
