"""A streamed answer: its text, piece by piece, and the passages on which it is based."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from types import TracebackType
from typing import TypeAlias

from portico.errors import from_body
from portico.schemas.replies import Reply
from portico.schemas.runs import RunEvent
from portico.wire import AnswerClaim, Cited, Claimed, Delta, Event, Failed, Passage, ToolCalled, Usage

Headers: TypeAlias = Mapping[str, str]
Opened: TypeAlias = Callable[[Headers], None]


class _AnswerState:
    """What has arrived of an answer so far."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._passages: tuple[Passage, ...] = ()
        self._nearest: tuple[Passage, ...] = ()
        self._claims: list[AnswerClaim] = []
        self._tool_calls: list[ToolCalled] = []
        self._usage = Usage()
        self._run: str | None = None
        self._request_id: str | None = None

    @property
    def text(self) -> str:
        """The text received so far."""
        return "".join(self._text)

    @property
    def passages(self) -> tuple[Passage, ...]:
        """The passages that the answer is based on, in the order of their numbers."""
        return self._passages

    @property
    def nearest(self) -> tuple[Passage, ...]:
        """The nearest passages if no passage answers the question."""
        return self._nearest

    @property
    def claims(self) -> tuple[AnswerClaim, ...]:
        """The sentences that have been compared with the passages so far, in order; only for an app over a store."""
        return tuple(self._claims)

    @property
    def tool_calls(self) -> tuple[ToolCalled, ...]:
        """The tools that the model calls. The list is complete when the answer is complete."""
        return tuple(self._tool_calls)

    @property
    def usage(self) -> Usage:
        """Token usage. It is complete when the answer is complete."""
        return self._usage

    @property
    def run(self) -> str | None:
        """The id of the run behind the answer, once the run has started."""
        return self._run

    def _open(self, headers: Headers) -> None:
        self._run = headers.get("x-portico-run")
        self._request_id = headers.get("x-request-id")

    def _take(self, item: RunEvent) -> Event:
        """Record an event. Raise the error if the answer has failed."""
        match item.event:
            case Delta(text=text):
                self._text.append(text)
            case Cited(passages=passages, nearest=nearest):
                self._passages, self._nearest = passages, nearest
            case Claimed(claim=claim):
                self._claims.append(claim)
            case ToolCalled() as call:
                self._tool_calls.append(call)
            case Usage() as usage:
                self._usage = usage
            case Failed(error=error):
                raise from_body(error, request_id=self._request_id)
        return item.event

    def _reply(self) -> Reply:
        return Reply(self.text, self._passages, self._usage, self._run, self.claims)


class Answer(_AnswerState):
    """The answer of a model or an app. Iterate over it for pieces of text as they arrive, or call `read`.

    The request is sent when the first piece is requested; errors of the request are raised at that point. Closing the
    answer stops the model.

    Example::

        from portico import Client

        with Client() as client:
            for piece in client.ask("Which port does the daemon listen on?", app="docs"):
                print(piece, end="")
    """

    def __init__(self, start: Callable[[Opened], Generator[RunEvent, None, None]]) -> None:
        super().__init__()
        self._events = self._listen(start)

    def _listen(
        self, start: Callable[[Opened], Generator[RunEvent, None, None]]
    ) -> Generator[Event, None, None]:
        source = start(self._open)
        try:
            for item in source:
                yield self._take(item)
        finally:
            source.close()

    def __iter__(self) -> Iterator[str]:
        return (event.text for event in self._events if isinstance(event, Delta))

    def events(self) -> Iterator[Event]:
        """Iterate over all events instead of only the text: progress, passages, pieces, usage."""
        return self._events

    def read(self) -> Reply:
        """Wait for the rest of the answer, and return the complete answer."""
        for _event in self._events:
            pass
        return self._reply()

    def close(self) -> None:
        """Stop receiving the answer. The daemon then stops the model."""
        self._events.close()

    def __enter__(self) -> Answer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncAnswer(_AnswerState):
    """The asyncio version of `Answer`: ``async for``, ``await answer.read()``, ``async with``.

    Example::

        import asyncio

        from portico import AsyncClient


        async def main() -> None:
            async with AsyncClient() as client:
                reply = await client.ask("Which port does the daemon listen on?", app="docs").read()
                print(reply.text, [passage.filename for passage in reply.passages])


        asyncio.run(main())
    """

    def __init__(self, start: Callable[[Opened], AsyncGenerator[RunEvent, None]]) -> None:
        super().__init__()
        self._events = self._listen(start)

    async def _listen(
        self, start: Callable[[Opened], AsyncGenerator[RunEvent, None]]
    ) -> AsyncGenerator[Event, None]:
        source = start(self._open)
        try:
            async for item in source:
                yield self._take(item)
        finally:
            await source.aclose()

    async def __aiter__(self) -> AsyncIterator[str]:
        async for event in self._events:
            if isinstance(event, Delta):
                yield event.text

    def events(self) -> AsyncIterator[Event]:
        """Iterate over all events instead of only the text: progress, passages, pieces, usage."""
        return self._events

    async def read(self) -> Reply:
        """Wait for the rest of the answer, and return the complete answer."""
        async for _event in self._events:
            pass
        return self._reply()

    async def close(self) -> None:
        """Stop receiving the answer. The daemon then stops the model."""
        await self._events.aclose()

    async def __aenter__(self) -> AsyncAnswer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
