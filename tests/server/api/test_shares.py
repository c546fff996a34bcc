"""What all share, one key does not have to itself: others come next, however much it has begun."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import orjson
import pytest
from tests.api_server import ApiServer, api_server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from portico.wire import Usage
from portico_server.api.exchange import MAX_BODIES_PER_KEY, MAX_JSON_DEPTH, parse_in_turn
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.pools import KEY, FairSlots
from portico_server.core.request import Embed, Reply, Request, Result, Vectors
from portico_server.core.servable import Card
from portico_server.tools.sandbox import light


async def key(api: ApiServer, name: str, *scopes: str, **limits: int) -> dict[str, str]:
    """A new key, as the header with which it is presented."""
    body = {"name": name, "scopes": scopes, "limits": limits}
    made = (await api.client.post("/api/keys", json=body)).json()
    return {"authorization": f"Bearer {made['key']}"}


async def test_the_light_sandbox_is_for_one_key_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, order = 0, []
    five, six, hold = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class HeldSlots(FairSlots):
        """As it is, and nobody's turn ends before six have asked for one."""

        @asynccontextmanager
        async def taken(self) -> AsyncIterator[None]:
            nonlocal asked
            asked += 1
            if asked == 5:
                five.set()
            if asked == 6:
                six.set()
            async with super().taken():
                order.append(KEY.get())
                await hold.wait()
                yield

    monkeypatch.setattr(light, "FairSlots", HeldSlots)
    monkeypatch.setattr(light, "WORKERS", 1)
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        greedy = await key(api, "greedy", "tools:python_light:call")
        modest = await key(api, "modest", "tools:python_light:call")

        async def run(headers: dict[str, str]) -> httpx.Response:
            given = {"arguments": {"code": "6 * 7"}}
            return await api.client.post("/api/tools/python_light/call", json=given, headers=headers)

        calls = [asyncio.create_task(run(greedy)) for _ in range(5)]
        await five.wait()
        calls.append(asyncio.create_task(run(modest)))
        await six.wait()
        hold.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * 6, answers[0].text
    assert len(set(order)) == 2
    assert order.index(next(other for other in order if other != order[0])) == 1, order


class Held:
    """A model that says a word once it may."""

    def __init__(self) -> None:
        self.card = Card("held", "model", capabilities=frozenset({"chat"}))
        self.asked, self.hold = asyncio.Event(), asyncio.Event()

    async def call(self, request: Request, context: Context) -> Result:
        self.asked.set()
        await self.hold.wait()
        return Reply("word", usage=Usage(1, 1), model="held")


