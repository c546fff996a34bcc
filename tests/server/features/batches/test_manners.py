"""How a batch yields: to interactive calls, to a full queue, and to another daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Batch
from sqlalchemy import text
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.core.errors import PorticoError, TooMany
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.servable import Relays
from portico_server.features.batches.feature import MAX_RUNNING_BATCHES

CHAT: Any = "/v1/chat/completions"

ANSWER = (
    b'{"choices": [{"message": {"content": "yes"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}'
)


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        yield server


def client_of(daemon: ApiServer) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{daemon.url}/v1", api_key="local", max_retries=0)


async def begin(client: openai.AsyncOpenAI, model: str, count: int = 1) -> Batch:
    lines = "\n".join(
        f'{{"custom_id": "{number}", "method": "POST", "url": "{CHAT}", '
        f'"body": {{"model": "{model}", "messages": [{{"role": "user", "content": "Yes?"}}]}}}}'
        for number in range(count)
    )
    file = await client.files.create(file=("requests.jsonl", lines.encode()), purpose="batch")
    return await client.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")


async def run_ended(daemon: ApiServer, batch: Batch) -> None:
    run: str = getattr(batch, "run_id")  # noqa: B009  # a field of ours
    async with daemon.client.stream("GET", f"/api/runs/{run}/events") as events:
        async for _line in events.aiter_lines():
            pass


async def test_batch_requests_yield_while_an_interactive_caller_waits(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.runs.throttle.MAX_WAIT_S", 600.0)
    hold = asyncio.Event()
    slow, teller = RelayModel("slow", b"{}", hold=hold), RelayModel("teller", ANSWER)
    daemon.add(slow, teller)
    async with client_of(daemon) as client:
        interactive_call = asyncio.create_task(
            client.chat.completions.create(model="slow", messages=[{"role": "user", "content": "Hello"}])
        )
        await slow.began.wait()
        batch = await begin(client, "teller")
        while (await client.batches.retrieve(batch.id)).status != "in_progress":
            pass
        for _look in range(20):
            assert (await client.batches.retrieve(batch.id)).request_counts.completed == 0  # type: ignore[union-attr]
        assert teller.asked == []
        hold.set()
        await interactive_call
        await run_ended(daemon, batch)
        done = await client.batches.retrieve(batch.id)
        assert (done.status, len(teller.asked)) == ("completed", 1)


class Full(RelayModel):
    """A model whose queue is full for its first callers."""

    def __init__(self, name: str, refusals: int) -> None:
        super().__init__(name, ANSWER)
        self.refusals = refusals

    async def relay(self, request: Relay, context: Any) -> RelayResponse:
        if self.refusals:
            self.refusals -= 1
            raise TooMany(f"'{self.card.name}' has 4 calls already.", code="queue_full", retry_after=0.01)
        return await super().relay(request, context)


async def test_batch_requests_are_retried_when_the_model_queue_is_full(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.features.batches.line_request.FIRST_RETRY_S", 0.001)
    full: Relays = Full("full", 12)
    daemon.add(full)
    async with client_of(daemon) as client:
        batch = await begin(client, "full", 3)
        await run_ended(daemon, batch)
        done = await client.batches.retrieve(batch.id)
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.request_counts.failed) == (3, 0)


async def test_a_request_that_keeps_failing_is_recorded_in_the_error_file(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.features.batches.line_request.FIRST_RETRY_S", 0.001)
    broken_model = RelayModel("broken", error=PorticoError("It is broken."))
    daemon.add(broken_model)
    async with client_of(daemon) as client:
        batch = await begin(client, "broken")
        await run_ended(daemon, batch)
        done = await client.batches.retrieve(batch.id)
        assert done.error_file_id is not None
        assert "It is broken." in (await client.files.content(done.error_file_id)).text
        assert len(broken_model.asked) == 5


async def test_many_result_lines_are_written_before_the_write_interval_ends(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("portico_server.features.batches.result_writer.WRITE_INTERVAL_S", 600.0)
    monkeypatch.setattr("portico_server.features.batches.result_writer.FULL_WRITE_LINES", 2)
    monkeypatch.setattr("portico_server.features.batches.result_writer.MAX_WAITING_LINES", 3)
    daemon.add(RelayModel("teller", ANSWER))
    async with client_of(daemon) as client:
        batch = await begin(client, "teller", 40)
        await run_ended(daemon, batch)
        done = await client.batches.retrieve(batch.id)
        assert done.request_counts is not None
        assert (done.status, done.request_counts.completed) == ("completed", 40)


async def test_a_batch_that_waits_for_its_turn_is_cancelled_at_once(daemon: ApiServer) -> None:
    hold = asyncio.Event()
    slow = RelayModel("slow", ANSWER, hold=hold)
    daemon.add(slow)
    async with client_of(daemon) as client:
        running = [await begin(client, "slow") for _ in range(MAX_RUNNING_BATCHES)]
        queued_batch = await begin(client, "slow")
        cancelled = await client.batches.cancel(queued_batch.id)
        assert (cancelled.status, cancelled.cancelled_at is not None) == ("cancelled", True)
        hold.set()
        for batch in running:
            await run_ended(daemon, batch)
            assert (await client.batches.retrieve(batch.id)).status == "completed"
        assert len(slow.asked) == MAX_RUNNING_BATCHES


async def test_a_daemon_that_has_lost_a_batch_to_another_one_writes_nothing_more(daemon: ApiServer) -> None:
    hold = asyncio.Event()
    slow = RelayModel("slow", ANSWER, hold=hold)
    daemon.add(slow)
    async with client_of(daemon) as client:
        batch = await begin(client, "slow")
        await slow.began.wait()
        statement = text("update runs set lease_owner = 'another' where kind = 'batch'")
        await daemon.services.database.write(lambda connection: connection.execute(statement).rowcount)
        hold.set()
        run: str = getattr(batch, "run_id")  # noqa: B009  # a field of ours
        living = await daemon.services.runner.arrival(run, 0)
        assert living is not None and living.task is not None
        await asyncio.wait([living.task])
        await daemon.services.scheduler.wait_for_end(run)
        current = await client.batches.retrieve(batch.id)
        assert current.status == "in_progress"
        assert current.request_counts is not None and current.request_counts.completed == 0
