"""The decoder of server-sent events."""

from __future__ import annotations

import pytest

from portico._sse import Decoder, ServerEvent

STREAM = (
    "\ufeff: hello\n\n"
    'id: 1\nevent: status\ndata: {"stage":\n'
    'data: "读取"}\n\n'
    "event: lonely\n\n"
    "data:no space\r\n\r\n"
    "retry: 10\rid: 7\rdata: old mac\r\r"
    "data: cut off"
).encode()

EVENTS = [
    ServerEvent('{"stage":\n"读取"}', "status", "1"),
    ServerEvent("no space", "message", "1"),
    ServerEvent("old mac", "message", "7"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_events_are_the_same_however_the_bytes_are_cut(size: int) -> None:
    decoder = Decoder()
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert [event for chunk in chunks for event in decoder.feed(chunk)] == EVENTS


def test_bytes_that_are_not_utf8_do_not_end_the_stream() -> None:
    assert Decoder().feed(b"data: \xff!\n\n") == [ServerEvent("\ufffd!")]