class HeldVectors(Held):
    """A model that makes vectors once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.card = Card("held-vectors", "model", capabilities=frozenset({"embeddings"}))

    async def call(self, request: Request, context: Context) -> Result:
        assert isinstance(request, Embed)
        self.asked.set()
        await self.hold.wait()
        return Vectors(tuple(bytes(16) for _ in request.input), 4)


APPROVED = {
    "portico_flow": 1,
    "name": "approved",
    "durability": "normal",
    "step": {"op": "approve", "name": "ok", "message": "Go?"},
}


async def test_what_a_key_has_begun_and_not_ended_has_a_bound(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, flow_per_key=2, responses_per_key=2) as api:
        api.add(model := Held())
        greedy, modest = await key(api, "greedy", "chat"), await key(api, "modest", "chat")

        async def flow(headers: dict[str, str]) -> tuple[int, str]:
            """The status, and the id of the run or what is wrong."""
            given = {"flow": APPROVED}
            async with api.client.stream("POST", "/api/flows/run", json=given, headers=headers) as answer:
                if answer.status_code == 200:
                    return 200, answer.headers["x-portico-run"]
                return answer.status_code, (await answer.aread()).decode()

        async def respond(headers: dict[str, str]) -> httpx.Response:
            given = {"model": "held", "input": "x", "background": True}
            return await api.client.post("/v1/responses", json=given, headers=headers)

        (_, first), _second = await flow(greedy), await flow(greedy)
        status, refused = await flow(greedy)
        assert status == 429 and "too_many_unfinished" in refused and "flow_per_key" in refused
        assert (await flow(modest))[0] == 200
        await api.client.post(f"/api/runs/{first}/cancel", headers=greedy)
        while (await flow(greedy))[0] == 429:  # until the end of the first one is written
            pass
        again = await api.client.post(f"/api/runs/{first}/resume", headers=greedy)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "too_many_unfinished")

        assert [(await respond(greedy)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await respond(modest)).status_code == 200
        assert [(await respond({})).status_code for _ in range(3)] == [200] * 3  # the operator's
        model.hold.set()
        while (await respond(greedy)).status_code == 429:
            pass


async def ended(socket: ClientConnection) -> str:
    """The type of the last event of a response, or the code of an error."""
    while True:
        event = orjson.loads(await socket.recv())
        if event["type"] == "error":
            return str(event["error"]["code"])
        if event["type"] == "response.completed":
            return str(event["type"])


async def test_messages_on_sockets_and_bodies_are_in_one_account(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, max_body_mb=1) as api:
        api.add(model := Held())
        greedy, modest, hasty = [await key(api, name, "chat") for name in ("greedy", "modest", "hasty")]
        body = {"model": "held", "input": "x" * 1_000_000}
        message = orjson.dumps({"type": "response.create", **body}).decode()
        url = f"{api.url.replace('http', 'ws', 1)}/v1/responses"

        def opened(headers: dict[str, str]) -> connect:
            return connect(url, additional_headers=headers, proxy=None)

        async with opened(hasty) as first:
            for _ in range(MAX_BODIES_PER_KEY + 1):
                await first.send(message)
            assert await ended(first) == "too_many_at_once"
            with pytest.raises(ConnectionClosed):
                await first.recv()
            assert first.close_code == 1013
        calls = []
        for _ in range(MAX_BODIES_PER_KEY):
            model.asked.clear()
            calls.append(asyncio.create_task(api.client.post("/v1/responses", json=body, headers=greedy)))
            await model.asked.wait()
        async with opened(greedy) as second, opened(modest) as other:
            await second.send(message)
            assert await ended(second) == "too_many_at_once"
            await other.send(message)
            model.hold.set()
            assert await ended(other) == "response.completed"
        assert [call.status_code for call in await asyncio.gather(*calls)] == [200] * MAX_BODIES_PER_KEY
        async with opened(greedy) as third:
            for _ in range(2 * MAX_BODIES_PER_KEY):
                await third.send(message)
                assert await ended(third) == "response.completed"


async def test_long_work_on_the_stores_of_one_key_lets_another_key_pass(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        await api.services.stores.start()
        api.add(model := HeldVectors())
        greedy, modest = [await key(api, name, "stores:*:manage") for name in ("greedy", "modest")]

        async def filled(name: str, headers: dict[str, str], **more: str) -> str:
            """The address of a file that is put into a new store."""
            made = await api.client.post("/api/stores", json={"name": name, **more}, headers=headers)
            assert made.status_code == 200, made.text
            form = {"file": (f"{name}.md", f"# {name}".encode(), "text/markdown")}
            kept = await api.client.post(
                "/v1/files", files=form, data={"purpose": "assistants"}, headers=headers
            )
            files = f"/v1/vector_stores/{made.json()['id']}/files"
            given = {"file_id": kept.json()["id"]}
            assert (await api.client.post(files, json=given, headers=headers)).status_code == 200
            return f"{files}/{given['file_id']}"

        async def indexed(address: str, headers: dict[str, str]) -> None:
            while (await api.client.get(address, headers=headers)).json()["status"] != "completed":
                pass

        slow = [await filled(f"slow-{number}", greedy, embedding_model="held-vectors") for number in range(5)]
        await model.asked.wait()
        await indexed(await filled("quick", modest, embedding_model=""), modest)
        model.hold.set()
        for address in slow:
            await indexed(address, greedy)


async def test_what_a_key_keeps_on_the_disk_has_a_bound(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, storage_per_key_mb=1) as api:
        greedy, modest = [await key(api, name, "chat") for name in ("greedy", "modest")]
        rich = await key(api, "rich", "chat", storage_mb=2)

        async def keep(headers: dict[str, str]) -> httpx.Response:
            form = {"file": ("bread.txt", b"b" * 600_000, "text/plain")}
            return await api.client.post(
                "/v1/files", files=form, data={"purpose": "user_data"}, headers=headers
            )

        async def stored() -> dict[str, int]:
            return {
                one["name"]: one["stored_bytes"] for one in (await api.client.get("/api/keys")).json()["data"]
            }

        first, refused = await keep(greedy), await keep(greedy)
        assert (first.status_code, refused.status_code) == (200, 413)
        error = refused.json()["error"]
        assert error["code"] == "storage_limit_exceeded" and "storage_mb" in error["message"]
        announced = {"purpose": "user_data", "filename": "a.txt", "bytes": 600_000, "mime_type": "text/plain"}
        upload = await api.client.post("/v1/uploads", json=announced, headers=greedy)
        assert (upload.status_code, upload.json()["error"]["code"]) == (413, "storage_limit_exceeded")
        assert [(await keep(headers)).status_code for headers in (modest, rich, rich, {}, {})] == [200] * 5
        assert await stored() == {"greedy": 600_000, "modest": 600_000, "rich": 1_200_000}
        await api.client.delete(f"/v1/files/{first.json()['id']}", headers=greedy)
        assert (await stored())["greedy"] == 0
        assert (await keep(greedy)).status_code == 200


async def test_between_large_bodies_everything_else_has_its_turn() -> None:
    large = orjson.dumps({"a": "[{," * 300_000, "b": list(range(1_000))})
    deep = b"[" * (MAX_JSON_DEPTH + 1) + b"]" * (MAX_JSON_DEPTH + 1) + b" " * 1_000_000
    order: list[str] = []
    over = asyncio.Event()

    async def parse(raw: bytes) -> object:
        try:
            return await parse_in_turn(raw)
        finally:
            order.append("body")

    async def look() -> None:
        while not over.is_set():
            order.append("look")
            await asyncio.sleep(0)

    looking = asyncio.create_task(look())
    found = await asyncio.gather(*(parse(raw) for raw in (large, large, deep, large)), return_exceptions=True)
    over.set()
    await looking
    assert found[0] == found[3] == orjson.loads(large)
    assert isinstance(found[2], InvalidRequest) and found[2].code == "body_too_complex"
    assert "body body" not in " ".join(order), order
