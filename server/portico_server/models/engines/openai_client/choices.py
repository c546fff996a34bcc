"""The streamed calls for one request, one per choice, and the OpenAI chunks and documents that are built from them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol

import orjson

from portico.wire import Usage
from portico_server.core.errors import PorticoError
from portico_server.models.engines.openai_client.choice_chunks import ChoicePiece, ChoiceReader, total_usage
from portico_server.models.engines.openai_client.requests import PreparedRequest
from portico_server.models.transport import CONNECTION_ERRORS


class ChoiceServer(Protocol):
    """The server to which the calls are sent."""

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Start a streamed call and yield its frames. Raises `PorticoError`."""

    async def explain(self, error: BaseException) -> PorticoError:
        """Return the error for a broken connection."""

    def failure(self, document: Mapping[str, Any]) -> PorticoError:
        """Return the error for an error document in the middle of a stream."""


class ChoiceCall:
    """One streamed call to the engine, which produces one choice."""

    def __init__(
        self,
        server: ChoiceServer,
        operation: str,
        body: dict[str, Any],
        reader: ChoiceReader,
        deadline: float | None,
    ) -> None:
        self.reader = reader
        self._server = server
        self._operation = operation
        self._body = body
        self._deadline = deadline
        self._frames: AsyncIterator[bytes] | None = None
        self._first = b""

    async def open(self) -> None:
        """Wait for the first frame, so that an error before it becomes an HTTP status."""
        self._frames = await self._server.open(self._operation, self._body, self._deadline)
        self._first = await self._next()

    async def _next(self) -> bytes:
        assert self._frames is not None
        try:
            return await anext(self._frames, b"")
        except CONNECTION_ERRORS as error:
            raise await self._server.explain(error) from error

    async def pieces(self) -> AsyncIterator[ChoicePiece]:
        """Yield the engine's output until the call ends."""
        data = self._first
        while data:
            for line in data.split(b"\n"):
                if not line.startswith((b"data:", b"error:")):
                    continue
                text = line.partition(b":")[2].strip()
                if text == b"[DONE]":
                    continue
                document = orjson.loads(text)
                if not isinstance(document, dict):
                    continue  # a chunk without choices; if a request has several prompts, the engine sends "null"
                if "error" in document or line.startswith(b"error:"):
                    raise self._server.failure(document if "error" in document else {"error": document})
                for piece in self.reader.read(document):
                    yield piece
            data = await self._next()
        if not self.reader.finished:
            # If the engine's process is killed, its connection can appear to have closed normally.
            raise await self._server.explain(ConnectionError("the response was cut off"))

    async def close(self) -> None:
        """End the call, which frees the engine's slot."""
        close = getattr(self._frames, "aclose", None)
        if close is not None:
            await close()


class ChoiceCalls:
    """The concurrent calls for all choices of one request."""

    def __init__(self, calls: list[ChoiceCall]) -> None:
        self._calls = calls
        self._tasks: list[asyncio.Task[None]] = []

    def usage(self, request: PreparedRequest) -> Usage:
        return total_usage([call.reader for call in self._calls], request.per_prompt)

    async def open(self) -> None:
        if len(self._calls) == 1:
            await self._calls[0].open()
            return
        openings = [asyncio.create_task(call.open(), name="open a choice") for call in self._calls]
        try:
            await asyncio.gather(*openings)
        finally:
            for opening in openings:
                opening.cancel()
            await asyncio.wait(openings)

    async def pieces(self) -> AsyncIterator[ChoicePiece]:
        """Yield the pieces of all choices in the order in which they arrive."""
        if len(self._calls) == 1:
            async for piece in self._calls[0].pieces():
                yield piece
            return
        queue: asyncio.Queue[ChoicePiece | BaseException | None] = asyncio.Queue(maxsize=64)
        self._tasks = [
            asyncio.create_task(_follow(call, queue), name=f"choice {call.reader.index}")
            for call in self._calls
        ]
        living = len(self._tasks)
        while living:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                living -= 1
            else:
                yield item

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for call in self._calls:
            await call.close()


async def _follow(call: ChoiceCall, queue: asyncio.Queue[ChoicePiece | BaseException | None]) -> None:
    """Put the pieces of a call into the queue, followed by ``None`` or the error with which the call ended."""
    try:
        async for piece in call.pieces():
            await queue.put(piece)
    except PorticoError as error:
        await queue.put(error)
    else:
        await queue.put(None)
