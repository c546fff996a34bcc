"""Strict JSON bodies. Their nesting and their numbers of values and parts are limited."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator, Iterator
from typing import Any, Final, TypeVar

import orjson

from portico_server.api import errors
from portico_server.core.errors import InvalidRequest
from portico_server.core.work_slots import FairSlots

T = TypeVar("T")

MAX_JSON_DEPTH = 200
"""Maximum nesting of objects and lists in a body."""


MAX_JSON_VALUES = 1_000_000
"""Maximum number of values in a body. Each parsed value takes ten bytes of memory or more."""


MAX_JSON_PARTS = 250_000
"""Maximum number of objects, lists, names and strings in a body. Each takes a hundred bytes of memory, and a thousand
times as long to parse as a byte.
"""


MAX_PARSED_AT_ONCE_BYTES: Final = 256 * 2**10
"""Maximum size, in bytes, of a body that is parsed without yielding: about a millisecond. Larger bodies are parsed one
at a time.
"""


_COUNTED_BYTES: Final = 4 * 2**20


_CONTAINER_BYTES: Final = 200
"""Memory of an object or a list with its names, in bytes, as CPython 3.11 allocates it."""


_VALUE_BYTES: Final = 30
"""Memory of a number or a short text in a list, in bytes, beyond its length in a body."""


_WALKED_VALUES_COUNT: Final = 10_000
"""Number of values checked without yielding: a few milliseconds."""


_LARGE_BODIES: Final = FairSlots(1)


_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


async def parse_in_turn(raw: bytes) -> Any:
    """Run `parse` on one large body at a time, in pieces between which other work can run.

    Large bodies of different keys alternate. A thread would not help, because parsing holds the interpreter lock.
    """
    if len(raw) <= MAX_PARSED_AT_ONCE_BYTES:
        return parse(raw)
    async with _LARGE_BODIES.hold():
        await asyncio.sleep(0)
        return await _in_pieces(_parse_pieces(raw))


async def memory_of_values(raw: bytes) -> int:
    """Return an estimate of the memory that the values of a body take when it is parsed, beyond their texts, in bytes.

    Punctuation within texts counts too, so the estimate is high for a text that contains JSON or a table.
    """
    opening_count = await _in_pieces(_count_byte(raw, b"[")) + await _in_pieces(_count_byte(raw, b"{"))
    return _CONTAINER_BYTES * opening_count + _VALUE_BYTES * await _in_pieces(_count_byte(raw, b","))


async def _in_pieces(pieces: Generator[None, None, T]) -> T:
    """Return the result of work in pieces, between which other work can run."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            value: T = end.value
            return value
        await asyncio.sleep(0)


def parse(raw: bytes) -> Any:
    """Parse JSON strictly: UTF-8, no NaN, numbers in range, at most `MAX_JSON_DEPTH` levels, `MAX_JSON_VALUES` values
    and `MAX_JSON_PARTS` parts.

    Raises `InvalidRequest`.
    """
    pieces = _parse_pieces(raw)
    try:
        while True:
            next(pieces)
    except StopIteration as end:
        return end.value


def _parse_pieces(raw: bytes) -> Generator[None, None, Any]:
    """Parse a body as `parse` does, in pieces. Yield between two pieces, and return the value."""
    # The length of a body, or these counts, show that nearly all bodies are small. The counts include
    # characters within strings.
    opening_count = 0
    if len(raw) > 2 * MAX_JSON_DEPTH:
        opening_count = (yield from _count_byte(raw, b"[")) + (yield from _count_byte(raw, b"{"))
    if len(raw) > 2 * MAX_JSON_PARTS:
        yield from _require_few(raw, opening_count)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.invalid_json(error) from None
    if opening_count > MAX_JSON_DEPTH:
        yield from _require_flat(value)
    return value


def _count_byte(raw: bytes, token: bytes) -> Generator[None, None, int]:
    """Return how often a byte occurs in a body."""
    if len(raw) <= _COUNTED_BYTES:
        return raw.count(token)
    count = 0
    for start in range(0, len(raw), _COUNTED_BYTES):
        count += raw.count(token, start, start + _COUNTED_BYTES)
        yield
    return count


def _require_few(raw: bytes, opening_count: int) -> Generator[None, None, None]:
    """Raise `InvalidRequest` if a long body has too many values or too many parts."""
    # A string rarely ends with an escaped backslash. The resulting error lets through at most twice as many
    # strings.
    texts = ((yield from _count_byte(raw, b'"')) - raw.count(b'\\"')) // 2
    yield
    if texts <= MAX_JSON_PARTS:
        if (
            opening_count + texts <= MAX_JSON_PARTS
            and opening_count + (yield from _count_byte(raw, b",")) <= MAX_JSON_VALUES
        ):
            return
        bare = _TEXT.sub(b"", raw)  # characters within strings do not count
        opening_count = bare.count(b"[") + bare.count(b"{")
        if opening_count + texts <= MAX_JSON_PARTS and opening_count + bare.count(b",") <= MAX_JSON_VALUES:
            return
    raise InvalidRequest(
        f"The body has more than {MAX_JSON_VALUES:,} values, or more than {MAX_JSON_PARTS:,} objects, lists, "
        "names and strings. Split it into several requests, or send the data as a file.",
        code="body_too_complex",
    )


def _require_flat(value: Any) -> Generator[None, None, None]:
    """Raise `InvalidRequest` if a value in the body is nested too deeply. The error names the field."""
    fields, node_count = value if type(value) is dict else {None: value}, 0
    for name, field in fields.items():
        # A stack of iterators: with a list of all pending values, the garbage collector would have more to
        # scan.
        inside: list[Iterator[Any]] = [iter((field,))]
        while inside:
            node_count += 1
            if node_count % _WALKED_VALUES_COUNT == 0:
                yield
            child = next(inside[-1], inside)
            if child is inside:
                inside.pop()
            elif type(child) is dict or type(child) is list:
                if len(inside) >= MAX_JSON_DEPTH:
                    raise InvalidRequest(
                        f"The body is nested deeper than {MAX_JSON_DEPTH} levels.",
                        code="body_too_complex",
                        param=name,
                    )
                inside.append(iter(child.values() if type(child) is dict else child))
