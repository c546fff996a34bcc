"""Reading one JSON object of a specification, field by field, with the path of whatever is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from portico.model_options import flat_options, unknown_option
from portico_server.core.errors import InvalidRequest, nearest

T = TypeVar("T")


class Fields:
    """An object whose fields are taken one by one; `done` refuses those that nobody took."""

    def __init__(self, value: Any, at: str) -> None:
        if not isinstance(value, Mapping):
            raise InvalidRequest(
                f"{at} must be an object, not {_name(value)}.", code="invalid_spec", param=at
            )
        self._left = dict(value)
        self._known: list[str] = []
        self.at = at

    def path(self, key: str) -> str:
        return f"{self.at}.{key}"

    def _take(self, key: str, kind: type[T] | tuple[type, ...], default: Any, noun: str) -> Any:
        self._known.append(key)
        value = self._left.pop(key, None)
        if value is None:
            return default
        # A bool is an int to Python and to nobody else.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidRequest(
                f"{self.path(key)} must be {noun}, not {_name(value)}.",
                code="invalid_spec",
                param=self.path(key),
            )
        return value

    def text(self, key: str, default: str = "") -> str:
        found: str = self._take(key, str, default, "text")
        return found

    def needed(self, key: str, what: str) -> str:
        """A text that cannot be left out; ``what`` says what belongs there."""
        found = self.text(key)
        if not found:
            raise InvalidRequest(
                f"{self.at} needs '{key}': {what}.", code="invalid_spec", param=self.path(key)
            )
        return found

    def whole(self, key: str, default: int, *, least: int = 0, most: int = 10**9) -> int:
        found: int = self._take(key, int, default, "a whole number")
        self._within(key, found, least, most)
        return found

    def number(
        self, key: str, default: float | None, *, least: float = 0.0, most: float = 1e9
    ) -> float | None:
        found = self._take(key, (int, float), default, "a number")
        if found is not None:
            self._within(key, found, least, most)
        return found if found is None else float(found)

    def _within(self, key: str, found: float, least: float, most: float) -> None:
        if not least <= found <= most:
            raise InvalidRequest(
                f"{self.path(key)} is {found:g}; it must be from {least:g} to {most:g}.",
                code="invalid_spec",
                param=self.path(key),
            )

    def flag(self, key: str, default: bool | None = False) -> bool | None:
        found: bool | None = self._take(key, bool, default, "true or false")
        return found

    def items(self, key: str) -> list[Any] | None:
        found: list[Any] | None = self._take(key, list, None, "a list")
        return found

    def mapping(self, key: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._take(key, dict, None, "an object")
        return found

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.items(key) or []
        for number, item in enumerate(found):
            if not isinstance(item, str):
                at = f"{self.path(key)}[{number}]"
                raise InvalidRequest(f"{at} must be text, not {_name(item)}.", code="invalid_spec", param=at)
        return tuple(found)

    def raw(self, key: str) -> Any:
        """A field of any type; ``None`` if it is not there."""
        self._known.append(key)
        return self._left.pop(key, None)

    def has(self, key: str) -> bool:
        return key in self._left

    def is_mapping(self, key: str) -> bool:
        return isinstance(self._left.get(key), Mapping)

    def done(self) -> None:
        for key in self._left:
            raise InvalidRequest(
                f"{self.at} has no field '{key}'.{nearest(key, self._known)}",
                code="unknown_field",
                param=self.path(key),
            )


def known_options(given: Mapping[str, Any], at: str) -> None:
    """Raise `InvalidRequest` for an option that models do not have; ``at`` is the place of the options."""
    found = unknown_option(given)
    if found is not None:
        where = f"{at}.{found[0]}" if at else found[0]
        raise InvalidRequest(found[1], code="unknown_parameter", param=where)
    extra = given.get("extra_body")
    if extra is not None and not isinstance(extra, Mapping):
        where = f"{at}.extra_body" if at else "extra_body"
        raise InvalidRequest(f"{where} must be an object.", code="invalid_spec", param=where)


def model_options(given: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Checked options of a model as fields of a request: those of ``extra_body`` stand among the others."""
    known_options(given, at)
    return flat_options(given)


def _name(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
        case Mapping():
            return "an object"
    return type(value).__name__
