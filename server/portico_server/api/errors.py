"""Errors: each has a meaningful HTTP status and OpenAI's fields message, type, param and code, or is written in
another protocol's format (`portico_server.api.error_shape`).
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
    """An error for an existing path with an unsupported method. ``allow`` is the value of the ``Allow`` header."""

    def __init__(self, method: str, path: str, allow: str) -> None:
        super().__init__(f"{path} does not support {method}; use {allow}.")
        self.allow = allow


class UpgradeRequired(PorticoError):
    """An error for a request without an upgrade to a path that is a WebSocket."""

    status = 426
    type = "invalid_request_error"
    code = "upgrade_required"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path} is a WebSocket, but this request has no 'Upgrade: websocket' in HTTP/1.1. If the client sends it, "
            "let the proxy between them pass the headers Upgrade and Connection on."
        )


def body(error: PorticoError) -> bytes:
    """Return an error as a JSON document."""
    return orjson.dumps(error.body().to_json())


def headers(error: PorticoError) -> RawHeaders:
    """Return the headers of an error response, including its content type."""
    raw_headers: RawHeaders = [(b"content-type", b"application/json")]
    if error.retry_after is not None:
        raw_headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after))).encode()))
    if isinstance(error, Unauthenticated):
        challenge = f', resource_metadata="{error.metadata}"' if error.metadata else ""
        if error.ask_for:
            challenge += f', scope="{error.ask_for}"'
        if error.code in ("invalid_token", "token_expired"):
            challenge = f', error="invalid_token"{challenge}'
        raw_headers.append((b"www-authenticate", f'Bearer realm="portico"{challenge}'.encode()))
    if isinstance(error, UpgradeRequired):
        raw_headers += [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    if isinstance(error, NotAllowedHere):
        raw_headers.append((b"allow", error.allow.encode()))
    return raw_headers


def to_portico_error(error: BaseException, request_id: str, *, log: bool = True) -> PorticoError:
    """Return the error that clients see: a `PorticoError` unchanged; any other error is logged and becomes a generic
    error.
    """
    if isinstance(error, PorticoError):
        return error
    if log:
        logger.error("request %s failed", request_id, exc_info=error)
    return PorticoError(f"Internal error in Portico; the log has the details under {request_id}.")


def unknown_url(method: str, path: str, known_paths: Iterable[str]) -> NotFound:
    """Return a 404 for a path that no protocol adapter serves. It names the nearest existing paths."""
    close = get_close_matches(path[:200], sorted(set(known_paths)), n=2, cutoff=0.6)
    hint = f" Did you mean {' or '.join(close)}?" if close else " /docs lists every path."
    return NotFound(f"Nothing is served at {method} {path[:500]}.{hint}", code="unknown_url")


def invalid_json(error: orjson.JSONDecodeError) -> InvalidRequest:
    """Return a 400 for a body that is not JSON or contains unsupported JSON (NaN, nesting, numbers)."""
    problem = str(error).partition(": line")[0]
    return InvalidRequest(
        f"The body is not valid JSON: {problem} at line {error.lineno}, column {error.colno}.",
        code="invalid_json",
    )


def unknown_parameter(path: str, known_parameters: Iterable[str]) -> InvalidRequest:
    """Return a 400 for an unknown field in a body. It names the nearest known fields."""
    hint = nearest(path.rpartition(".")[2], known_parameters)
    return InvalidRequest(f"Unknown parameter: '{path}'.{hint}", code="unknown_parameter", param=path)


_UNKNOWN_FIELD = ("extra_forbidden", "unexpected_keyword_argument")
"""Pydantic's error types for an unknown field: of a model, and of a data class."""


