"""Shared resources are not monopolised by one key: others get the next turn, however much a key has started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import orjson
import pytest
from tests.api_server import ApiServer, api_server
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from portico.wire import Usage
from portico_server.api.json_body import MAX_JSON_DEPTH, parse_in_turn
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, TooLarge
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.request import ChatReply, Embed, Request, Result, Vectors
from portico_server.core.servable import Card
from portico_server.core.work_slots import KEY, FairSlots
from portico_server.db.files import MIRRORED_OWNER, FileRow
from portico_server.db.store_files import MirroredFile
from portico_server.features.sandbox import light
from portico_server.models.spec import ModelSpec
from portico_server.runs.artifacts import Author, NewArtifact
from portico_server.runs.scheduler import Scheduler

CHAT: Final = "/v1/chat/completions"
ANYTHING_EVALUATED: Final = {
    "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
    "testing_criteria": [
        {"type": "string_check", "name": "same", "operation": "eq", "input": "a", "reference": "a"}
    ],
}


async def key(api: ApiServer, name: str, *scopes: str, **limits: int) -> dict[str, str]:
    """Return a new key, as the header that presents it."""
    body = {"name": name, "scopes": scopes, "limits": limits}
    new_key = (await api.client.post("/api/keys", json=body)).json()
    return {"authorization": f"Bearer {new_key['key']}"}


async def test_light_sandbox_slots_alternate_between_waiting_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, order = 0, []
    five, six, hold = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class HeldSlots(FairSlots):
        """As `FairSlots`, except that no turn ends before six callers have asked."""

        @asynccontextmanager
        async def hold(self) -> AsyncIterator[None]:
            nonlocal asked
            asked += 1
            if asked == 5:
                five.set()
            if asked == 6:
                six.set()
            async with super().hold():
                order.append(KEY.get())
                await hold.wait()
                yield

    monkeypatch.setattr(light, "FairSlots", HeldSlots)
    monkeypatch.setattr(light, "WORKERS", 1)
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        greedy = await key(api, "greedy", "tools:python_light:call")
        modest = await key(api, "modest", "tools:python_light:call")

        async def run(headers: dict[str, str]) -> httpx.Response:
            body = {"arguments": {"code": "6 * 7"}}
            return await api.client.post("/api/tools/python_light/call", json=body, headers=headers)

        calls = [asyncio.create_task(run(greedy)) for _ in range(5)]
        await five.wait()
        calls.append(asyncio.create_task(run(modest)))
        await six.wait()
        hold.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [200] * 6, answers[0].text
    assert len(set(order)) == 2
    assert order.index(next(caller for caller in order if caller != order[0])) == 1, order


class Held:
    """A model that says a word once it may."""

    def __init__(self) -> None:
        self.card = Card("held", "model", capabilities=frozenset({"chat"}))
        self.asked, self.hold = asyncio.Event(), asyncio.Event()

    async def call(self, request: Request, context: Context) -> Result:
        self.asked.set()
        await self.hold.wait()
        return ChatReply("word", usage=Usage(1, 1), model="held")


class HeldVectors(Held):
    """A model that returns vectors once it may."""

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


async def test_unfinished_flows_and_responses_of_a_key_are_limited(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, flow_per_key=2, responses_per_key=2) as api:
        api.add(model := Held())
        greedy, modest = await key(api, "greedy", "chat"), await key(api, "modest", "chat")

        async def flow(headers: dict[str, str]) -> tuple[int, str]:
            """Return the status, and the run's id or the error."""
            body = {"flow": APPROVED}
            async with api.client.stream("POST", "/api/flows/run", json=body, headers=headers) as answer:
                if answer.status_code == 200:
                    return 200, answer.headers["x-portico-run"]
                return answer.status_code, (await answer.aread()).decode()

        async def respond(headers: dict[str, str]) -> httpx.Response:
            body = {"model": "held", "input": "x", "background": True}
            return await api.client.post("/v1/responses", json=body, headers=headers)

        (_, first), _second = await flow(greedy), await flow(greedy)
        status, refusal = await flow(greedy)
        assert status == 429 and "too_many_unfinished" in refusal and "flow_per_key" in refusal
        assert (await flow(modest))[0] == 200
        await api.client.post(f"/api/runs/{first}/cancel", headers=greedy)
        while (await flow(greedy))[0] == 429:  # until the end of the first run is recorded
            pass
        again = await api.client.post(f"/api/runs/{first}/resume", headers=greedy)
        assert (again.status_code, again.json()["error"]["code"]) == (429, "too_many_unfinished")

        assert [(await respond(greedy)).status_code for _ in range(3)] == [200, 200, 429]
        assert (await respond(modest)).status_code == 200
        assert [(await respond({})).status_code for _ in range(3)] == [200] * 3  # the operator's
        model.hold.set()
        while (await respond(greedy)).status_code == 429:
            pass


