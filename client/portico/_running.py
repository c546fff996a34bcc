"""A running flow: its events, and the local functions that it calls back."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from portico._answer import Headers
from portico._events import RunEvents
from portico._request import at
from portico._serving import answer_raised, answer_returned, is_too_late
from portico._transport import AsyncTransport, Transport
from portico.errors import PorticoError, from_body
from portico.functions import called
from portico.schemas.questions import Question
from portico.schemas.runs import RunEvent
from portico.wire import Asked, Delta, Event, Failed, Finished

MAX_CONCURRENT_CALLS = 16
"""Maximum number of local functions that a run calls concurrently."""

Functions = Mapping[str, Callable[..., Any]]


class _RunState:
    """The state of a run so far."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._finished_event: Finished | None = None
        self.id: str | None = None
        """The id of the run, once it has started."""
        self._request_id: str | None = None

    def _open(self, headers: Headers) -> None:
        self.id = headers.get("x-portico-run")
        self._request_id = headers.get("x-request-id")

    def _local_function(self, event: Event) -> Callable[..., Any] | None:
        """Return the function that an event calls, if it is a local function."""
        if isinstance(event, Asked) and event.kind == "function":
            return self._functions.get(event.name)
        return None

    def _take(self, item: RunEvent) -> Event:
        if isinstance(item.event, Failed):
            raise from_body(item.event.error, request_id=self._request_id)
        if isinstance(item.event, Finished):
            self._finished_event = item.event
        return item.event

    def value(self) -> Any:
        """Return the output, once the run has finished."""
        result = self._finished_event.result if self._finished_event is not None else None
        # If the flow is an app, its result contains the usage and the citations in addition to the value.
        return (
            result["value"]
            if isinstance(result, dict) and set(result) == {"value", "usage", "citations"}
            else result
        )


def _arguments(event: Asked) -> tuple[list[Any], dict[str, Any]]:
    return list(event.arguments.get("args") or ()), dict(event.arguments.get("kwargs") or {})


class _Listener(_RunState):
    """Reads the events of a run and answers its calls of local functions.

    The listener has no reference to its event generator, so dropping the generator closes it.
    """

    def __init__(self, transport: Transport, functions: Functions) -> None:
        super().__init__(functions)
        self._transport = transport

    def listen(self, path: str, body: Any) -> Generator[Event, None, None]:
        threads = ThreadPoolExecutor(MAX_CONCURRENT_CALLS, "portico-function")
        source = self._transport.stream("POST", path, RunEvents(), json=body, on_open=self._open)
        try:
            for item in source:
                function = self._local_function(item.event)
                if function is not None:
                    assert isinstance(item.event, Asked)
                    threads.submit(self._execute, function, item.event)
                yield self._take(item)
        finally:
            source.close()
            # Do not wait: this may run during garbage collection, in the middle of another call.
            threads.shutdown(wait=False, cancel_futures=True)

    def _execute(self, function: Callable[..., Any], event: Asked) -> None:
        args, kwargs = _arguments(event)
        try:
            with called(event.key):
                value = function(*args, **kwargs)
                if inspect.isawaitable(value):
                    value = asyncio.run(_await_value(value))
            answer = answer_returned(value)
        except Exception as error:  # noqa: BLE001  # told to the run that called
            answer = answer_raised(error)
        self._send(event, answer)

    def _send(self, event: Asked, answer: Any) -> None:
        path = at("api", "questions", event.id, "answer")
        try:
            self._transport.request("POST", path, Question, json=answer)
        except PorticoError as error:
            if not is_too_late(error):
                with contextlib.suppress(PorticoError):
                    self._transport.request("POST", path, Question, json=answer_raised(error))


class Running:
    """A running flow. Iterate to receive the text of the answer as it arrives, or call `result`. Closing cancels the
    run.

    A durable run continues after closing. Nothing is sent before the first event is requested.
    """

    def __init__(self, transport: Transport, path: str, body: Any, functions: Functions) -> None:
        self._listener = _Listener(transport, functions)
        self._events = self._listener.listen(path, body)

    @property
    def id(self) -> str | None:
        """The id of the run, once it has started."""
        return self._listener.id

    def __iter__(self) -> Iterator[str]:
        return (event.text for event in self._events if isinstance(event, Delta))

    def events(self) -> Iterator[Event]:
        """Iterate over all events: steps, progress, text, questions, and the end of the run."""
        return self._events

    def result(self) -> Any:
        """Wait for the run to finish and return the output of the flow. If the run failed, raise its error."""
        for _event in self._events:
            pass
        return self._listener.value()

    def close(self) -> None:
        """Stop listening."""
        self._events.close()


async def _await_value(value: Any) -> Any:
    return await value


class AsyncRunning(_RunState):
    """The asyncio version of `Running`: coroutines run as tasks, other functions in threads."""

    def __init__(self, transport: AsyncTransport, path: str, body: Any, functions: Functions) -> None:
        super().__init__(functions)
        self._transport = transport
        self._events = self._listen(path, body)

    async def _listen(self, path: str, body: Any) -> AsyncGenerator[Event, None]:
        tasks: set[asyncio.Task[None]] = set()
        source = self._transport.stream("POST", path, RunEvents(), json=body, on_open=self._open)
        try:
            async for item in source:
                function = self._local_function(item.event)
                if function is not None:
                    assert isinstance(item.event, Asked)
                    task = asyncio.create_task(self._execute(function, item.event))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                yield self._take(item)
        finally:
            await source.aclose()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _execute(self, function: Callable[..., Any], event: Asked) -> None:
        args, kwargs = _arguments(event)
        try:
            with called(event.key):
                if inspect.iscoroutinefunction(function):
                    value = await function(*args, **kwargs)
                else:
                    value = await asyncio.to_thread(function, *args, **kwargs)
            answer = answer_returned(value)
        except Exception as error:  # noqa: BLE001  # told to the run that called
            answer = answer_raised(error)
        await self._send(event, answer)

    async def _send(self, event: Asked, answer: Any) -> None:
        path = at("api", "questions", event.id, "answer")
        try:
            await self._transport.request("POST", path, Question, json=answer)
        except PorticoError as error:
            if not is_too_late(error):
                with contextlib.suppress(PorticoError):
                    await self._transport.request("POST", path, Question, json=answer_raised(error))

    def __aiter__(self) -> AsyncIterator[str]:
        return self._texts()

    async def _texts(self) -> AsyncGenerator[str, None]:
        async for event in self._events:
            if isinstance(event, Delta):
                yield event.text

    def events(self) -> AsyncIterator[Event]:
        """Iterate over all events: steps, progress, text, questions, and the end of the run."""
        return self._events

    async def result(self) -> Any:
        """Wait for the run to finish and return the output of the flow. If the run failed, raise its error."""
        async for _event in self._events:
            pass
        return self.value()

    async def close(self) -> None:
        """Stop listening."""
        await self._events.aclose()
