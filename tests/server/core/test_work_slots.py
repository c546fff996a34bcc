"""Slots: one key never holds all of them, and nobody waits behind a key that has used up its share."""

from __future__ import annotations

import asyncio
import threading

import pytest

from portico_server.core.errors import TooMany
from portico_server.core.pools import Pool
from portico_server.core.work_slots import KEY, MAX_WAITING_PER_KEY, FairSlots, Slots


async def test_one_key_leaves_slots_to_others() -> None:
    slots = Slots("test", 3, 2)
    over, start_event, order = asyncio.Event(), asyncio.Event(), []

    async def work(key: str) -> None:
        async with slots.hold(key):
            order.append(key)
            if key == "b":
                start_event.set()
            await over.wait()

    tasks = [asyncio.create_task(work("a")) for _number in range(5)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work("b")))
    await start_event.wait()
    assert order == ["a", "a", "b"]
    over.set()
    await asyncio.gather(*tasks)
    assert sorted(order) == ["a"] * 5 + ["b"]


async def test_too_many_waiting_calls_of_one_key_are_refused_with_429() -> None:
    slots = Slots("test", 1, 1)
    over = asyncio.Event()

    async def work() -> None:
        async with slots.hold("a"):
            await over.wait()

    tasks = [asyncio.create_task(work()) for _number in range(MAX_WAITING_PER_KEY + 1)]
    await asyncio.sleep(0)
    with pytest.raises(TooMany) as caught:
        async with slots.hold("a"):
            pass
    assert caught.value.status == 429
    over.set()
    await asyncio.gather(*tasks)


async def test_a_cancelled_holder_releases_its_slot_to_the_next_waiter() -> None:
    slots = Slots("test", 1, 1)
    entered = asyncio.Event()

    async def work() -> None:
        async with slots.hold("a"):
            entered.set()
            await asyncio.Event().wait()

    first, second = asyncio.create_task(work()), asyncio.create_task(work())
    await entered.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    async with slots.hold("b"):
        pass


async def test_a_cancelled_call_occupies_its_thread_until_the_work_ends() -> None:
    pool = Pool("test", 2, per_key=1)
    hold, ran = threading.Event(), []
    cancelled_call = asyncio.create_task(pool.run_for("a", hold.wait))
    await asyncio.sleep(0)
    cancelled_call.cancel()
    await asyncio.gather(cancelled_call, return_exceptions=True)
    again = asyncio.create_task(pool.run_for("a", ran.append, "a"))
    assert await pool.run_for("b", lambda: 7) == 7
    assert not ran
    hold.set()
    await again
    assert ran == ["a"]


async def test_a_key_that_wants_many_delays_others_by_one_piece() -> None:
    slots, order = FairSlots(2), []
    gates = {number: asyncio.Event() for number in range(7)}

    async def work(key: str, number: int) -> None:
        KEY.set(key)
        async with slots.hold():
            order.append((key, number))
            await gates[number].wait()

    tasks = [asyncio.create_task(work("a", number)) for number in range(5)]
    tasks += [asyncio.create_task(work("b", 5)), asyncio.create_task(work("c", 6))]
    await asyncio.sleep(0)
    tasks[2].cancel()
    gates[0].set()
    await asyncio.wait([tasks[0]])
    gates[1].set()
    await asyncio.wait([tasks[1]])
    for gate in gates.values():
        gate.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order[:4] == [("a", 0), ("a", 1), ("b", 5), ("c", 6)]
    assert sorted(order[4:]) == [("a", 3), ("a", 4)]


async def test_several_keys_that_want_many_delay_another_by_one_piece_each() -> None:
    slots, order = FairSlots(1), []
    hold = asyncio.Event()

    async def work(key: str) -> None:
        KEY.set(key)
        async with slots.hold():
            order.append(key)
            await hold.wait()

    tasks = [asyncio.create_task(work(key)) for key in ("a", "a", "a", "b", "b", "b", "c")]
    await asyncio.sleep(0)
    hold.set()
    await asyncio.gather(*tasks)
    assert order == ["a", "b", "c", "a", "b", "a", "b"]


async def test_a_key_with_long_pieces_leaves_a_spare_slot_to_other_keys() -> None:
    slots, order = FairSlots(2, spare=True), []
    gates = {key: asyncio.Event() for key in "abc"}

    async def work(key: str) -> None:
        KEY.set(key)
        async with slots.hold():
            order.append(key)
            await gates[key].wait()

    tasks = [asyncio.create_task(work(key)) for key in ("a", "a", "a", "b", "b", "c")]
    await asyncio.sleep(0)
    assert order == ["a", "a", "b"]
    gates["b"].set()
    await asyncio.wait([tasks[3]])
    await asyncio.sleep(0)
    assert order[3] in ("b", "c")
    gates["c"].set()
    await asyncio.wait([tasks[4], tasks[5]])
    assert sorted(order) == ["a", "a", "b", "b", "c"]
    gates["a"].set()
    await asyncio.gather(*tasks)
    assert order[-1] == "a"
