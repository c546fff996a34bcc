"""Runs in memory: results, errors, time limits, cancellation, usage rows."""

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import text

from portico.wire import Delta, Failed, Finished, Usage, event_to_json
from portico_server.core.context import Context
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import AppOutput, Chat, ChatReply, Request, Result, TokenizedText
from portico_server.core.servable import Card
from portico_server.db import usage
from portico_server.db.database import Database
from portico_server.runs import ended_runs
from portico_server.runs.runner import Runner
from portico_server.runs.usage import UsageLog

CHAT = Chat(({"role": "user", "content": "hello"},))


class Scripted:
    """A Servable that does what the test specifies."""

    def __init__(self, name: str, work: Callable[[Context], Awaitable[Result]]) -> None:
        self.card = Card(name, "model")
        self._work = work

    async def call(self, request: Request, context: Context) -> Result:
        return await self._work(context)


class RunnerFixture:
    """A runner with a registry and a database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.registry = Registry()
        self.usage = UsageLog(database)
        self.runner = Runner(self.registry, self.usage, timeout=60)

    async def rows(self) -> list[dict[str, object]]:
        await self.usage.flush()
        return await self.database.read(usage.totals, 0.0)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RunnerFixture]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    yield RunnerFixture(database)
    database.close()


async def test_a_call_returns_its_result_and_leaves_a_usage_row(daemon: RunnerFixture) -> None:
    async def work(context: Context) -> Result:
        await context.emit(Delta("hi"))
        return ChatReply("hi", usage=Usage(3, 1))

    daemon.registry.add(Scripted("greeter", work))
    result = await daemon.runner.call("chat", "greeter", CHAT, LOCAL)
    assert isinstance(result, ChatReply)
    assert result.content == "hi"
    rows = await daemon.rows()
    assert [(row["name"], row["calls"], row["prompt_tokens"], row["completion_tokens"]) for row in rows] == [
        ("greeter", 1, 3, 1)
    ]


async def test_ended_runs_are_evicted_by_the_memory_size_of_their_results(
    daemon: RunnerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_runs, "MAX_ENDED_BYTES", 3_500_000)
    results = iter(
        [["a" * 1_000_000], {"b": "b" * 1_000_000}, *("c" * 1_000_000 for _ in range(3)), "d" * 9_000_000]
    )

    async def work(_context: Context) -> Result:
        return AppOutput(next(results))

    daemon.registry.add(Scripted("greeter", work))

    async def call() -> int:
        await daemon.runner.call("apps/run", "greeter", CHAT, LOCAL)
        return len(daemon.runner.list())

    assert [await call() for _ in range(6)] == [1, 2, 3, 3, 3, 1]
    assert daemon.runner.list()[0].result.value.startswith("d"), "the last one is there, however large"


async def test_the_ended_run_memory_limit_counts_whole_results_and_events(
    daemon: RunnerFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended_runs, "MAX_ENDED_BYTES", 1_000_000)

    async def hidden(_context: Context) -> Result:
        return AppOutput([*[0] * 5_000, "a" * 600_000])

    async def spoken(context: Context) -> Result:
        await context.emit(Delta("a" * 600_000))
        return ChatReply("")

    for name, work in (("hidden", hidden), ("spoken", spoken)):
        daemon.registry.add(Scripted(name, work))
        runs = [await daemon.runner.start("chat", name, CHAT, LOCAL) for _ in range(3)]
        for run in runs:
            await daemon.runner.wait(run)
        assert [daemon.runner.get(run.id) is run for run in runs] == [False, False, True]


async def test_a_result_is_not_copied_for_its_last_event(daemon: RunnerFixture) -> None:
    ids = tuple(range(1_000))

    async def work(_context: Context) -> Result:
        return TokenizedText(ids)

    daemon.registry.add(Scripted("echo", work))
    run = await daemon.runner.start("chat", "echo", CHAT, LOCAL)
    await daemon.runner.wait(run)
    *_, last = run.log.kept
    assert isinstance(last, Finished)
    assert last.result["ids"] is ids
    assert event_to_json(last)["result"]["ids"] is ids


async def test_waiters_for_a_run_receive_it_and_cancelled_waiters_are_removed(daemon: RunnerFixture) -> None:
    async def work(_context: Context) -> None: ...

    waiter_tasks = [asyncio.create_task(daemon.runner.arrival("run_soon", 10)) for _ in range(3)]
    assert await daemon.runner.arrival("run_never", 0.01) is None
    waiter_tasks[0].cancel()
    await asyncio.wait(waiter_tasks[:1])
    run = daemon.runner.spawn("test", "soon", LOCAL, work, run_id="run_soon")
    assert await asyncio.gather(*waiter_tasks[1:]) == [run, run]
    assert daemon.runner._arrivals == {}
    await daemon.runner.wait(run)


async def test_usage_that_cannot_be_written_waits_until_it_can(
    daemon: RunnerFixture, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(_context: Context) -> Result:
        return ChatReply("hi", usage=Usage(3, 1))

    daemon.registry.add(Scripted("greeter", work))
    await daemon.database.write(
        lambda connection: connection.execute(text("alter table usage rename to away"))
    )
    for _ in range(2):
        await daemon.runner.call("chat", "greeter", CHAT, LOCAL)
        await daemon.usage.flush()
    assert [record.message[:28] for record in caplog.records] == ["usage rows cannot be written"]
    await daemon.database.write(
        lambda connection: connection.execute(text("alter table away rename to usage"))
    )
    assert [row["calls"] for row in await daemon.rows()] == [2]


async def test_a_servable_receives_the_events_of_a_servable_it_calls(daemon: RunnerFixture) -> None:
    async def inner(context: Context) -> Result:
        await context.emit(Delta("inner"))
        return ChatReply("inner")

    async def outer(context: Context) -> Result:
        event_names: list[str] = []

        async def listen(event: object) -> None:
            event_names.append(type(event).__name__)

        await context.call("inner", CHAT, listener=listen)
        return ChatReply(",".join(event_names))

    daemon.registry.add(Scripted("inner", inner))
    daemon.registry.add(Scripted("outer", outer))
    result = await daemon.runner.call("chat", "outer", CHAT, LOCAL)
    assert isinstance(result, ChatReply)
    assert result.content == "Delta"


async def test_a_servable_that_calls_itself_is_refused_with_a_reason(daemon: RunnerFixture) -> None:
    async def work(context: Context) -> Result:
        return await context.call("snake", CHAT)

    daemon.registry.add(Scripted("snake", work))
    with pytest.raises(InvalidRequest, match="calls itself"):
        await daemon.runner.call("chat", "snake", CHAT, LOCAL)


async def test_a_run_that_takes_too_long_is_stopped(daemon: RunnerFixture) -> None:
    stop_event = asyncio.Event()

    async def work(context: Context) -> Result:
        try:
            await asyncio.Event().wait()
        finally:
            stop_event.set()
        return ChatReply("")

    daemon.registry.add(Scripted("slow", work))
    with pytest.raises(DeadlineExceeded, match="slow"):
        await Runner(daemon.registry, daemon.usage, timeout=0.2).call("chat", "slow", CHAT, LOCAL)
    assert stop_event.is_set()


async def test_a_caller_that_leaves_cancels_the_work(daemon: RunnerFixture) -> None:
    start_event, stop_event = asyncio.Event(), asyncio.Event()

    async def work(context: Context) -> Result:
        start_event.set()
        try:
            await asyncio.Event().wait()
        finally:
            stop_event.set()
        return ChatReply("")

    daemon.registry.add(Scripted("slow", work))
    call = asyncio.ensure_future(daemon.runner.call("chat", "slow", CHAT, LOCAL))
    await start_event.wait()
    call.cancel()
    await asyncio.wait([call])
    assert stop_event.is_set()
    assert daemon.runner.list()[0].status == "cancelled"


async def test_an_internal_error_is_reported_without_its_details(daemon: RunnerFixture) -> None:
    async def work(context: Context) -> Result:
        raise ZeroDivisionError("secret detail")

    daemon.registry.add(Scripted("broken", work))
    run = await daemon.runner.start("chat", "broken", CHAT, LOCAL)
    with pytest.raises(PorticoError) as caught:
        await daemon.runner.wait(run)
    assert caught.value.status == 500
    assert "secret" not in caught.value.message
    events = [event async for _, event in run.log.follow()]
    assert isinstance(events[-1], Failed)


class Line:
    """A relay of three chunks that records when it was closed."""

    def __init__(self, *, error: PorticoError | None = None) -> None:
        self.card = Card("line", "model")
        self.closed = False
        self._error = error

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        relayed = RelayResponse("text/event-stream", self._chunks())
        relayed.usage = Usage(5, 7)
        return relayed

    async def _chunks(self) -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                yield b"data: %d\n\n" % number
            if self._error:
                raise self._error
        finally:
            self.closed = True


async def test_a_relay_passes_bytes_and_counts_tokens(daemon: RunnerFixture) -> None:
    relayed = await daemon.runner.relay(Line(), "line", Relay("chat/completions", {}), LOCAL)
    assert [chunk async for chunk in relayed.chunks] == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]
    assert [(row["prompt_tokens"], row["completion_tokens"]) for row in await daemon.rows()] == [(5, 7)]
    assert daemon.runner.list()[0].status == "completed"


async def test_a_client_that_leaves_a_relay_closes_the_upstream_stream(daemon: RunnerFixture) -> None:
    line = Line()
    relayed = await daemon.runner.relay(line, "line", Relay("chat/completions", {}), LOCAL)
    chunks = relayed.chunks
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]
    assert line.closed
    assert daemon.runner.list()[0].status == "cancelled"


async def test_an_error_in_mid_stream_is_recorded(daemon: RunnerFixture) -> None:
    line = Line(error=PorticoError("The engine died.", code="engine_failed"))
    relayed = await daemon.runner.relay(line, "line", Relay("chat/completions", {}), LOCAL)
    with pytest.raises(PorticoError):
        async for _ in relayed.chunks:
            pass
    run = daemon.runner.list()[0]
    assert (run.status, run.error.code if run.error else None) == ("failed", "engine_failed")


async def test_failed_and_cancelled_runs_release_their_values_from_memory(daemon: RunnerFixture) -> None:
    class Large:
        """The result of a step."""

    references: list[weakref.ref[Large]] = []
    start_event = asyncio.Event()

    async def work(context: Context, *, hangs: bool) -> Result:
        large_value = Large()
        references.append(weakref.ref(large_value))
        start_event.set()
        if hangs:
            await asyncio.Event().wait()
        try:
            raise ValueError
        except ValueError as error:
            raise InvalidRequest("No.") from error

    failed_run = await daemon.runner.begin("flow", "f", LOCAL, partial(work, hangs=False))
    with pytest.raises(InvalidRequest):
        await daemon.runner.wait(failed_run)
    start_event.clear()
    cancelled = await daemon.runner.begin("flow", "f", LOCAL, partial(work, hangs=True))
    await start_event.wait()
    await cancelled.cancel()
    gc.collect()
    assert {daemon.runner.get(run.id) for run in (failed_run, cancelled)} == {failed_run, cancelled}
    assert (failed_run.status, cancelled.status) == ("failed", "cancelled")
    assert [value() for value in references] == [None, None]
