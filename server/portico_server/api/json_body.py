"""JSON bodies: strict, and bounded in depth, values and parts."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Generator, Iterator
from typing import Any, Final

import orjson

from portico_server.api import errors
from portico_server.core.errors import InvalidRequest
from portico_server.core.work_slots import FairSlots

MAX_JSON_DEPTH = 200
"""Objects and lists within each other in a body."""


MAX_JSON_VALUES = 1_000_000
"""Values in a body: parsed, each takes some ten bytes and more."""


MAX_JSON_PARTS = 250_000
"""Objects, lists, names and texts among them: each takes a hundred bytes and a thousand times the time of a byte."""


MAX_PARSED_AT_ONCE_BYTES: Final = 256 * 2**10
"""Bytes of a body that is parsed at once: about a millisecond. Of larger ones each waits its turn."""


_COUNTED_BYTES: Final = 4 * 2**20


_WALKED_VALUES_COUNT: Final = 10_000
"""What is looked at of a body in one piece: milliseconds."""


_LARGE_BODIES: Final = FairSlots(1)


_TEXT = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


async def parse_in_turn(raw: bytes) -> Any:
    """`parse`; of bodies that are not small one at a time, keys in turn, and in pieces between which everything else
    has its turn. A thread would hold that up all the same: what parses keeps the interpreter to itself.
    """
    if len(raw) <= MAX_PARSED_AT_ONCE_BYTES:
        return parse(raw)
    async with _LARGE_BODIES.taken():
        pieces = _parsed(raw)
        while True:
            await asyncio.sleep(0)
            try:
                next(pieces)
            except StopIteration as end:
                return end.value


def parse(raw: bytes) -> Any:
    """JSON, strictly: UTF-8, no NaN, numbers that fit, at most `MAX_JSON_DEPTH` levels, `MAX_JSON_VALUES` values and
    `MAX_JSON_PARTS` parts.

    Raises `InvalidRequest`.
    """
    pieces = _parsed(raw)
    try:
        while True:
            next(pieces)
    except StopIteration as end:
        return end.value


def _parsed(raw: bytes) -> Generator[None, None, Any]:
    """What `parse` does, in pieces, and its value."""
    # Nearly all bodies are known to be small by their length, or by these counts, which include what stands in texts.
    opening_count = 0
    if len(raw) > 2 * MAX_JSON_DEPTH:
        opening_count = (yield from _counted(raw, b"[")) + (yield from _counted(raw, b"{"))
    if len(raw) > 2 * MAX_JSON_PARTS:
        yield from _require_few(raw, opening_count)
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise errors.invalid_json(error) from None
    if opening_count > MAX_JSON_DEPTH:
        yield from _require_flat(value)
    return value


def _counted(raw: bytes, token: bytes) -> Generator[None, None, int]:
    """How often a byte is in a body."""
    if len(raw) <= _COUNTED_BYTES:
        return raw.count(token)
    count = 0
    for start in range(0, len(raw), _COUNTED_BYTES):
        count += raw.count(token, start, start + _COUNTED_BYTES)
        yield
    return count


def _require_few(raw: bytes, opening_count: int) -> Generator[None, None, None]:
    """Raise `InvalidRequest` if a body that is not short has too many values or parts."""
    # A backslash before the end of a text is rare, and lets at most twice as many texts pass.
    texts = ((yield from _counted(raw, b'"')) - raw.count(b'\\"')) // 2
    yield
    if texts <= MAX_JSON_PARTS:
        if (
            opening_count + texts <= MAX_JSON_PARTS
            and opening_count + (yield from _counted(raw, b",")) <= MAX_JSON_VALUES
        ):
            return
        bare = _TEXT.sub(b"", raw)  # what stands in texts does not count
        opening_count = bare.count(b"[") + bare.count(b"{")
        if opening_count + texts <= MAX_JSON_PARTS and opening_count + bare.count(b",") <= MAX_JSON_VALUES:
            return
    raise InvalidRequest(
        f"The body has more than {MAX_JSON_VALUES:,} values, or more than {MAX_JSON_PARTS:,} objects, lists, names and "
        "texts. Send them in several requests, or as a file.",
        code="body_too_complex",
    )


def _require_flat(value: Any) -> Generator[None, None, None]:
    """Raise `InvalidRequest` that names the field if something in the body is nested too deeply."""
    fields, node_count = value if type(value) is dict else {None: value}, 0
    for name, field in fields.items():
        # Iterators alone: a list of all that is to be looked at would be more for the collector to look at, too.
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