async def test_queued_batches_evals_and_finetunes_of_a_key_are_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(_self: Scheduler) -> bool:
        return False

    monkeypatch.setattr(Scheduler, "_take_one", nothing)  # everything stays in the queue
    kinds = ("batch", "eval", "eval_search", "finetune")
    one_each = {f"{kind}_per_key": 1 for kind in kinds}
    async with asyncio.timeout(60), api_server(tmp_path, **one_each) as api:
        await api.services.models.add(ModelSpec("base", "fake://"))

        async def wishes(headers: dict[str, str]) -> dict[str, tuple[str, dict[str, Any]]]:
            """Return an address and a body for each kind."""

            async def sent(path: str, **body: Any) -> str:
                response_or_eval = await api.client.post(path, headers=headers, **body)
                assert response_or_eval.status_code < 300, response_or_eval.text
                return str(response_or_eval.json()["id"])

            async def kept(purpose: str, line: object) -> str:
                form = {"file": ("lines.jsonl", orjson.dumps(line) + b"\n")}
                return await sent("/v1/files", files=form, data={"purpose": purpose})

            messages = [{"role": "user", "content": "a"}]
            line = {
                "custom_id": "1",
                "method": "POST",
                "url": CHAT,
                "body": {"model": "base", "messages": messages},
            }
            schema = {"type": "object", "properties": {"q": {"type": "string"}}}
            grader = {"name": "x", "type": "string_check", "operation": "eq", "input": "a", "reference": "a"}
            response_or_eval = {
                "data_source_config": {"type": "custom", "item_schema": schema},
                "testing_criteria": [grader],
            }
            test = await sent("/v1/evals", json=response_or_eval)
            content = {"type": "file_content", "content": [{"item": {"q": "x"}}]}
            data_source = {"type": "completions", "source": content, "model": "base"}
            data_source["input_messages"] = {"type": "template", "template": messages}
            tuned = {"messages": [*messages, {"role": "assistant", "content": "b"}]}
            batched = {
                "input_file_id": await kept("batch", line),
                "endpoint": CHAT,
                "completion_window": "24h",
            }
            trials = {"data_source": data_source, "parameters": {"sampling_params.temperature": [0, 1]}}
            job = {"model": "base", "training_file": await kept("fine-tune", tuned)}
            return {
                "batch": ("/v1/batches", batched),
                "eval": (f"/v1/evals/{test}/runs", {"data_source": data_source}),
                "eval_search": (f"/api/evals/{test}/search", trials),
                "finetune": ("/v1/fine_tuning/jobs", job),
            }

        callers = [await key(api, name, "chat", "finetune") for name in ("greedy", "modest")]
        for headers in (*callers, {}):
            requests_by_kind = await wishes(headers)
            ends = {}
            for kind, (path, body) in requests_by_kind.items():
                first, second = [await api.client.post(path, json=body, headers=headers) for _ in range(2)]
                assert first.status_code < 300, (kind, first.text)
                ends[kind] = f"{path}/{first.json()['id']}/cancel"
                if not headers:  # the operator's
                    assert second.status_code < 300, (kind, second.text)
                    continue
                error = second.json()["error"]
                assert (second.status_code, error["code"]) == (429, "too_many_unfinished"), kind
                assert f"{kind}_per_key" in error["message"] and second.headers["retry-after"]
            if headers == callers[0]:
                path, body = requests_by_kind["finetune"]
                paused = ends["finetune"].removesuffix("cancel")
                assert (await api.client.post(f"{paused}pause", headers=headers)).status_code == 200
                assert (await api.client.post(path, json=body, headers=headers)).status_code == 200
                resume_answer = await api.client.post(f"{paused}resume", headers=headers)
                assert (resume_answer.status_code, resume_answer.json()["error"]["code"]) == (
                    429,
                    "too_many_unfinished",
                )
                path, body = requests_by_kind["batch"]
                assert (await api.client.post(ends["batch"], headers=headers)).status_code == 200
                assert (await api.client.post(path, json=body, headers=headers)).status_code == 200


