"""Turns of agents that the daemon runs, and the events of a call in progress."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from portico._running import AsyncRunning, Running
from portico.agent.message import Message
from portico.agent.scope import LISTENER, CallScope, Heard, notify
from portico.agent.spec import Spec
from portico.errors import Cancelled
from portico.wire import Finished


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn that passes ``message`` to the agent of ``spec``. ``path`` is the agent's path in the tree."""

    scope: CallScope
    path: str
    spec: Spec
    message: Message
    variables: Mapping[str, Any]

    def run(self) -> Message:
        """Run the turn and return the answer. The listener receives all events."""
        with contextlib.closing(self._start()) as running:
            for event in running.events():
                notify(self.path, event)
            return self._answer(running.result())

    async def arun(self) -> Message:
        """The asyncio version of `run`."""
        running = await self._astart()
        try:
            async for event in running.events():
                notify(self.path, event)
            return self._answer(await running.result())
        finally:
            await running.close()

    def stream(self) -> Generator[Heard, None, Message]:
        """Yield all events except the final one, and return the answer. Closing the generator stops the turn
        immediately.
        """
        with contextlib.closing(self._start()) as running:
            for event in running.events():
                if not isinstance(event, Finished):
                    yield Heard("", event)
            return self._answer(running.result())

    def _start(self) -> Running:
        return self.scope.daemon.client.agents.start(
            self.spec.json, self.message.to_json(), **self._options()
        )

    async def _astart(self) -> AsyncRunning:
        client = await self.scope.daemon.loop_client()
        return client.agents.start(self.spec.json, self.message.to_json(), **self._options())

    def _options(self) -> dict[str, Any]:
        return {
            "session": (self.scope.app, self.scope.session),
            "path": self.path,
            "variables": self.variables,
            "functions": self.spec.functions,
        }

    def _answer(self, result: Any) -> Message:
        return Message.of(result, self.spec.json["name"])


class _ThreadTurn:
    """Runs a call in a separate thread and queues its events."""

    def __init__(self, call: Callable[[], Message]) -> None:
        self._call = call
        self._stop_event = threading.Event()
        self.queue: queue.SimpleQueue[Heard | BaseException | None] = queue.SimpleQueue()

    def run(self) -> None:
        LISTENER.set(self._put)
        try:
            reply = self._call()
            self.queue.put(Heard("", Finished(reply)))
            self.queue.put(None)
        except BaseException as error:  # noqa: BLE001  # raised again where the events are read
            self.queue.put(error)

    def _put(self, item: Heard) -> None:
        if self._stop_event.is_set():
            raise Cancelled("This turn has no listener any more.")
        if not isinstance(item.event, Finished):
            self.queue.put(item)

    def stop(self) -> None:
        """Stop the turn when its next event arrives."""
        self._stop_event.set()


def stream_call(call: Callable[[], Message]) -> Generator[Heard, None, None]:
    """Yield all events of a call. The last event contains the answer."""
    turn = _ThreadTurn(call)
    thread = threading.Thread(target=copy_context().run, args=(turn.run,), name="portico-turn", daemon=True)
    thread.start()
    try:
        while (item := turn.queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        turn.stop()
        thread.join()


async def astream_call(call: Callable[[], Awaitable[Message]]) -> AsyncGenerator[Heard, None]:
    """The asyncio version of `stream_call`."""
    loop = asyncio.get_running_loop()
    events: asyncio.Queue[Heard | None] = asyncio.Queue()

    def put(item: Heard) -> None:
        # A forward that is not asynchronous calls this function from another thread.
        if not isinstance(item.event, Finished):
            loop.call_soon_threadsafe(events.put_nowait, item)

    async def run() -> Message:
        LISTENER.set(put)
        try:
            return await call()
        finally:
            loop.call_soon_threadsafe(events.put_nowait, None)

    task = asyncio.create_task(run())
    try:
        while (item := await events.get()) is not None:
            yield item
        yield Heard("", Finished(await task))
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task])
