"""A key revoked during its calls ends its own calls, and other keys' calls continue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.core.context import Context
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.request import Request, Result
from portico_server.core.servable import Card
from portico_server.db import keys
from portico_server.db.runs import FOR
from portico_server.features.sandbox.notebooks import Notebooks

LIMIT = 60
"""Seconds after which a test gives up."""

ADMIN = "pk-of-the-operator"
MESSAGES = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, api_key=ADMIN) as server:
        yield server


@asynccontextmanager
async def client(daemon: ApiServer, *scopes: str) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """Yield the id of a new key, and a client that uses it."""
    row, secret = await daemon.auth.create("friend", scopes or ("chat", "apps:*:call", "tools:*:call"))
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(base_url=daemon.url, headers=headers, timeout=LIMIT) as theirs:
        yield row.id, theirs


async def revoke(daemon: ApiServer, key: str) -> None:
    answer = await daemon.client.delete(f"/api/keys/{key}", headers={"Authorization": f"Bearer {ADMIN}"})
    assert answer.status_code == 200


def teller(daemon: ApiServer) -> RelayModel:
    """Return a model that sends one piece and then nothing."""
    model = RelayModel("teller", b'data: {"choices":[]}\n\n', hold=asyncio.Event())
    daemon.add(model)
    return model


async def rest(answer: httpx.Response) -> str:
    """Return the remainder of an answer until the connection breaks."""
    text = ""
    async with asyncio.timeout(LIMIT):
        with suppress(httpx.RemoteProtocolError):
            async for piece in answer.aiter_text():
                text += piece
    return text


async def test_a_stream_of_a_revoked_key_ends_immediately_with_the_reason(daemon: ApiServer) -> None:
    model = teller(daemon)
    ask = {"model": "teller", "stream": True, "messages": MESSAGES}
    async with (
        client(daemon) as (key, theirs),
        theirs.stream("POST", "/v1/chat/completions", json=ask) as answer,
    ):
        async with asyncio.timeout(LIMIT):
            await model.began.wait()
            await revoke(daemon, key)
            assert "key_revoked" in await rest(answer)
            await model.left.wait()


async def test_removing_scopes_of_a_key_ends_its_running_stream(daemon: ApiServer) -> None:
    model = teller(daemon)
    ask = {"model": "teller", "stream": True, "messages": MESSAGES}

    async def scopes(key: str, *wanted: str) -> httpx.Response:
        headers = {"Authorization": f"Bearer {ADMIN}"}
        return await daemon.client.patch(f"/api/keys/{key}", json={"scopes": wanted}, headers=headers)

    async with (
        client(daemon, "chat", "stores:*:manage") as (key, theirs),
        theirs.stream("POST", "/v1/chat/completions", json=ask) as answer,
    ):
        async with asyncio.timeout(LIMIT):
            await model.began.wait()
            response = await scopes(key, "chat", "stores:*:manage", "stores:a:read", "models:read")
            assert response.json()["scopes"] == ["chat", "stores:*:manage", "stores:a:read", "models:read"]
            assert (await theirs.get("/api/deployments")).status_code == 200
            assert not model.left.is_set()
            assert (await scopes(key, "models:read")).status_code == 200
            assert "key_revoked" in await rest(answer)
            await model.left.wait()
            assert (await theirs.post("/v1/chat/completions", json=ask)).status_code == 403
            assert (await theirs.get("/api/deployments")).status_code == 200
    for wrong, status in ((("chat", "everything"), 400), ((), 400)):
        assert (await scopes(key, *wrong)).status_code == status
    assert (await scopes("key_none", "chat")).status_code == 404


async def test_adding_a_filter_to_a_key_ends_running_streams_and_removing_does_not(
    daemon: ApiServer,
) -> None:
    model = teller(daemon)
    ask = {"model": "teller", "stream": True, "messages": MESSAGES}
    sales = {"type": "eq", "key": "team", "value": "sales"}
    level_filter = {"type": "eq", "key": "level", "value": 1}
    headers = {"Authorization": f"Bearer {ADMIN}"}

    async def filters(key: str, **wanted: Any) -> httpx.Response:
        return await daemon.client.patch(f"/api/keys/{key}", json={"filters": wanted}, headers=headers)

    async with client(daemon, "chat", "stores:*:read") as (key, theirs):
        assert (await filters(key, handbook=sales)).json()["filters"] == {"handbook": sales}
        async with (
            asyncio.timeout(LIMIT),
            theirs.stream("POST", "/v1/chat/completions", json=ask) as answer,
        ):
            await model.began.wait()
            update = (await filters(key)).json()
            assert (update["filters"], update["scopes"]) == ({}, ["chat", "stores:*:read"])
            await filters(key, handbook=level_filter)
            assert "key_revoked" in await rest(answer)
            await model.left.wait()
        update = await filters(key, handbook={**level_filter, "value": True})
        assert daemon.auth.keys.principal(key).filters[0][1].value is True
        assert update.json()["filters"]["handbook"]["value"] is True
        admin = await daemon.client.patch(f"/api/keys/{key}", json={"scopes": ["admin"]}, headers=headers)
        empty_update = await daemon.client.patch(f"/api/keys/{key}", json={}, headers=headers)
        wrong = await filters(key, handbook={"type": "like"})
        await daemon.client.post("/api/stores", json={"name": "handbook"}, headers=headers)
        typo_responses = [
            await filters(key, **{name: sales}) for name in ("hndbook", "Handbook", "handbook ")
        ]
        new_key = {"name": "two", "scopes": ["stores:*:read"], "filters": {"handbok": sales}}
        typo_responses.append(await daemon.client.post("/api/keys", json=new_key, headers=headers))
        for response, param in (
            (admin, "filters"),
            (empty_update, "scopes"),
            (wrong, "filters.handbook"),
            *((typo_response, "filters.") for typo_response in typo_responses),
        ):
            assert response.status_code == 400
            assert response.json()["error"]["param"].startswith(param)
        assert all(
            "Did you mean 'handbook'" in typo_response.json()["error"]["message"]
            for typo_response in typo_responses
        )
        assert (await filters(key, handbook=sales, later=sales)).status_code == 200


async def test_a_pending_call_of_a_revoked_key_is_refused_with_401(daemon: ApiServer) -> None:
    model = teller(daemon)
    async with client(daemon) as (key, theirs):
        calling = asyncio.create_task(
            theirs.post("/v1/chat/completions", json={"model": "teller", "messages": MESSAGES})
        )
        async with asyncio.timeout(LIMIT):
            await model.began.wait()
            await revoke(daemon, key)
            answer = await calling
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "key_revoked"


async def test_calls_of_other_keys_continue_after_a_revocation(daemon: ApiServer) -> None:
    model = teller(daemon)
    ask = {"model": "teller", "stream": True, "messages": MESSAGES}
    async with (
        client(daemon) as (key, _theirs),
        client(daemon) as (_other, other_client),
        other_client.stream("POST", "/v1/chat/completions", json=ask) as answer,
    ):
        async with asyncio.timeout(LIMIT):
            await model.began.wait()
            await revoke(daemon, key)
            assert model._hold is not None
            model._hold.set()
            assert "key_revoked" not in (await answer.aread()).decode()


async def test_runs_of_a_revoked_key_fail_and_their_event_streams_end(daemon: ApiServer) -> None:
    start_event = asyncio.Event()

    async def work(_payload: Mapping[str, Any], _context: Context) -> None:
        start_event.set()
        await asyncio.get_running_loop().create_future()

    daemon.services.scheduler.handle("wait", work, is_owned=True)
    async with client(daemon) as (key, theirs):
        caller = Principal(key, frozenset({"chat"}))
        run = await daemon.services.scheduler.begin("wait", "wait", {}, caller)
        async with asyncio.timeout(LIMIT):
            await start_event.wait()
            async with theirs.stream("GET", f"/api/runs/{run.id}/events") as answer:
                assert answer.status_code == 200
                await revoke(daemon, key)
                await rest(answer)
            await daemon.services.scheduler.wait_for_end(run.id)
        run_answer = await daemon.client.get(
            f"/api/runs/{run.id}", headers={"Authorization": f"Bearer {ADMIN}"}
        )
        assert run_answer.json()["status"] == "failed"
        assert run_answer.json()["error"]["code"] == "key_revoked"


async def test_background_work_on_behalf_of_a_revoked_key_ends(daemon: ApiServer) -> None:
    start_event = asyncio.Event()

    async def work(_payload: Mapping[str, Any], _context: Context) -> None:
        start_event.set()
        await asyncio.get_running_loop().create_future()

    scheduler = daemon.services.scheduler
    scheduler.handle("follow", work, lent=True)
    async with client(daemon) as (key, _theirs), asyncio.timeout(LIMIT):
        first = await scheduler.begin("follow", "one", {FOR: key}, SYSTEM)
        await start_event.wait()
        await revoke(daemon, key)
        await scheduler.wait_for_end(first.id)
        later = await scheduler.ensure("follow", "two", {FOR: key})
        operator = {"Authorization": f"Bearer {ADMIN}"}
        for run in (first.id, later):
            async with daemon.client.stream("GET", f"/api/runs/{run}/events", headers=operator) as events:
                await rest(events)
            run_answer = await daemon.client.get(f"/api/runs/{run}", headers=operator)
            assert run_answer.json()["error"]["code"] == "key_revoked"


OUTLIVING = {
    "ingest": "Files that a key has added are still indexed.",
    "embed": "The same, with another model.",
    "move": "The same, to another index.",
    "link": "The same.",
    "reindex": "The same.",
    "finetune": "FineTuningJobs.revoke ends them, and the job as cancelled.",
    "batch": "A batch looks each second whether its key is there, and keeps what was answered.",
    "pull": "Admins fetch models, for everybody.",
    "adapter_export": "Admins export them.",
    "environment": "Admins build them.",
    "better-model": "The daemon fetches it, for everybody.",
    "better-embedding-model": "The same.",
    "answer test": "The daemon tests models, for everybody.",
}
"""Kinds of durable runs that continue when their key ends, and why; all other runs end with the key."""


async def test_every_durable_run_kind_declares_its_behaviour_on_revocation(daemon: ApiServer) -> None:
    await daemon.services.stores.start()
    kinds = daemon.services.scheduler._kinds
    outliving_kinds = {name for name, kind in kinds.items() if not (kind.owned or kind.lent)}
    assert outliving_kinds <= set(OUTLIVING), (
        "a new kind is 'owned' or 'lent', or stands in OUTLIVING with the reason"
    )


async def test_a_summary_group_being_built_for_a_revoked_key_is_stopped(daemon: ApiServer) -> None:
    call_event = asyncio.Event()

    class HeldWriter:
        card = Card("writer", "model", capabilities=frozenset({"chat"}))

        async def call(self, request: Request, context: Context) -> Result:
            call_event.set()
            return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    await daemon.services.stores.start()
    daemon.add(HeldWriter())
    operator = {"Authorization": f"Bearer {ADMIN}"}
    async with client(daemon, "chat", "stores:*:manage") as (key, theirs), asyncio.timeout(LIMIT):
        store_answer = await theirs.post("/api/stores", json={"name": "shelf", "embedding_model": ""})
        form = {"file": ("long.md", b"A word.", "text/markdown")}
        file_answer = await theirs.post("/v1/files", files=form, data={"purpose": "assistants"})
        place = f"/v1/vector_stores/{store_answer.json()['id']}/files"
        await theirs.post(place, json={"file_id": file_answer.json()["id"]})
        for run in (await daemon.client.get("/api/runs", headers=operator)).json()["data"]:
            await daemon.client.get(f"/api/runs/{run['id']}/events", headers=operator)
        group = {"name": "sums", "chunking_strategy": {"type": "summary", "model": "writer"}}
        run = (await theirs.post("/api/stores/shelf/groups", json=group)).json()["run"]
        await call_event.wait()
        await revoke(daemon, key)
        await daemon.client.get(f"/api/runs/{run}/events", headers=operator)
        run_answer = await daemon.client.get(f"/api/runs/{run}", headers=operator)
        assert run_answer.json()["error"]["code"] == "key_revoked"


async def test_a_call_claimed_by_a_revoked_keys_worker_is_claimable_again_immediately(
    daemon: ApiServer,
) -> None:
    joining = {"worker": "w", "functions": [{"name": "measure", "input_schema": {"type": "object"}}]}
    claim = {"lease_seconds": 3600, "wait": 10}
    async with (
        client(daemon, "admin") as (key, theirs),
        client(daemon, "admin") as (_other, other_client),
        client(daemon, "tools:*:call") as (_caller, calling),
        asyncio.timeout(LIMIT),
    ):
        assert (await theirs.post("/api/workers", json=joining)).status_code == 200
        call = asyncio.create_task(calling.post("/api/tools/measure/call", json={}))
        [question] = (await theirs.post("/api/workers/w/claim", json=claim)).json()["data"]
        await revoke(daemon, key)
        assert (await other_client.post("/api/workers", json=joining)).status_code == 200
        [again] = (await other_client.post("/api/workers/w/claim", json=claim)).json()["data"]
        assert again["id"] == question["id"]
        answer = {"accepted": True, "value": "7", "worker": "w"}
        await other_client.post(f"/api/questions/{again['id']}/answer", json=answer)
        assert (await call).json()["text"] == "7"


async def test_mcp_streams_of_a_revoked_key_end(daemon: ApiServer) -> None:
    accept = {"accept": "application/json, text/event-stream"}
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }
    async with client(daemon) as (key, theirs):
        response = await theirs.post(
            "/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}, headers=accept
        )
        assert response.status_code == 200, response.text
        session = {"mcp-session-id": response.headers["mcp-session-id"], **accept}
        async with theirs.stream("GET", "/mcp", headers=session) as answer:
            assert answer.status_code == 200
            await revoke(daemon, key)
            await rest(answer)


async def test_sandbox_sessions_of_a_revoked_key_end(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = []

    async def end(_notebooks: Notebooks, caller: str) -> None:
        callers.append(caller)

    monkeypatch.setattr(Notebooks, "revoke", end)
    await daemon.client.get(
        "/v1/containers", headers={"Authorization": f"Bearer {ADMIN}"}
    )  # builds the sandbox
    async with client(daemon) as (key, _theirs):
        await revoke(daemon, key)
    assert callers == [key]


async def test_a_slow_or_failing_cleanup_does_not_delay_other_revocation_steps(
    daemon: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that cannot be ended quickly delays nothing else: its provider takes half a minute to answer the
    cancellation.
    """
    release, end_event = asyncio.Event(), asyncio.Event()

    async def wait_long(_key: str) -> None:
        await release.wait()

    async def fail(_key: str) -> None:
        raise OSError("gone")

    async def end(_notebooks: Notebooks, _caller: str) -> None:
        end_event.set()

    monkeypatch.setattr(Notebooks, "revoke", end)
    await daemon.client.get(
        "/v1/containers", headers={"Authorization": f"Bearer {ADMIN}"}
    )  # builds the sandbox
    daemon.auth.revoked.insert(0, fail)
    daemon.auth.revoked.insert(0, wait_long)
    model = teller(daemon)
    ask = {"model": "teller", "stream": True, "messages": MESSAGES}
    async with (
        asyncio.timeout(LIMIT),
        client(daemon) as (key, theirs),
        theirs.stream("POST", "/v1/chat/completions", json=ask) as answer,
    ):
        await model.began.wait()
        headers = {"Authorization": f"Bearer {ADMIN}"}
        revoking = asyncio.create_task(daemon.client.delete(f"/api/keys/{key}", headers=headers))
        assert "key_revoked" in await rest(answer)
        await end_event.wait()
        release.set()
        response = await revoking
        assert (response.status_code, response.json()["error"]["code"]) == (503, "not_all_ended")
        assert (await theirs.get("/v1/models")).status_code == 401