BODIES: Final = 8
"""Number of messages of 1,000,000 characters that fit into the share of a key, if `BUDGET_MB` is the budget."""

BUDGET_MB: Final = 98


async def ended(socket: ClientConnection) -> str:
    """Return the type of a response's last event, or the code of an error."""
    while True:
        event = orjson.loads(await socket.recv())
        if event["type"] == "error":
            return str(event["error"]["code"])
        if event["type"] == "response.completed":
            return str(event["type"])


async def test_websocket_messages_and_request_bodies_share_one_memory_budget(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, max_body_mb=1, body_memory_mb=BUDGET_MB) as api:
        api.add(model := Held())
        greedy, modest, hasty = [await key(api, name, "chat") for name in ("greedy", "modest", "hasty")]
        body = {"model": "held", "input": "x" * 1_000_000}
        message = orjson.dumps({"type": "response.create", **body}).decode()
        url = f"{api.url.replace('http', 'ws', 1)}/v1/responses"

        def opened(headers: dict[str, str]) -> connect:
            return connect(url, additional_headers=headers, proxy=None)

        async with opened(hasty) as first:
            for _ in range(BODIES + 1):
                await first.send(message)
            assert await ended(first) == "too_many_at_once"
            with pytest.raises(ConnectionClosed):
                await first.recv()
            assert first.close_code == 1013
        calls = []
        for _ in range(BODIES):
            model.asked.clear()
            calls.append(asyncio.create_task(api.client.post("/v1/responses", json=body, headers=greedy)))
            await model.asked.wait()
        async with opened(greedy) as second, opened(modest) as modest_socket:
            await second.send(message)
            assert await ended(second) == "too_many_at_once"
            await modest_socket.send(message)
            model.hold.set()
            assert await ended(modest_socket) == "response.completed"
        assert [call.status_code for call in await asyncio.gather(*calls)] == [200] * BODIES
        async with opened(greedy) as third:
            for _ in range(2 * BODIES):
                await third.send(message)
                assert await ended(third) == "response.completed"


async def test_responses_remembered_by_connections_count_against_the_memory_of_their_key(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, max_body_mb=1, body_memory_mb=BUDGET_MB) as api:
        api.add(model := Held())
        model.hold.set()
        greedy, modest = [await key(api, name, "chat") for name in ("greedy", "modest")]
        url = f"{api.url.replace('http', 'ws', 1)}/v1/responses"

        async def answered(socket: ClientConnection, text: str, previous: str | None = None) -> str:
            """Return the id of a response, or the code of an error."""
            body = {"model": "held", "input": text, "store": False, "previous_response_id": previous}
            await socket.send(orjson.dumps({"type": "response.create", **body}).decode())
            while True:
                event = orjson.loads(await socket.recv())
                if event["type"] == "error":
                    return str(event["error"]["code"])
                if event["type"] == "response.completed":
                    return str(event["response"]["id"])

        async with AsyncExitStack() as stack:

            async def connection(headers: dict[str, str]) -> ClientConnection:
                return await stack.enter_async_context(connect(url, additional_headers=headers, proxy=None))

            sockets = [await connection(greedy) for _ in range(BODIES)]
            ids = [await answered(socket, "x" * 1_000_000) for socket in sockets]
            # While the last message was stored, there was no room to remember this one.
            again = [
                await answered(socket, "x", response_id)
                for socket, response_id in zip(sockets, ids, strict=True)
            ]
            assert again[-1] == "previous_response_not_found"
            assert all(answer_id.startswith("resp_") for answer_id in again[:-1]), again
            modest_socket = await connection(modest)
            assert (
                await answered(modest_socket, "x", await answered(modest_socket, "x" * 1_000_000))
            ).startswith("resp_")


