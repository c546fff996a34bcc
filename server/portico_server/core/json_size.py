"""The size of a value as JSON, computed without serializing it: a list that occurs twice counts twice."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, Final

from portico_server.core.errors import InvalidRequest

MAX_FILLED: Final = 16 * 2**20
"""Maximum number of characters that a template may produce."""

MAX_INDENTED: Final = 256 * 2**10
"""Maximum size of JSON, in bytes, that is indented for readability; indentation can make a deeply nested value a
hundred times longer.
"""

MIN_LARGE_PARTS_COUNT: Final = 2_000
"""Minimum number of parts of a specification that is parsed in a thread, because parsing it takes about ten
milliseconds.
"""

_NODE_BYTES: Final = 8
"""Bytes counted for each list, object, number and name, in addition to the bytes of the strings."""

_LARGE_BYTES: Final = 64 * 2**10
"""Minimum size, in bytes, of values whose size is cached."""

_MAX_REMEMBERED: Final = 4
"""Maximum number of cached values. The cache keeps these values in memory."""


PARTS_LEFT: ContextVar[list[int] | None] = ContextVar("parts left", default=None)
"""Number of parts that may be visited before `TooManyParts` is raised; ``None`` means no limit."""


class TooManyParts(Exception):
    """A value has more parts than may be visited."""


class JsonSizes:
    """Measures values up to a ``limit``. An object that occurs many times in a value is visited once. The sizes of the
    most recent large values are cached, because a flow passes the same values from step to step.
    """

    __slots__ = ("_limit", "_sizes")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._sizes: dict[int, tuple[Any, int]] = {}

    def of(self, value: Any) -> int:
        """Return the approximate size of a value as JSON, in bytes. Above the limit, counting stops early."""
        try:
            known_sizes = {key: size for key, (_value, size) in self._sizes.items()}
            return self._walk(value, known_sizes, PARTS_LEFT.get())
        except RecursionError as error:
            raise InvalidRequest("The value is nested too deeply.", code="value_too_large") from error

    def _walk(self, value: Any, seen_sizes: dict[int, int], parts_left: list[int] | None) -> int:
        if isinstance(value, str):
            return _text(value)
        if not isinstance(value, dict | list | tuple):
            return _NODE_BYTES
        size = seen_sizes.get(id(value))
        if size is None:
            size = self._container(value, seen_sizes, parts_left)
            seen_sizes[id(value)] = size
            if size >= _LARGE_BYTES:
                self._remember(value, size)
        return size

    def _container(self, value: Any, seen_sizes: dict[int, int], parts_left: list[int] | None) -> int:
        if parts_left is not None:
            parts_left[0] -= 1 + len(value)
            if parts_left[0] < 0:
                raise TooManyParts
        size = _NODE_BYTES * (1 + len(value))
        if isinstance(value, dict):
            size += sum(_text(name) for name in value if isinstance(name, str))
            value = value.values()
        for item in value:
            if size > self._limit:
                break
            if isinstance(item, str | dict | list | tuple):
                size += self._walk(item, seen_sizes, parts_left)
            else:
                size += _NODE_BYTES
        return size

    def _remember(self, value: Any, size: int) -> None:
        known_sizes = dict(self._sizes)  # copied, because another thread may be measuring
        if len(known_sizes) >= _MAX_REMEMBERED:
            known_sizes.pop(next(iter(known_sizes)))
        known_sizes[id(value)] = (value, size)
        self._sizes = known_sizes


def _text(value: str) -> int:
    return _NODE_BYTES + (len(value) if value.isascii() else 3 * len(value))


def has_parts(value: Any, more_than: int) -> bool:
    """Return whether a JSON value contains more than ``more_than`` values, not counting names. The content of
    ``$literal`` is not counted.
    """
    parts_left = more_than
    stack = [value]
    while stack:
        part = stack.pop()
        parts_left -= 1
        if isinstance(part, dict):
            stack += [item for name, item in part.items() if name != "$literal"]
        elif isinstance(part, list | tuple):
            stack += part
        if len(stack) > parts_left:
            return True
    return False


def require_filled(pieces: Sequence[str]) -> None:
    """Raise `InvalidRequest` if the pieces of a template exceed `MAX_FILLED` characters."""
    if sum(map(len, pieces)) > MAX_FILLED:
        raise too_long()


def too_long() -> InvalidRequest:
    """Return the error for a template that becomes too long."""
    return InvalidRequest(
        f"The template produces a text of more than {MAX_FILLED:,} characters.",
        code="value_too_large",
    )
