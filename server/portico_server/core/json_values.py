"""Parsing of external JSON: a single value with its path, or an object field by field. Pure.

Every function returns the typed value, or raises `InvalidRequest` with the path of the invalid value.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.core.invalid import missing, not_one_of, wrong, wrong_type

MAX_DEPTH = 100
"""Maximum nesting depth of lists and objects in a value that a response repeats, such as a schema, a filter or
metadata.
"""


def text(value: Any, path: str, *, code: str | None = None) -> str:
    """Return a string."""
    if not isinstance(value, str):
        wrong_type(path, "a string", value, code=code)
    return value


def flag(value: Any, path: str, *, code: str | None = None) -> bool:
    """Return a boolean."""
    if not isinstance(value, bool):
        wrong_type(path, "true or false", value, code=code)
    return value


def number(value: Any, path: str, low: float, high: float, *, code: str | None = None) -> float:
    """Return the value if it is a number from ``low`` to ``high``. A boolean is not a number."""
    limits = f"from {low:g} to {high:g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        wrong_type(path, f"a number {limits}", value, code=code)
    if not low <= value <= high:
        wrong(path, f"is {value}, but must be {limits}", code=code)
    return value


def integer(value: Any, path: str, low: int, high: int | None = None, *, code: str | None = None) -> int:
    """Return the value if it is a whole number from ``low`` to ``high``, which may be unlimited. A boolean is not a
    number.
    """
    expectation = (
        f"a whole number of at least {low}" if high is None else f"a whole number from {low} to {high}"
    )
    if isinstance(value, bool) or not isinstance(value, int):
        wrong_type(path, expectation, value, code=code)
    if value < low or (high is not None and value > high):
        wrong(path, f"is {value}, but must be {expectation}", code=code)
    return value


def mapping(
    value: Any, path: str, expectation: str = "an object", *, code: str | None = None
) -> dict[str, Any]:
    """Return an object."""
    if not isinstance(value, dict):
        wrong_type(path, expectation, value, code=code)
    return value


def items(value: Any, path: str, expectation: str = "a list", *, code: str | None = None) -> list[Any]:
    """Return a list."""
    if not isinstance(value, list):
        wrong_type(path, expectation, value, code=code)
    return value


def texts(value: Any, path: str, *, code: str | None = None) -> list[str]:
    """Return a list of strings."""
    item_list = items(value, path, "a list of strings", code=code)
    return [text(item, f"{path}[{index}]", code=code) for index, item in enumerate(item_list)]


def one_of(value: Any, path: str, allowed_values: tuple[str, ...]) -> str:
    """Return the value if it is one of ``allowed_values``; it must be present."""
    if value is None:
        missing(path)
    if value not in allowed_values:
        not_one_of(path, value, allowed_values)
    word: str = value
    return word


def required_text(holder: Mapping[str, Any], name: str, path: str, *, empty: bool = True) -> str:
    """Return the string ``name`` in ``holder``, which must be present; with ``empty``, it may be an empty string."""
    value, at = holder.get(name), f"{path}.{name}" if path else name
    if value is None:
        missing(at)
    string = text(value, at)
    if not string and not empty:
        wrong(at, "must not be empty")
    return string


def needed(holder: Mapping[str, Any], name: str, path: str) -> str:
    """Return the string ``name`` in ``holder``. An empty string counts as missing."""
    value = holder.get(name)
    if value is None or value == "":
        missing(f"{path}.{name}")
    return text(value, f"{path}.{name}")


def optional_text(holder: Mapping[str, Any], name: str, path: str) -> str | None:
    """Return the string ``name`` in ``holder``, or ``None`` if it is absent."""
    value = holder.get(name)
    return None if value is None else text(value, f"{path}.{name}")


def optional_mapping(holder: Mapping[str, Any], name: str, path: str) -> dict[str, Any] | None:
    """Return the object ``name`` in ``holder``, or ``None`` if it is absent."""
    value = holder.get(name)
    return None if value is None else mapping(value, f"{path}.{name}")


def optional_flag(holder: Mapping[str, Any], name: str, path: str) -> bool:
    """Return the boolean ``name`` in ``holder``, or false if it is absent."""
    value = holder.get(name)
    return value is not None and flag(value, f"{path}.{name}")


def shallow(value: Any, path: str, depth: int = MAX_DEPTH) -> Any:
    """Return the value unless it is nested too deeply to be repeated in a response."""
    if isinstance(value, dict | list):
        if depth == 0:
            wrong(path.partition("[")[0].partition(".")[0], f"is nested more than {MAX_DEPTH} levels deep")
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, dict | list):
                shallow(inner, path, depth - 1)
    return value


class JsonObject:
    """Reads the fields of an object by name; `done` rejects the fields that were not read.

    ``null`` means absent. ``code`` is the code of every error except the error for an unknown field.
    """

    def __init__(self, value: Any, at: str, *, code: str = "invalid_spec") -> None:
        if not isinstance(value, Mapping):
            wrong_type(at, "an object", value, code=code)
        self._left = dict(value)
        self._known: list[str] = []
        self._code = code
        self.at = at

    def path(self, key: str) -> str:
        return f"{self.at}.{key}"

    def raw(self, key: str) -> Any:
        """Return a field of any type; ``None`` if it is absent."""
        self._known.append(key)
        return self._left.pop(key, None)

    def text(self, key: str, default: str = "") -> str:
        value = self.raw(key)
        return default if value is None else text(value, self.path(key), code=self._code)

    def required_text(self, key: str, purpose: str) -> str:
        """Return a required string; ``purpose`` describes it in the error."""
        value = self.text(key)
        if not value:
            raise InvalidRequest(
                f"{self.at} needs '{key}': {purpose}.", code=self._code, param=self.path(key)
            )
        return value

    def integer(self, key: str, default: int, *, minimum: int = 0, limit: int = 10**9) -> int:
        value = self.raw(key)
        return default if value is None else integer(value, self.path(key), minimum, limit, code=self._code)

    def number(
        self, key: str, default: float | None, *, minimum: float = 0.0, maximum: float = 1e9
    ) -> float | None:
        value = self.raw(key)
        if value is None:
            return default if default is None else float(default)
        return float(number(value, self.path(key), minimum, maximum, code=self._code))

    def flag(self, key: str, default: bool | None = False) -> bool | None:
        value = self.raw(key)
        return default if value is None else flag(value, self.path(key), code=self._code)

    def items(self, key: str) -> list[Any] | None:
        value = self.raw(key)
        return None if value is None else items(value, self.path(key), code=self._code)

    def mapping(self, key: str) -> dict[str, Any] | None:
        value = self.raw(key)
        return None if value is None else mapping(value, self.path(key), code=self._code)

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.raw(key)
        return () if value is None else tuple(texts(value, self.path(key), code=self._code))

    def has(self, key: str) -> bool:
        return key in self._left

    def is_mapping(self, key: str) -> bool:
        return isinstance(self._left.get(key), Mapping)

    def check_unread(self) -> None:
        for key in self._left:
            raise InvalidRequest(
                f"{self.at} has no field '{key}'.{nearest(key, self._known)}",
                code="unknown_field",
                param=self.path(key),
            )