async def test_long_store_work_of_one_key_does_not_delay_another_key(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as api:
        await api.services.stores.start()
        api.add(model := HeldVectors())
        greedy, modest = [await key(api, name, "stores:*:manage") for name in ("greedy", "modest")]

        async def filled(name: str, headers: dict[str, str], **more: str) -> str:
            """Put a file into a new store and return its address."""
            store_response = await api.client.post(
                "/api/stores", json={"name": name, **more}, headers=headers
            )
            assert store_response.status_code == 200, store_response.text
            form = {"file": (f"{name}.md", f"# {name}".encode(), "text/markdown")}
            file_response = await api.client.post(
                "/v1/files", files=form, data={"purpose": "assistants"}, headers=headers
            )
            files = f"/v1/vector_stores/{store_response.json()['id']}/files"
            body = {"file_id": file_response.json()["id"]}
            assert (await api.client.post(files, json=body, headers=headers)).status_code == 200
            return f"{files}/{body['file_id']}"

        async def indexed(address: str, headers: dict[str, str]) -> None:
            while (await api.client.get(address, headers=headers)).json()["status"] != "completed":
                pass

        slow = [await filled(f"slow-{number}", greedy, embedding_model="held-vectors") for number in range(5)]
        await model.asked.wait()
        await indexed(await filled("quick", modest, embedding_model=""), modest)
        model.hold.set()
        for address in slow:
            await indexed(address, greedy)


async def test_files_over_the_storage_limit_of_a_key_are_refused(tmp_path: Path) -> None:
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
                key_row["name"]: key_row["stored_bytes"]
                for key_row in (await api.client.get("/api/keys")).json()["data"]
            }

        first, refusal = await keep(greedy), await keep(greedy)
        assert (first.status_code, refusal.status_code) == (200, 413)
        error = refusal.json()["error"]
        assert error["code"] == "storage_limit_exceeded" and "storage_mb" in error["message"]
        announced = {"purpose": "user_data", "filename": "a.txt", "bytes": 600_000, "mime_type": "text/plain"}
        upload = await api.client.post("/v1/uploads", json=announced, headers=greedy)
        assert (upload.status_code, upload.json()["error"]["code"]) == (413, "storage_limit_exceeded")
        assert [(await keep(headers)).status_code for headers in (modest, rich, rich, {}, {})] == [200] * 5
        assert await stored() == {"greedy": 600_000, "modest": 600_000, "rich": 1_200_000}
        await api.client.delete(f"/v1/files/{first.json()['id']}", headers=greedy)
        assert (await stored())["greedy"] == 0
        assert (await keep(greedy)).status_code == 200


async def test_uploads_that_begin_together_have_one_storage_limit(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, storage_per_key_mb=1) as api:
        headers = await key(api, "greedy", "chat")
        announced = {"purpose": "user_data", "filename": "a.txt", "bytes": 600_000, "mime_type": "text/plain"}
        uploads = [
            (await api.client.post("/v1/uploads", json=announced, headers=headers)).json()["id"]
            for _ in range(2)
        ]
        form = {"data": ("part", b"b" * 600_000)}
        answers = [
            await api.client.post(f"/v1/uploads/{upload}/parts", files=form, headers=headers)
            for upload in uploads
        ]
        assert [answer.status_code for answer in answers] == [200, 413]
        assert answers[1].json()["error"]["code"] == "storage_limit_exceeded"
        complete = {"part_ids": [answers[0].json()["id"]]}
        address = f"/v1/uploads/{uploads[0]}/complete"
        assert (await api.client.post(address, json=complete, headers=headers)).status_code == 200


