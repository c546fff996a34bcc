"""Receives the messages of MCP servers within limits, because a server is not trusted, and repairs unusual ones.

A server that is a program sends lines, which a codec reads; a server at an address sends HTTP responses, whose bodies
are wrapped. Both pass `readable_message`, and then `read_transport` gives their results to `Responses`.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import anyio
import httpx2
from mcp.shared.message import SessionMessage

from portico_server.core.rate_bucket import RateBucket
from portico_server.features.mcp_servers.error_codes import TOO_LARGE_CODE
from portico_server.features.mcp_servers.http_errors import error_message
from portico_server.features.mcp_servers.readable import Responses, readable_message

# Decodes a program's standard output as text with limited line lengths. The ``mcp`` package buffers a line
# until it is complete, however long it is, and the only part of its reader that we can choose is the
# encoding. This encoding decodes UTF-8, but ends a line that is too long and drops the rest. The package then
# reads a message that is not JSON, and continues with the next message. If the line is a response, an error
# replaces it, so that its caller does not wait in vain. Other lines pass `readable_message`.


ENCODING: Final = "portico_utf8_lines"

MAX_LINE_CHARS: Final = 16 * 1024 * 1024
"""Maximum characters of a line."""

MAX_PARTS: Final = 100_000
"""Maximum number of objects, lists and values in a message. While the ``mcp`` package parses them, the event loop is
blocked.
"""

_BODY: Final = r'"[^"\\]*+(?:\\.[^"\\]*+)*+'
_TEXTS: Final = re.compile(rf'{_BODY}"|({_BODY}\\?\Z)', re.DOTALL)
"""Matches a JSON string. The group matches a string that has not ended yet."""


class _Parts:
    """Counts the objects, lists and values of a message that arrives in pieces."""

    def __init__(self) -> None:
        self._count = 0
        self._open = ""
        """The beginning of a string that continues in the next piece."""

    def are_too_many(self, piece: str) -> bool:
        """Return whether the message, including this piece, has more than `MAX_PARTS` objects, lists and values."""
        outside, quote, text = _TEXTS.sub(r"\1", self._open + piece).partition('"')
        self._count += outside.count("{") + outside.count("[") + outside.count(",")
        escape_count = (len(text) - len(text.rstrip("\\"))) % 2
        self._open = quote + "\\" * escape_count
        return self._count > MAX_PARTS


MAX_ENVELOPE_CHARS: Final = 200
"""Number of characters at the beginning and at the end of a line that are searched for the id of a response."""

_VERSION: Final = r'"jsonrpc"\s*:\s*"2\.0"'
_ANSWER: Final = re.compile(
    rf'\s*\{{\s*(?:{_VERSION}\s*,\s*)?(?:"id"\s*:\s*(\d{{1,18}})\s*,\s*(?:{_VERSION}\s*,\s*)?)?"(?:result|error)"\s*:'
)
"""Matches the beginning of a response. The group is the response's id, if the id comes first."""
_LAST_ID: Final = re.compile(rf'[}}\]\w"]\s*,\s*"id"\s*:\s*(\d{{1,18}})\s*(?:,\s*{_VERSION}\s*)?\}}\s*\Z')
"""Matches the end of a response whose id comes last."""


class _Decoder(codecs.IncrementalDecoder):
    """An incremental decoder of UTF-8."""

    def __init__(self, errors: str = "strict") -> None:
        super().__init__(errors)
        self._text = codecs.getincrementaldecoder("utf-8")(errors)
        self._begin()

    def _begin(self) -> None:
        self._length = 0
        """Number of characters in the current line. If it exceeds the maximum, the rest of the line is dropped."""
        self._parts = _Parts()
        self._pieces: list[str] = []
        self._head = self._tail = ""

    def decode(self, data: bytes, final: bool = False) -> str:  # type: ignore[override]  # any buffer of bytes
        lines = []
        first, *more_pieces = self._text.decode(data, final).split("\n")
        self._check_size(first)
        for piece in more_pieces:
            is_dropped = self._length > MAX_LINE_CHARS
            lines.append(self._line() if is_dropped else f"{readable_message(self._line())}\n")
            lines.append(self._instead() if is_dropped else "")
            self._begin()
            self._check_size(piece)
        # The rest of a line that is too long is dropped, so there is nothing to wait for.
        lines.append(self._line() if final or self._length > MAX_LINE_CHARS else "")
        return "".join(lines)

    def _line(self) -> str:
        """Return what was kept of the current line since the last call."""
        line = "".join(self._pieces)
        self._pieces.clear()
        return line

    def _instead(self) -> str:
        """Return the error that replaces a dropped line if the line was a response, otherwise an empty string."""
        answer = _ANSWER.match(self._head)
        last = _LAST_ID.search(self._tail) if answer is not None else None
        request_id = (answer and answer[1]) or (last and last[1])
        if not request_id:
            return ""
        error = {"code": TOO_LARGE_CODE, "message": "The response is too large."}
        return json.dumps({"jsonrpc": "2.0", "id": int(request_id), "error": error}) + "\n"

    def _check_size(self, piece: str) -> None:
        """Keep the part of a piece that is within the limits. A line break ends the line that exceeds them."""
        self._head += piece[: MAX_ENVELOPE_CHARS - len(self._head)]
        self._tail = (self._tail + piece[-MAX_ENVELOPE_CHARS:])[-MAX_ENVELOPE_CHARS:]
        before, self._length = self._length, self._length + len(piece)
        if before > MAX_LINE_CHARS:
            return
        if self._parts.are_too_many(piece):
            self._length = MAX_LINE_CHARS + 1
            self._pieces.append("\n")
        elif self._length <= MAX_LINE_CHARS:
            self._pieces.append(piece)
        else:
            self._pieces.append(piece[: MAX_LINE_CHARS - before] + "\n")

    def reset(self) -> None:
        self._text.reset()
        self._begin()