async def test_admins_who_revoke_each_other_at_once_lose_all_rights_or_none(daemon: ApiServer) -> None:
    """Of two admins who revoke each other at the same time, exactly those whose key the database keeps are served."""
    async with (
        client(daemon, "admin") as (first_key, first),
        client(daemon, "admin") as (two, second),
        asyncio.timeout(LIMIT),
    ):
        await asyncio.gather(
            *(first.delete(f"/api/keys/{two}") for _ in range(3)),
            *(second.delete(f"/api/keys/{first_key}") for _ in range(3)),
            return_exceptions=True,
        )
        # A revocation ends after the request that asked for it, if that request was cut off.
        ending = [task for task in asyncio.all_tasks() if task.get_name() == "end of a key"]
        await asyncio.gather(*ending, return_exceptions=True)
        living = {row.id for row in await daemon.services.database.read(keys.living)}
        assert {row.id for row in daemon.auth.keys.list()} == living
        statuses = {first_key: await first.get("/v1/models"), two: await second.get("/v1/models")}
        assert {key for key, answer in statuses.items() if answer.status_code == 200} == living


async def test_a_key_may_revoke_itself(daemon: ApiServer) -> None:
    async with client(daemon, "admin") as (key, theirs):
        assert (await theirs.delete(f"/api/keys/{key}")).status_code == 200
        assert (await theirs.get("/v1/models")).status_code == 401