@pytest.mark.slow
async def test_artifacts_synced_files_indexes_and_imports_count_against_the_storage_limit(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(60), api_server(tmp_path, storage_per_key_mb=1) as api:
        services = api.services
        await services.stores.start()

        async def caller(name: str) -> tuple[dict[str, str], Principal]:
            headers = await key(api, name, "stores:*:manage")
            rows = (await api.client.get("/api/keys")).json()["data"]
            return headers, services.scheduler.principals(next(x["id"] for x in rows if x["name"] == name))

        async def stored(name: str) -> int:
            rows = (await api.client.get("/api/keys")).json()["data"]
            return next(int(entry["stored_bytes"]) for entry in rows if entry["name"] == name)

        _, maker = await caller("maker")
        artifacts = [
            NewArtifact(f"{byte}.bin", "application/octet-stream", bytes([byte]) * 600_000) for byte in (1, 2)
        ]
        keep_calls = [services.artifacts.keep([entry], Author("run_x", maker)) for entry in artifacts]
        outcomes = await asyncio.gather(*keep_calls, return_exceptions=True)  # both find room when they check
        (first,) = [outcome for outcome in outcomes if isinstance(outcome, tuple)]
        assert sum(isinstance(outcome, TooLarge) for outcome in outcomes) == 1, outcomes
        assert (
            len(
                [path for path in (services.settings.files_folder / "artifacts").rglob("*") if path.is_file()]
            )
            == 1
        )
        assert await stored("maker") == 600_000
        await services.artifacts.delete(first[0].id, maker)
        assert len(await services.artifacts.keep(artifacts[1:], Author("run_x", maker))) == 1

        headers, follower = await caller("follower")

        async def store(name: str) -> str:
            body = {"name": name, "embedding_model": ""}
            return str((await api.client.post("/api/stores", json=body, headers=headers)).json()["id"])

        async def mirror(name: str, store_id: str) -> None:
            """Mirror a file as a sync does."""

            async def content() -> AsyncIterator[bytes]:
                yield name.encode() * 600_000

            received_file = await services.files.receive(content(), durable=False)
            row = FileRow(
                new_id("file-"), f"{MIRRORED_OWNER}{store_id}", f"{name}.bin", "assistants", received_file.bytes,
                received_file.sha256, 1.0,
            )  # fmt: skip
            item = MirroredFile(row, {}, {"type": "auto"}, 1, received_file.bytes, None)
            await services.files.remirror(store_id, [(received_file, item)], owner=follower.id)

        mirrored = await store("mirrored")
        await mirror("a", mirrored)
        with pytest.raises(TooLarge):
            await mirror("b", mirrored)
        assert await stored("follower") == 600_000

        headers, _ = await caller("reader")
        form = {"file": ("bread.md", b"Bread is baked.\n\n" * 17_000, "text/markdown")}
        text = await api.client.post("/v1/files", files=form, data={"purpose": "assistants"}, headers=headers)
        ends = []
        for name in ("one", "two", "three", "four"):  # each has the chunks of the same file
            files = f"/v1/vector_stores/{await store(name)}/files"
            attachment = {"file_id": text.json()["id"]}
            assert (await api.client.post(files, json=attachment, headers=headers)).status_code == 200
            while (end := (await api.client.get(f"{files}/{attachment['file_id']}", headers=headers)).json())[
                "status"
            ] == "in_progress":
                pass
            ends.append(end)
        assert [end["status"] for end in ends] == ["completed", "completed", "failed", "failed"]
        assert "of its storage limit of 1 MB" in ends[-1]["last_error"]["message"]
        assert await stored("reader") == 289_000 + sum(end["usage_bytes"] for end in ends)

        archive = (await api.client.get("/api/stores/one/export", headers=headers)).content
        form = {"file": ("one.zip", archive, "application/zip")}
        import_response = await api.client.post(
            "/api/stores/import", files=form, data={"name": "five"}, headers=headers
        )
        assert (import_response.status_code, import_response.json()["error"]["code"]) == (
            413,
            "storage_limit_exceeded",
        )
        assert (await api.client.get("/api/stores/five", headers=headers)).status_code == 404


async def test_conversations_count_against_storage_and_full_storage_blocks_model_calls(
    tmp_path: Path,
) -> None:
    class Counted(Held):
        count = 0

        async def call(self, request: Request, context: Context) -> Result:
            self.count += 1
            return await super().call(request, context)

    async with asyncio.timeout(60), api_server(tmp_path, storage_per_key_mb=1) as api:
        api.add(model := Counted())
        model.hold.set()
        clerk = {"name": "clerk", "kind": "agent", "spec": {"portico_agent": 1, "model": "held"}}
        assert (await api.client.post("/api/apps", json=clerk)).status_code == 200
        talker = await key(api, "talker", "chat", "apps:clerk:call", "apps:*:deploy")
        long = "b" * 400_000

        async def posted(path: str, **body: Any) -> httpx.Response:
            return await api.client.post(path, json=body, headers=talker)

        async def stored() -> int:
            (entry,) = (await api.client.get("/api/keys")).json()["data"]
            return int(entry["stored_bytes"])

        responses = [
            await posted("/v1/responses", model="held", input=long),
            await posted("/v1/conversations", items=[{"role": "user", "content": long}]),
            await posted("/api/sessions", app="clerk", name="monday"),
        ]
        assert [entry.status_code for entry in responses] == [200] * 3, [entry.text for entry in responses]
        response, conversation, session = (entry.json()["id"] for entry in responses)
        assert 800_000 < await stored() < 805_000
        message_request = {"path": f"/api/sessions/{session}/messages", "messages": [long]}
        turn = {"path": "/v1/chat/completions", "model": "clerk", "conversation": session}
        refusals = [
            await posted(**message_request),
            await posted("/v1/conversations", items=[{"role": "user", "content": long}]),
            await posted(
                f"/v1/conversations/{conversation}/items", items=[{"role": "user", "content": long}]
            ),
        ]
        codes = [(entry.status_code, entry.json()["error"]["code"]) for entry in refusals]
        assert codes == [(413, "storage_limit_exceeded")] * 3
        question = {"messages": [{"role": "user", "content": "b" * 250_000}]}
        assert (await posted(**turn, **question)).status_code == 200, (
            "there is room, and what it comes to is kept"
        )
        assert await stored() > 1_048_576

        calls_before = model.count
        refusals = [
            await posted(**turn, **question),
            await posted("/v1/responses", model="held", input="Hello."),
            await posted("/v1/responses", model="held", input="Hello.", background=True),
            await posted("/v1/responses", model="held", input="Hello.", conversation=conversation),
            await posted("/api/sessions", app="clerk", name="tuesday"),
            await posted(f"/api/sessions/{session}/fork", name="copy"),
            await posted("/api/prompts", name="greet", messages=[{"role": "user", "content": "Hello."}]),
            await posted("/api/apps", name="mine", spec=clerk["spec"], kind="agent"),
            await posted("/v1/evals", **ANYTHING_EVALUATED),
        ]
        codes = [(entry.status_code, entry.json()["error"]["code"]) for entry in refusals]
        assert codes == [(413, "storage_limit_exceeded")] * 9 and model.count == calls_before
        answers = [await posted("/v1/responses", model="held", input="Hello.", store=False)]
        await api.client.delete(f"/v1/responses/{response}", headers=talker)
        answers.append(await posted(**turn, **question))
        assert [entry.status_code for entry in answers] == [200, 200] and model.count == calls_before + 2
        for path in (f"/v1/conversations/{conversation}", f"/api/sessions/{session}"):
            assert (await api.client.delete(path, headers=talker)).is_success
        assert await stored() == 0


async def test_other_tasks_run_between_the_parsing_of_large_bodies() -> None:
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
    results = await asyncio.gather(
        *(parse(raw) for raw in (large, large, deep, large)), return_exceptions=True
    )
    over.set()
    await looking
    assert results[0] == results[3] == orjson.loads(large)
    assert isinstance(results[2], InvalidRequest) and results[2].code == "body_too_complex"
    assert "body body" not in " ".join(order), order


async def test_every_run_kind_owned_by_keys_has_a_limit(tmp_path: Path) -> None:
    async with api_server(tmp_path) as api:
        await api.services.stores.start()
        bounds = api.services.settings.unfinished_per_key
        assert api.services.scheduler.owned_kinds - {"schedule"} <= bounds.keys()
        assert all(bounds.values())