def _search(name: str) -> codecs.CodecInfo | None:
    if name != ENCODING:
        return None
    plain = codecs.lookup("utf-8")
    return codecs.CodecInfo(
        plain.encode,
        plain.decode,
        plain.streamreader,
        plain.streamwriter,
        plain.incrementalencoder,
        _Decoder,
        ENCODING,
    )


codecs.register(_search)


MESSAGES_PER_SECOND: Final = 500
"""Maximum rate of messages from a server, including responses and progress notifications."""

MESSAGES_AT_ONCE: Final = 100
"""Number of messages that can arrive in a burst before `MESSAGES_PER_SECOND` applies."""


@asynccontextmanager
async def read_transport(transport: Any, on_end: Callable[[], None]) -> AsyncIterator[tuple[Any, Any]]:
    """Yield a transport that limits and repairs what arrives, and calls ``on_end`` when the other side closes it."""
    responses = Responses()
    async with transport as (reading, writing):
        yield _Reading(reading, on_end, responses), _Writing(writing, responses)


class _Writing:
    """A write stream of the ``mcp`` package that notes the requests."""

    def __init__(self, stream: Any, responses: Responses) -> None:
        self._stream = stream
        self._responses = responses

    async def send(self, message: SessionMessage) -> None:
        self._responses.note(message.message)
        await self._stream.send(message)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exit: Any) -> bool | None:
        has_left: bool | None = await self._stream.__aexit__(*exit)
        return has_left


class _Reading:
    """A read stream of the ``mcp`` package that detects its own end, repairs results, and slows down a server that
    sends too often.

    Without this limit, the package would process any number of messages at the same time.
    """

    def __init__(self, stream: Any, on_end: Callable[[], None], responses: Responses) -> None:
        self._stream = stream
        self._on_end = on_end
        self._responses = responses
        self._clock = asyncio.get_running_loop().time
        self._room = RateBucket(MESSAGES_AT_ONCE, MESSAGES_AT_ONCE / MESSAGES_PER_SECOND, self._clock())

    @property
    def last_context(self) -> Any:
        return getattr(self._stream, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        try:
            message: SessionMessage | Exception = await self._stream.receive()
        except anyio.EndOfStream:
            self._on_end()
            raise
        self._room.take(1, self._clock())
        if wait := self._room.wait(0, self._clock()):
            await asyncio.sleep(wait)
        if isinstance(message, SessionMessage):
            self._responses.read(message.message)
        return message

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream as error:
            raise StopAsyncIteration from error

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *exit: Any) -> bool | None:
        has_left: bool | None = await self._stream.__aexit__(*exit)
        return has_left


class _JsonBody(httpx2.AsyncByteStream):
    """The bytes of a response, limited as a line of a program is, and repaired by `readable_message`."""

    def __init__(self, stream: httpx2.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield readable_message((await self.collect()).decode("utf-8-sig", "replace")).encode()

    async def collect(self) -> bytes:
        """Return all bytes. Raise `httpx2.ReadError` if they exceed the limits."""
        pieces, length, parts = [], 0, _Parts()
        async for piece in self._stream:
            length += len(piece)
            _require_size(length, parts, piece.decode("latin-1"))
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        await self._stream.aclose()


class _EventBody(_JsonBody):
    """The bytes of an event stream, whose events are limited and repaired one by one."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        line, data, length, parts = "", [], 0, _Parts()
        async for piece in self._stream:
            text = decoder.decode(piece)
            length += len(text)
            _require_size(length, parts, text)
            *lines, line = (line + text).split("\n")
            for event_line in lines:
                name, _, value = event_line.rstrip("\r").partition(":")
                if name == "data":
                    data.append(value.removeprefix(" "))
                    continue
                if not name and data:
                    yield _as_data(readable_message("\n".join(data)))
                    data, length, parts = [], len(line), _Parts()
                yield f"{event_line}\n".encode()
        if data:
            yield _as_data("\n".join(data))
        yield line.encode()


class _ErrorBody(_JsonBody):
    """The bytes of a response with an error status, as a JSON-RPC error."""

    def __init__(self, stream: httpx2.AsyncByteStream, response: httpx2.Response) -> None:
        super().__init__(stream)
        self._response = response

    async def __aiter__(self) -> AsyncIterator[bytes]:
        body = (await self.collect()).decode("utf-8-sig", "replace")
        yield error_message(self._response, body).encode()


def _as_data(text: str) -> bytes:
    return "".join(f"data: {line}\n" for line in text.split("\n")).encode()


def _require_size(length: int, parts: _Parts, piece: str) -> None:
    if length > MAX_LINE_CHARS:
        raise httpx2.ReadError(f"the response has more than {MAX_LINE_CHARS:,} bytes")
    if parts.are_too_many(piece):
        raise httpx2.ReadError(f"the response has more than {MAX_PARTS:,} objects, lists and values")


async def read_response(response: httpx2.Response) -> None:
    """Limit and repair the body of a response. A hook of `httpx2.AsyncClient`."""
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise httpx2.DecodingError("the response is compressed, which was not requested")
    assert isinstance(response.stream, httpx2.AsyncByteStream)
    if response.status_code >= HTTPStatus.BAD_REQUEST:
        response.stream = _ErrorBody(response.stream, response)
        response.headers["Content-Type"] = "application/json"
        return
    is_events = response.headers.get("Content-Type", "").lower().startswith("text/event-stream")
    response.stream = (_EventBody if is_events else _JsonBody)(response.stream)
