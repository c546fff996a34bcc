"""Batches of messages through Anthropic's own client, in strict mode, against a daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from anthropic import AsyncAnthropic, BadRequestError, ConflictError, NotFoundError
from tests.daemon import Daemon

pytestmark = pytest.mark.asyncio(loop_scope="module")


def message(text: Any = "one two three", **fields: Any) -> Any:
    return {"model": "echo", "max_tokens": 9, "messages": [{"role": "user", "content": text}], **fields}


def batched(*params: Any) -> Any:
    """Return requests numbered from 0."""
    return [
        {"custom_id": f"request-{number}", "params": request_params}
        for number, request_params in enumerate(params)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(daemon: Daemon) -> AsyncIterator[AsyncAnthropic]:
    async with AsyncAnthropic(
        base_url=daemon.url, api_key="local", max_retries=0, _strict_response_validation=True
    ) as opened_client:
        yield opened_client


async def wait_for_end(daemon: Daemon, batch_id: str) -> None:
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
        run = (await http.get(f"/v1/batches/{batch_id}")).json()["run_id"]
        await http.get(f"/api/runs/{run}/events")


@pytest.mark.conformance("Anthropic", "Message batches", "anthropic")
async def test_each_request_gets_a_result(client: AsyncAnthropic, daemon: Daemon) -> None:
    requests = batched(message(), message(stop_sequences=["three"]), message([{"type": "novelty"}]))
    batch = await client.messages.batches.create(requests=requests)
    assert (batch.type, batch.results_url) == ("message_batch", None)
    await wait_for_end(daemon, batch.id)
    batch = await client.messages.batches.retrieve(batch.id)
    counts = batch.request_counts
    assert (batch.processing_status, batch.ended_at is not None) == ("ended", True)
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 2, 1)
    results = {item.custom_id: item.result async for item in await client.messages.batches.results(batch.id)}
    first, second, third = (results[f"request-{number}"] for number in range(3))
    assert first.type == second.type == "succeeded"
    assert first.message.content[0].text == "one two three"
    assert second.message.stop_sequence == "three"
    assert third.type == "errored" and third.error.error.type == "invalid_request_error"
    assert "novelty" in third.error.error.message


async def test_batches_are_listed_in_pages_without_those_of_other_endpoints(
    client: AsyncAnthropic, daemon: Daemon
) -> None:
    ids = [(await client.messages.batches.create(requests=batched(message()))).id for _ in range(2)]
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
        line = b'{"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": '
        line += b'{"model": "fake-embedding", "input": "a"}}'
        upload = {"data": {"purpose": "batch"}, "files": {"file": ("a.jsonl", line)}}
        file_id = (await http.post("/v1/files", **upload)).json()["id"]
        body = {"input_file_id": file_id, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        other_batch = (await http.post("/v1/batches", json=body)).json()["id"]
    newest = await client.messages.batches.list(limit=1)
    assert ([batch.id for batch in newest.data], newest.has_more) == ([ids[1]], True)
    following = await client.messages.batches.list(limit=1, after_id=ids[1])
    assert [batch.id for batch in following.data] == [ids[0]]
    with pytest.raises(NotFoundError, match="/v1/batches"):
        await client.messages.batches.retrieve(other_batch)
    for batch_id in ids:
        await wait_for_end(daemon, batch_id)


async def test_a_batch_is_cancelled_and_has_results_only_when_it_has_ended(
    client: AsyncAnthropic, daemon: Daemon
) -> None:
    batch = await client.messages.batches.create(requests=batched(*[message("a " * 200)] * 200))
    try:
        cancelling = await client.messages.batches.cancel(batch.id)
        assert cancelling.processing_status in ("canceling", "ended")
    except ConflictError:
        pass  # it had ended
    await wait_for_end(daemon, batch.id)
    results = [item.result.type async for item in await client.messages.batches.results(batch.id)]
    counts = (await client.messages.batches.retrieve(batch.id)).request_counts
    assert results.count("succeeded") == counts.succeeded
    assert results.count("canceled") == counts.canceled
    assert len(results) in (0, 200)  # a batch that is cancelled before it was checked has no requests


@pytest.mark.parametrize(
    ("requests", "word"),
    [
        (batched(message(), message(model="handbook")), "handbook"),
        (batched(message(model="nothing")), "nothing"),
        (batched(message(stream=True)), "stream"),
        ([*batched(message()), *batched(message())], "request-0"),
        ([], "requests"),
    ],
)
async def test_an_invalid_batch_is_refused_with_the_reason(
    client: AsyncAnthropic, daemon: Daemon, requests: Any, word: str
) -> None:
    with pytest.raises(BadRequestError, match=word):
        await client.messages.batches.create(requests=requests)
    async with httpx.AsyncClient(base_url=daemon.url, timeout=60) as http:
        answer = await http.post("/v1/messages/batches", json={"requests": requests})
    document = answer.json()
    assert (document["type"], document["error"]["type"]) == ("error", "invalid_request_error"), document