def from_validation(
    problems: Sequence[Mapping[str, Any]], schema: Mapping[str, Any] | None = None
) -> InvalidRequest:
    """Return pydantic's problems as one 400 with a path such as ``items[2].name``.

    The 400 reports the first problem, except that an unknown field takes precedence: it may be a misspelling of a
    missing field. ``schema`` is the JSON schema of the body.
    """
    unknown = [problem for problem in problems if problem.get("type") in _UNKNOWN_FIELD]
    problem = (unknown or problems)[0]
    definitions = (schema or {}).get("$defs", {})
    message = str(problem.get("msg", "is invalid")).removeprefix("Value error, ")
    if problem.get("type") == "dataclass_type":
        message = "Input should be a valid dictionary or object to extract fields from"
    other_count = len(problems) - 1
    if not unknown and (of_one := _alternatives(problem, problems, definitions)):
        problem, message = _expectation(of_one)
        other_count = len(problems) - len(of_one)
    path = _path([part for part in problem.get("loc", ()) if not _is_kind(part, definitions)])
    if problem.get("type") == "missing":
        subject = f"'{path}'" if path else "a JSON object as the body"
        return InvalidRequest(
            f"Missing required parameter: {subject}.", code="missing_required_parameter", param=path or None
        )
    if unknown:
        return unknown_parameter(path, _siblings(schema or {}, problem["loc"][1:-1]))
    suffix = f" ({other_count} more)" if other_count else ""
    place = f"'{path}'" if path else "The body"
    return InvalidRequest(f"{place}: {message[:1].lower()}{message[1:]}.{suffix}", param=path or None)


def _is_kind(part: str | int, definitions: Mapping[str, Any]) -> bool:
    """Return whether a part of a location names an alternative of a union that pydantic tried, and not a field."""
    return isinstance(part, str) and (part in _KINDS or part.endswith("]") or part in definitions)


_KINDS = ("str", "int", "float", "bool")


def _alternatives(
    problem: Mapping[str, Any], problems: Sequence[Mapping[str, Any]], definitions: Mapping[str, Any]
) -> Sequence[Mapping[str, Any]]:
    """Return the problems of a value for all alternatives of its union; empty if the value has no union type."""
    location = problem.get("loc", ())
    at = next((at for at, part in enumerate(location) if at and _is_kind(part, definitions)), 0)
    return [entry for entry in problems if at and tuple(entry["loc"][:at]) == tuple(location[:at])]


def _expectation(alternatives: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], str]:
    """Return the problem of the best-matching alternative, and its message. If several alternatives match equally
    well, the message names what each of them expects.
    """
    furthest = max(alternatives, key=lambda problem: len(problem["loc"]))
    within = [alternative for alternative in alternatives if len(alternative["loc"]) == len(furthest["loc"])]
    expectations = dict.fromkeys(str(problem["msg"]).removeprefix("Input should be ") for problem in within)
    if len(within) == 1 or not all(str(problem["msg"]).startswith("Input should be ") for problem in within):
        return furthest, str(furthest["msg"]).removeprefix("Value error, ")
    return furthest, f"Input should be {' or '.join(expectations)}"


def _siblings(schema: Mapping[str, Any], location: Sequence[str | int]) -> list[str]:
    """Return the names of the fields at a location of a JSON schema."""
    definitions = schema.get("$defs", {})
    at = [schema]
    for part in (*location, None):
        for entry in at:  # the list grows during iteration, by the targets of references and by alternatives
            at += entry.get("anyOf", ())
            if "$ref" in entry:
                at.append(definitions[entry["$ref"].rpartition("/")[2]])
        if part is not None:
            below = [
                entry.get("items") if isinstance(part, int) else entry.get("properties", {}).get(part)
                for entry in at
            ]
            at = [
                entry for entry in below if entry
            ] or at  # a part may name an alternative instead of a field
    return [name for entry in at for name in entry.get("properties", ())]


def _path(location: Sequence[str | int]) -> str:
    """Return the location as a path: ``("body", "items", 2, "name")`` → ``items[2].name``."""
    text = ""
    for part in location[1:]:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
