"""Memory for bodies: one budget for all keys, a share for each, and a place for everybody else."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.api import body_memory
from portico_server.api.body_memory import BODY_FACTOR, FREE_BODY_BYTES, BodyMemory
from portico_server.api.json_body import memory_of_values
from portico_server.api.openai.form_parser import FormParser
from portico_server.settings import load

MB = 2**20
OPERATOR_KEY = "pk-of-the-operator"
BUDGET_MB = 32
"""Budget of the daemon of these tests: a key can use 8 MB, two bodies of `LARGE` characters."""

LARGE = 1_200_000
CHAT = "/v1/chat/completions"


class Desk:
    """A daemon whose model answers no call before ``hold`` is set."""

    def __init__(self, api: ApiServer) -> None:
        self.api = api
        self.hold = asyncio.Event()
        self.model = RelayModel("teller", b'{"choices":[]}', hold=self.hold)
        api.add(self.model)

    async def key(self, name: str) -> str:
        fields = {"name": name, "scopes": ["chat"]}
        answer = await self.api.client.post("/api/keys", headers=bearer(OPERATOR_KEY), json=fields)
        return str(answer.json()["key"])

    async def ask(self, key: str, chars: int = LARGE, path: str = CHAT) -> httpx.Response:
        messages = [{"role": "user", "content": "a" * chars}]
        body = {"model": "teller", "max_tokens": 1, "messages": messages, "stream": False}
        return await self.api.client.post(path, headers=bearer(key), json=body)

    async def begin(self, key: str, count: int) -> list[asyncio.Task[httpx.Response]]:
        """Return calls that have reached the model."""
        calls = []
        for _ in range(count):
            self.model.began.clear()
            calls.append(asyncio.create_task(self.ask(key)))
            await self.model.began.wait()
        return calls


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with (
        asyncio.timeout(60),
        api_server(tmp_path, api_key=OPERATOR_KEY, body_memory_mb=BUDGET_MB) as api,
    ):
        yield Desk(api)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let bodies wait for memory a tenth of a second only. Request this before `desk`."""
    monkeypatch.setattr(body_memory, "MAX_WAIT_S", 0.1)


async def test_a_key_is_limited_to_its_share_of_body_memory(impatient: None, desk: Desk) -> None:
    greedy, modest = await desk.key("greedy"), await desk.key("modest")
    calls = await desk.begin(greedy, 2)
    refusal = await desk.ask(greedy)
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (429, "too_many_at_once")
    assert float(refusal.headers["retry-after"]) > 0
    small = asyncio.create_task(desk.ask(greedy, chars=FREE_BODY_BYTES // 2))
    calls += [*await desk.begin(modest, 2), small]
    desk.hold.set()
    assert [call.status_code for call in await asyncio.gather(*calls)] == [200] * 5
    assert (await desk.ask(greedy)).status_code == 200


async def test_all_keys_share_one_budget(impatient: None, desk: Desk) -> None:
    keys = [await desk.key(f"key-{number}") for number in range(5)]
    calls = [call for key in keys[:4] for call in await desk.begin(key, 2)]
    calls += await desk.begin(keys[4], 1)
    assert (await desk.ask(keys[4])).status_code == 429
    desk.hold.set()
    assert {call.status_code for call in await asyncio.gather(*calls)} == {200}


async def test_a_body_waits_for_memory(desk: Desk) -> None:
    key = await desk.key("patient")
    calls = [*await desk.begin(key, 2), *(asyncio.create_task(desk.ask(key)) for _ in range(4))]
    desk.hold.set()
    assert [call.status_code for call in await asyncio.gather(*calls)] == [200] * 6


async def test_one_body_may_use_the_whole_share(desk: Desk) -> None:
    desk.hold.set()
    assert (await desk.ask(await desk.key("large"), chars=20 * MB)).status_code == 200


async def test_the_operator_may_use_the_whole_budget(impatient: None, desk: Desk) -> None:
    calls = await desk.begin(OPERATOR_KEY, 9)
    assert (await desk.ask(OPERATOR_KEY)).status_code == 429
    desk.hold.set()
    assert {call.status_code for call in await asyncio.gather(*calls)} == {200}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (CHAT, ("error", "type")),
        ("/v1/responses", ("error", "type")),
        ("/v1/messages", ("error", "type")),
        ("/api/chat", ("error",)),
        ("/v1/vector_stores", ("error", "type")),
        ("/api/keys", ("error", "type")),
        ("/mcp", ("error", "code")),
    ],
)
async def test_a_body_memory_refusal_has_the_error_format_of_its_route(
    impatient: None, desk: Desk, path: str, where: tuple[str, ...]
) -> None:
    key = await desk.key("greedy")
    calls = await desk.begin(key, 2)
    refusal = await desk.ask(key, path=path)
    assert refusal.status_code == 429
    assert refusal.headers["retry-after"]
    body: Any = refusal.json()
    for name in where:
        body = body[name]
    assert body
    desk.hold.set()
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(b'{"a":[%s]}' % b",".join([b"[]"] * 40_000), id="lists"),
        pytest.param(b'{"a":[%s]}' % b",".join([b'{"b":1}'] * 20_000), id="objects"),
        pytest.param(b'{"a":[%s]}' % b",".join([b"1.5"] * 100_000), id="numbers"),
    ],
)
async def test_json_values_are_estimated_at_over_five_times_their_bytes(values: bytes) -> None:
    assert await memory_of_values(values) > 5 * len(values)


async def test_a_long_text_adds_little_to_the_value_memory_estimate() -> None:
    text = b'{"a":"%s"}' % (b"The tide is high at noon. " * 10_000)
    assert await memory_of_values(text) < 1_000


@pytest.mark.parametrize(
    ("size", "cost"),
    [(0, 0), (FREE_BODY_BYTES, 0), (MB, BODY_FACTOR * MB), (3 * MB, 8 * MB)],
)
def test_the_memory_charged_for_a_body_grows_with_its_size(size: int, cost: int, tmp_path: Path) -> None:
    settings = load({"home": str(tmp_path), "body_memory_mb": BUDGET_MB}, {}).settings
    assert BodyMemory(settings).cost(size) == cost


class ReceivedForm:
    """A form that refers to its parser, as the readers of forms do."""

    def __init__(self) -> None:
        self.data = b""
        self.parser = FormParser(b"b", self.on_part, self.on_data)

    def on_part(self, headers: Mapping[bytes, bytes]) -> None: ...

    def on_data(self, data: bytes, start: int, end: int) -> None:
        self.data += data[start:end]


def test_a_form_is_freed_without_the_garbage_collector() -> None:
    form = ReceivedForm()
    with closing(form.parser) as parser:
        parser.write(b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nword\r\n--b--\r\n')
        parser.finish()
    assert form.data == b"word"
    reference = weakref.ref(form)
    gc.disable()
    try:
        del form, parser
        assert reference() is None
    finally:
        gc.enable()
