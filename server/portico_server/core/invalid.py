"""Errors for invalid fields of a request: `InvalidRequest` with a path. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from portico_server.core.errors import InvalidRequest

_NAMES: Mapping[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a whole number",
    float: "a number",
    str: "a string",
    list: "a list",
}


def describe_kind(value: Any) -> str:
    """Return a description of a JSON value's type."""
    type_name = _NAMES.get(type(value))
    return type_name or ("an object" if isinstance(value, Mapping) else type(value).__name__)


def missing(path: str) -> NoReturn:
    """Raise the error for a missing required field."""
    raise InvalidRequest(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def wrong(path: str, problem: str, *, code: str | None = None) -> NoReturn:
    """Raise the error for an invalid value; in the message, ``problem`` follows the path."""
    raise InvalidRequest(f"'{path}' {problem}.", code=code, param=path)


def unsupported(path: str, problem: str) -> NoReturn:
    """Raise the error for a known parameter that would change the answer but is not supported."""
    wrong(path, problem, code="unsupported_parameter")


def wrong_type(path: str, expectation: str, value: Any, *, code: str | None = None) -> NoReturn:
    """Raise the error for a value of a type other than ``expectation``."""
    wrong(path, f"must be {expectation}, not {describe_kind(value)}", code=code or "invalid_type")


def not_one_of(path: str, value: Any, allowed_values: Iterable[str]) -> NoReturn:
    """Raise the error for a value that is not among ``allowed_values``."""
    shown_value = f"'{value[:100]}'" if isinstance(value, str) else describe_kind(value)
    wrong(path, f"is {shown_value}, but must be one of {', '.join(allowed_values)}")
