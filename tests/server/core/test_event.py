"""The event log: ordered, complete for listeners, resumable."""

import asyncio

from portico.wire import Delta, Finished
from portico_server.core.event import MAX_UNREAD_EVENTS, EventLog


async def test_every_listener_gets_every_event_in_order() -> None:
    log = EventLog()
    count = MAX_UNREAD_EVENTS * 3

    async def listen() -> list[int]:
        return [number async for number, _ in log.follow()]

    async with asyncio.TaskGroup() as tasks:
        first, second = tasks.create_task(listen()), tasks.create_task(listen())
        for number in range(count):
            await log.emit(Delta(str(number)))
        await log.emit(Finished())
    assert first.result() == second.result() == list(range(1, count + 2))


async def test_a_listener_that_comes_back_continues_without_a_gap() -> None:
    log = EventLog()
    for number in range(10):
        await log.emit(Delta(str(number)))
    await log.emit(Finished())
    assert [number async for number, _ in log.follow(after=7)] == [8, 9, 10, 11]


async def test_a_listener_that_leaves_does_not_stop_the_run() -> None:
    log = EventLog()
    follower = log.follow()
    first = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    await log.emit(Delta("first"))
    await first

    async def run() -> None:
        for number in range(MAX_UNREAD_EVENTS * 2):
            await log.emit(Delta(str(number)))

    ahead = asyncio.ensure_future(run())
    for _ in range(MAX_UNREAD_EVENTS * 3):
        await asyncio.sleep(0)
    assert not ahead.done()
    await follower.aclose()
    await asyncio.wait_for(ahead, 60)
    assert log.last == 1 + MAX_UNREAD_EVENTS * 2


async def test_events_after_the_finished_event_are_dropped() -> None:
    log = EventLog()
    await log.emit(Finished())
    await log.emit(Delta("late"))
    assert log.last == 1
