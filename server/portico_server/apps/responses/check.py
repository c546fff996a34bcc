"""What must be right in a request for a response: values in, `InvalidRequest` with a path out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from portico_server.core.invalid import kind_of, missing, wrong, wrong_type

__all__ = [
    "MAX_DEPTH",
    "flag",
    "item",
    "items",
    "missing",
    "needed",
    "not_one_of",
    "number",
    "shallow",
    "text",
    "texts",
    "unsupported",
    "whole",
    "wrong",
    "wrong_type",
]

MAX_DEPTH = 100
"""Levels of lists and objects in what is echoed: schemas, filters, metadata."""


def unsupported(path: str, what: str) -> NoReturn:
    """The parameter is known, would change the answer, and nothing here does it."""
    wrong(path, what, code="unsupported_parameter")


def not_one_of(path: str, value: Any, words: Sequence[str]) -> NoReturn:
    """The parameter is a word that is not known."""
    shown = f"'{value[:100]}'" if isinstance(value, str) else kind_of(value)
    wrong(path, f"is {shown}, but must be one of {', '.join(words)}")


def text(value: Any, path: str) -> str:
    """A string."""
    if not isinstance(value, str):
        wrong_type(path, "a string", value)
    return value


def needed(holder: Mapping[str, Any], name: str, path: str) -> str:
    """The string ``name`` of an object, which must be there and not be empty."""
    value = holder.get(name)
    if value is None or value == "":
        missing(f"{path}.{name}")
    return text(value, f"{path}.{name}")


def flag(value: Any, path: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        wrong_type(path, "true or false", value)
    return value


def number(value: Any, path: str, low: float, high: float) -> float:
    """A number in a range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        wrong_type(path, f"a number from {low:g} to {high:g}", value)
    if not low <= value <= high:
        wrong(path, f"is {value}, but must be from {low:g} to {high:g}")
    return value


def whole(value: Any, path: str, low: int, high: int | None = None) -> int:
    """A whole number in a range."""
    wanted = f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int):
        wrong_type(path, wanted, value)
    if value < low or (high is not None and value > high):
        wrong(path, f"is {value}, but must be {wanted}")
    return value


def item(value: Any, path: str, wanted: str = "an object") -> dict[str, Any]:
    """An object."""
    if not isinstance(value, dict):
        wrong_type(path, wanted, value)
    return value


def items(value: Any, path: str, wanted: str = "a list") -> list[Any]:
    """A list."""
    if not isinstance(value, list):
        wrong_type(path, wanted, value)
    return value


def texts(value: Any, path: str) -> list[str]:
    """A list of strings."""
    return [text(one, f"{path}[{n}]") for n, one in enumerate(items(value, path, "a list of strings"))]


def shallow(value: Any, path: str, depth: int = MAX_DEPTH) -> Any:
    """The value itself, unless it is nested too deep to be told again."""
    if isinstance(value, dict | list):
        if depth == 0:
            wrong(path.partition("[")[0].partition(".")[0], f"is nested more than {MAX_DEPTH} levels deep")
        for one in value.values() if isinstance(value, dict) else value:
            if isinstance(one, dict | list):
                shallow(one, path, depth - 1)
    return value
