"""Work of parts that are built while the daemon serves."""

import asyncio

import pytest

from portico_server.core.errors import Unavailable
from portico_server.core.late_work import LateWork


class Work:
    """Work that sets an event when it begins, and another when it ends."""

    def __init__(self) -> None:
        self.begin_event = asyncio.Event()
        self.end_event = asyncio.Event()

    async def run(self) -> None:
        self.begin_event.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.end_event.set()


async def test_work_begins_with_the_daemon_or_while_it_serves_and_ends_with_it() -> None:
    late_work, early, late = LateWork(), Work(), Work()
    late_work.begin("early", early.run)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(late_work.run())
        await early.begin_event.wait()
        late_work.begin("late", late.run)
        await late.begin_event.wait()
        assert not early.end_event.is_set()
        running.cancel()
    assert early.end_event.is_set() and late.end_event.is_set()


async def test_no_work_begins_once_the_daemon_shuts_down() -> None:
    late_work, early, late = LateWork(), Work(), Work()

    async def begin_other_work_at_the_end() -> None:
        try:
            await early.run()
        finally:
            with pytest.raises(Unavailable, match="shutting down"):
                late_work.begin("late", late.run)

    late_work.begin("early", begin_other_work_at_the_end)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(late_work.run())
        await early.begin_event.wait()
        running.cancel()
    with pytest.raises(Unavailable):
        late_work.begin("late", late.run)
    assert early.end_event.is_set() and not late.begin_event.is_set()


async def test_failed_work_ends_all_other_work() -> None:
    late_work, sound = LateWork(), Work()

    async def fail() -> None:
        raise ValueError("broken")

    late_work.begin("sound", sound.run)
    late_work.begin("broken", fail)
    with pytest.raises(ExceptionGroup):
        await late_work.run()
    assert sound.end_event.is_set()
