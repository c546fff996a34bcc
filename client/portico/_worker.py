"""The two loops in which a worker executes functions for a daemon: one with threads, one with tasks. Both use
`WorkerState`.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

from portico._request import at
from portico._serving import LEASE_S, WorkerState, answer_returned, is_too_late
from portico._transport import AsyncTransport, Transport
from portico.errors import InvalidRequest, PorticoError
from portico.functions import Function, called
from portico.schemas.questions import Claims, Question

T = TypeVar("T")

MAX_SEND_ATTEMPTS = 6
"""Attempts to send an answer to an unreachable daemon. After these, another worker gets the call."""


class Worker:
    """A worker that executes each call in a separate thread."""

    def __init__(self, transport: Transport, state: WorkerState) -> None:
        self._transport = transport
        self._state = state
        self._room = threading.Condition()
        self._unstarted: dict[str, tuple[Question, Function]] = {}
        """The claimed calls whose threads have not begun, by id. Ctrl-C can come before their threads are started."""
        self._started_ids: set[str] = set()

    def run(self, stop: threading.Event | None, ready: threading.Event | None) -> None:
        """Work until ``stop`` is set or Ctrl-C is pressed, then finish the calls in progress. Set ``ready`` once the
        worker has joined.
        """
        self._join()
        if ready is not None:
            ready.set()
        try:
            while stop is None or not stop.is_set():
                self._round()
        finally:
            self._drain()

    def _round(self) -> None:
        with self._room:
            if self._state.full:
                self._room.wait(LEASE_S / 3)
            claim = self._state.claim()
        try:
            claims = self._claim(claim)
        except PorticoError as error:
            if self._state.must_join(error):
                self._join()
            else:
                time.sleep(self._state.pause(error))
            return
        with self._room:
            self._unstarted.update(
                (question.id, (question, function)) for question, function in self._state.take_calls(claims)
            )
        self._start()

    def _start(self) -> None:
        """Start a thread for each claimed call that has none. A call that gets two threads is executed once."""
        for question, function in tuple(self._unstarted.values()):
            threading.Thread(
                target=self._execute, args=(question, function), name=function.name, daemon=True
            ).start()

    def _drain(self) -> None:
        """Finish the calls in progress while renewing their leases, and sign off."""
        self._start()
        with contextlib.suppress(PorticoError):
            with self._room:
                # Ctrl-C may have come while calls were claimed. The daemon gives those to another worker.
                self._state.held.intersection_update({*self._unstarted, *self._started_ids})
                while self._state.held:
                    self._room.wait(LEASE_S / 3)
                    if self._state.held:
                        self._claim(self._state.claim(stopping=True))
            self._transport.request("DELETE", self._state.path, None)

    def _execute(self, question: Question, function: Function) -> None:
        self._started_ids.add(question.id)
        if self._unstarted.pop(question.id, None) is None:
            return
        try:
            with called(question.key):
                value = function.call(**function.bind(question.arguments))
                if inspect.isawaitable(value):
                    value = asyncio.run(_value(value))
            self._send(question, answer_returned(value, self._state.worker))
        except Exception as error:  # noqa: BLE001  # told to the run that called
            self._send(question, self._state.to_error_answer(question, error))
        finally:
            with self._room:
                self._state.release(question.id)
                self._started_ids.discard(question.id)
                self._room.notify_all()

    def _join(self) -> None:
        self._transport.request("POST", "/api/workers", None, json=self._state.introduction())

    def _claim(self, body: dict[str, Any]) -> Claims:
        path = f"{self._state.path}/claim"
        return self._transport.request("POST", path, Claims, json=body, slow=True)

    def _send(self, question: Question, answer: dict[str, Any]) -> None:
        path = at("api", "questions", question.id, "answer")
        for attempt in range(MAX_SEND_ATTEMPTS):
            try:
                self._transport.request("POST", path, Question, json=answer)
            except InvalidRequest:
                raise  # JSON cannot express the return value
            except PorticoError as error:
                if is_too_late(error):
                    return
                time.sleep(0.25 * 2.0**attempt)
            else:
                return


class AsyncWorker:
    """The asyncio version of `Worker`: coroutines run as tasks, other functions in threads."""

    def __init__(self, transport: AsyncTransport, state: WorkerState) -> None:
        self._transport = transport
        self._state = state
        self._has_room = asyncio.Event()

    async def run(self, stop: asyncio.Event | None, ready: asyncio.Event | None) -> None:
        """Work until ``stop`` is set, then finish the calls in progress. If cancelled, also cancel the calls in
        progress.
        """
        await self._join()
        if ready is not None:
            ready.set()
        tasks: set[asyncio.Task[None]] = set()
        try:
            while stop is None or not stop.is_set():
                for question, function in await self._round():
                    task = asyncio.create_task(self._execute(question, function), name=function.name)
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
            while tasks:
                await asyncio.wait(tasks, timeout=LEASE_S / 3)
                if tasks:
                    await self._claim(self._state.claim(stopping=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(PorticoError):
                await self._transport.request("DELETE", self._state.path, None)

    async def _round(self) -> list[tuple[Question, Function]]:
        if self._state.full:
            self._has_room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEASE_S / 3):
                    await self._has_room.wait()
        try:
            claims = await self._claim(self._state.claim())
        except PorticoError as error:
            if self._state.must_join(error):
                await self._join()
            else:
                await asyncio.sleep(self._state.pause(error))
            return []
        return self._state.take_calls(claims)

    async def _execute(self, question: Question, function: Function) -> None:
        try:
            arguments = function.bind(question.arguments)
            with called(question.key):
                if inspect.iscoroutinefunction(function.call):
                    value = await function.call(**arguments)
                else:
                    value = await asyncio.to_thread(function.call, **arguments)
                    if inspect.isawaitable(value):
                        value = await value
            await self._send(question, answer_returned(value, self._state.worker))
        except Exception as error:  # noqa: BLE001  # told to the run that called
            await self._send(question, self._state.to_error_answer(question, error))
        finally:
            self._state.release(question.id)
            self._has_room.set()

    async def _join(self) -> None:
        await self._transport.request("POST", "/api/workers", None, json=self._state.introduction())

    async def _claim(self, body: dict[str, Any]) -> Claims:
        path = f"{self._state.path}/claim"
        return await self._transport.request("POST", path, Claims, json=body, slow=True)

    async def _send(self, question: Question, answer: dict[str, Any]) -> None:
        path = at("api", "questions", question.id, "answer")
        for attempt in range(MAX_SEND_ATTEMPTS):
            try:
                await self._transport.request("POST", path, Question, json=answer)
            except InvalidRequest:
                raise  # JSON cannot express the return value
            except PorticoError as error:
                if is_too_late(error):
                    return
                await asyncio.sleep(0.25 * 2.0**attempt)
            else:
                return


async def _value(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
