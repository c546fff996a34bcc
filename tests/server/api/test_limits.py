"""Limits of keys from the client's view: 429, the advice, OpenAI's headers, and the state after a restart."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico.wire import Usage
from portico_server.config import KeySpec
from portico_server.core.context import Context
from portico_server.core.limits import UsageLimits
from portico_server.core.request import ChatReply, Request, Result
from portico_server.core.servable import Card
from portico_server.db.usage import DAY_S
from portico_server.models.spec import ModelSpec
from portico_server.runs import quotas

ASK = {"model": "teller", "messages": [{"role": "user", "content": "Hello"}]}


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the clock away from midnight: shortly before it, a run waits for the next day's tokens instead of failing."""
    today = (time.time() // DAY_S + 0.5) * DAY_S
    monkeypatch.setattr(quotas, "time", SimpleNamespace(time=lambda: today, monotonic=time.monotonic))


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path) as server:
        server.add(RelayModel("teller", b"{}"))
        yield server


async def key(daemon: ApiServer, **limits: int) -> str:
    body = {"name": "phone", "scopes": ["chat"], "limits": limits}
    new_key = (await daemon.client.post("/api/keys", json=body)).json()
    assert new_key["limits"] == limits
    return str(new_key["key"])


async def ask(daemon: ApiServer, key: str, **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return await daemon.client.post("/v1/chat/completions", json={**ASK, **more}, headers=headers)


def refused(response: httpx.Response, what: str) -> None:
    assert response.status_code == 429
    error = response.json()["error"]
    assert error["code"] == "rate_limit_exceeded" and what in error["message"]
    assert int(response.headers["retry-after"]) >= 1


async def test_requests_over_the_limit_per_minute_are_refused(daemon: ApiServer) -> None:
    secret = await key(daemon, requests_per_minute=2)
    first = await ask(daemon, secret)
    assert first.status_code == 200
    assert first.headers["x-ratelimit-limit-requests"] == "2"
    assert first.headers["x-ratelimit-remaining-requests"] == "1"
    assert (await ask(daemon, secret)).status_code == 200
    third = await ask(daemon, secret)
    refused(third, "requests per minute")
    assert third.headers["x-ratelimit-remaining-requests"] == "0"


@pytest.mark.parametrize(
    "more", [{}, {"stream": True}, {"stream": True, "stream_options": {"include_usage": True}}]
)
async def test_tokens_count_with_or_without_usage_in_the_stream(
    daemon: ApiServer, more: dict[str, Any]
) -> None:
    secret = await key(daemon, tokens_per_day=5)  # one call costs five tokens
    assert (await ask(daemon, secret, **more)).status_code == 200
    last = await ask(daemon, secret)
    refused(last, "tokens per day: limit 5, used 5")
    assert last.headers["x-ratelimit-remaining-tokens"] == "0"


async def test_calls_over_the_concurrency_limit_are_refused(daemon: ApiServer) -> None:
    hold = asyncio.Event()
    slow = RelayModel("slow", b"data: x\n\n", hold=hold)
    daemon.add(slow)
    secret = await key(daemon, concurrency=1)
    first = asyncio.create_task(ask(daemon, secret, model="slow", stream=True))
    await slow.began.wait()
    refused(await ask(daemon, secret), "concurrent calls: limit 1")
    hold.set()
    assert (await first).status_code == 200
    assert (await ask(daemon, secret)).status_code == 200


async def test_a_disconnected_client_frees_its_concurrency_slot(daemon: ApiServer) -> None:
    slow = RelayModel("slow", b"data: x\n\n", hold=asyncio.Event())
    daemon.add(slow)
    secret = await key(daemon, concurrency=1)
    first = asyncio.create_task(ask(daemon, secret, model="slow", stream=True))
    await slow.began.wait()
    (run,) = (run for run in daemon.services.runner.list() if not run.ended)
    first.cancel()
    assert [event async for event in run.log.follow()], "it goes on until the run has ended"
    assert (await ask(daemon, secret)).status_code == 200


async def test_limits_of_one_key_do_not_apply_to_others_or_the_operator(daemon: ApiServer) -> None:
    secret = await key(daemon, requests_per_minute=1)
    free = await key(daemon)
    for _ in range(2):
        response = await ask(daemon, free)
        assert response.status_code == 200 and "x-ratelimit-limit-requests" not in response.headers
    assert (await ask(daemon, secret)).status_code == 200
    refused(await ask(daemon, secret), "requests per minute")
    assert (await daemon.client.post("/v1/chat/completions", json=ASK)).status_code == 200


async def test_token_usage_still_counts_after_a_restart(tmp_path: Path) -> None:
    key_specs = [KeySpec("app", "secret-of-the-app", ("chat",), UsageLimits(tokens_per_day=9))]
    for statuses in ([200, 200], [429, 429]):
        async with api_server(tmp_path, given=key_specs) as server:
            server.add(RelayModel("teller", b"{}"))
            answers = [(await ask(server, "secret-of-the-app")).status_code for _ in statuses]
            assert answers == statuses


async def test_an_unknown_limit_is_refused_naming_the_right_one(daemon: ApiServer) -> None:
    body = {"name": "x", "scopes": ["chat"], "limits": {"token_per_day": 5}}
    response = await daemon.client.post("/api/keys", json=body)
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["param"] == "limits.token_per_day" and "tokens_per_day" in error["message"]


async def changed(daemon: ApiServer, **limits: Any) -> httpx.Response:
    """Return the daemon's answer when the only key gets these limits."""
    [key_row] = (await daemon.client.get("/api/keys")).json()["data"]
    return await daemon.client.patch(f"/api/keys/{key_row['id']}", json={"limits": limits})


async def test_changed_limits_apply_immediately_and_include_earlier_usage(daemon: ApiServer) -> None:
    secret = await key(daemon)
    assert (await ask(daemon, secret)).status_code == 200
    answer = await changed(daemon, requests_per_minute=2, tokens_per_day=100)
    assert answer.json()["limits"] == {"requests_per_minute": 2, "tokens_per_day": 100}
    assert answer.json()["scopes"] == ["chat"]
    for _ in range(2):
        await ask(daemon, secret)
    refused(await ask(daemon, secret), "requests per minute: limit 2")
    await changed(daemon, requests_per_minute=3)
    last = await ask(daemon, secret)
    assert last.status_code == 200 and last.headers["x-ratelimit-remaining-requests"] == "0"
    await changed(daemon, requests_per_minute=50, tokens_per_day=5)
    refused(await ask(daemon, secret), "tokens per day: limit 5")
    assert (await changed(daemon)).json()["limits"] == {}
    answer = await ask(daemon, secret)
    assert answer.status_code == 200 and "x-ratelimit-limit-requests" not in answer.headers


async def test_a_call_under_way_continues_and_counts_under_other_limits(daemon: ApiServer) -> None:
    hold = asyncio.Event()
    slow = RelayModel("slow", b"data: x\n\n", hold=hold)
    daemon.add(slow)
    secret = await key(daemon, concurrency=2)
    first = asyncio.create_task(ask(daemon, secret, model="slow", stream=True))
    await slow.began.wait()
    await changed(daemon, concurrency=1)
    refused(await ask(daemon, secret), "concurrent calls: limit 1, used 1")
    hold.set()
    assert (await first).status_code == 200
    assert (await ask(daemon, secret)).status_code == 200


async def test_invalid_limits_are_refused_and_only_admins_change_limits(daemon: ApiServer) -> None:
    secret = await key(daemon, requests_per_minute=9)
    for wrong, param in (
        ({"requests_per_minute": 0}, "limits.requests_per_minute"),
        ({"requests_per_minute": True}, "limits.requests_per_minute"),
        ({"requests_per_minute": 1.5}, "limits.requests_per_minute"),
        ({"tokens_per_day": "many"}, "limits.tokens_per_day"),
        ({"tokens_per_day": 10**12 + 1}, "limits.tokens_per_day"),
        ({"token_per_day": 5}, "limits.token_per_day"),
    ):
        answer = await changed(daemon, **wrong)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    [key_row] = (await daemon.client.get("/api/keys")).json()["data"]
    assert key_row["limits"] == {"requests_per_minute": 9}
    for path, body, status in (
        (key_row["id"], {"limits": {}}, 403),
        ("key_nobody", {"limits": {}}, 403),
    ):
        answer = await daemon.client.patch(
            f"/api/keys/{path}", json=body, headers={"authorization": f"Bearer {secret}"}
        )
        assert answer.status_code == status
    answer = await daemon.client.patch("/api/keys/key_nobody", json={"limits": {}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "key_not_found")
    answer = await daemon.client.patch(f"/api/keys/{key_row['id']}", json={"limit": {}})
    assert answer.status_code == 400 and "limits" in answer.json()["error"]["message"]


async def test_changed_limits_hold_after_a_restart(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        secret = await key(server, requests_per_minute=9, storage_mb=7)
        await changed(server, requests_per_minute=1)
    async with api_server(tmp_path) as server:
        server.add(RelayModel("teller", b"{}"))
        assert (await ask(server, secret)).status_code == 200
        refused(await ask(server, secret), "requests per minute: limit 1")


async def test_limits_are_listed(daemon: ApiServer) -> None:
    await key(daemon, tokens_per_minute=500)
    rows = (await daemon.client.get("/api/keys")).json()["data"]
    assert [row["limits"] for row in rows] == [{"tokens_per_minute": 500}]


FLOW = {
    "portico_flow": 1,
    "name": "many",
    "step": {
        "op": "warp",
        "name": "w",
        "concurrency": 1,
        "over": {"$ref": "input"},
        "step": {"op": "llm", "name": "m", "model": "voice"},
    },
}


class Voice:
    """A model that says a word and counts its calls and their concurrency."""

    def __init__(self) -> None:
        self.card = Card("voice", "model", capabilities=frozenset({"chat"}))
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0

    async def call(self, request: Request, context: Context) -> Result:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return ChatReply("word", usage=Usage(10, 10), model="voice")


async def flow(daemon: ApiServer, secret: str, items: int, **more: Any) -> list[dict[str, Any]]:
    """Return the events of a run of `FLOW`."""
    run_request = {"flow": {**FLOW, **more}, "input": ["x"] * items}
    headers = {"authorization": f"Bearer {secret}"}
    answer = await daemon.client.post("/api/flows/run", json=run_request, headers=headers)
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines] or [{"type": "failed", **answer.json()}]


async def test_a_flow_counts_as_many_requests_as_its_calls_of_models(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, requests_per_minute=3)
    events = await flow(daemon, secret, 40)
    assert events[-1]["type"] == "failed"
    assert events[-1]["error"]["code"] == "rate_limit_exceeded"
    assert voice.asked == 3


async def test_the_first_model_call_of_a_run_adds_no_extra_request(daemon: ApiServer) -> None:
    daemon.add(Voice())
    secret = await key(daemon, requests_per_minute=2)
    assert (await flow(daemon, secret, 1))[-1]["type"] == "finished"
    assert (await flow(daemon, secret, 1))[-1]["type"] == "finished"
    assert (await flow(daemon, secret, 1))[-1]["type"] == "failed"


async def test_tokens_of_a_flow_count_while_it_runs(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, tokens_per_day=50)
    events = await flow(daemon, secret, 40)
    assert "tokens per day" in events[-1]["error"]["message"]
    assert voice.asked == 3  # 20 tokens each, and the third call exceeds the limit


async def test_tokens_are_counted_once(daemon: ApiServer) -> None:
    daemon.add(Voice())
    secret = await key(daemon, tokens_per_day=1_000)
    await flow(daemon, secret, 4)
    answer = await ask(daemon, secret)
    # Four calls of twenty tokens, and this call's five, which count once it has ended.
    assert answer.headers["x-ratelimit-remaining-tokens"] in ("920", "915")


async def test_parallel_model_calls_of_a_flow_stay_within_the_concurrency_limit(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, concurrency=2)
    warp = {**FLOW["step"], "concurrency": 20}
    assert (await flow(daemon, secret, 20, step=warp))[-1]["type"] == "finished"
    assert (voice.asked, voice.most_at_once) == (20, 2)


async def test_a_durable_flow_waits_for_its_limit_and_loses_nothing(daemon: ApiServer) -> None:
    voice = Voice()
    daemon.add(voice)
    secret = await key(daemon, requests_per_minute=1_200)  # twenty per second are restored
    (key_row,) = (await daemon.client.get("/api/keys")).json()["data"]
    meter = daemon.services.runner.quotas.of(key_row["id"])
    assert meter is not None
    for _call in range(1_199):
        await meter.add_request()
    events = asyncio.create_task(flow(daemon, secret, 3, durability="normal"))
    assert (await events)[-1]["type"] == "finished"
    assert voice.asked == 3


async def test_model_calls_for_the_stores_of_a_key_count_against_the_key(tmp_path: Path) -> None:
    """Model work for a key's stores counts against the key: the daemon embeds its files and writes its groups, in the
    queue.
    """
    async with asyncio.timeout(60), api_server(tmp_path) as daemon:
        await daemon.services.stores.start()
        await daemon.services.models.add(ModelSpec("writer", "fake://"))
        await daemon.services.models.add(
            ModelSpec("vectors", "fake://", task="embedding", parameters={"dimensions": 8})
        )
        body = {"name": "phone", "scopes": ["chat", "stores:*:manage"], "limits": {"tokens_per_day": 50}}
        new_key = (await daemon.client.post("/api/keys", json=body)).json()
        auth_headers = {"authorization": f"Bearer {new_key['key']}"}

        async def post(path: str, **more: Any) -> dict[str, Any]:
            answer = await daemon.client.post(path, headers=auth_headers, **more)
            assert answer.status_code == 200, answer.text
            return dict(answer.json())

        async def settled() -> None:
            for run in (await daemon.client.get("/api/runs")).json()["data"]:
                await daemon.client.get(f"/api/runs/{run['id']}/events")

        store = (await post("/api/stores", json={"name": "shelf", "embedding_model": "vectors"}))["id"]
        form = {"file": ("long.md", b"word " * 500, "text/markdown")}
        file = (await post("/v1/files", files=form, data={"purpose": "assistants"}))["id"]
        await post(f"/v1/vector_stores/{store}/files", json={"file_id": file})
        await settled()
        refused(await ask(daemon, new_key["key"], model="writer"), "tokens per day")
        group = {"name": "sums", "chunking_strategy": {"type": "summary", "model": "writer"}}
        await post("/api/stores/shelf/groups", json=group)
        await settled()
        sums = (await daemon.client.get(f"/api/stores/{store}/groups")).json()["data"][1]
        assert (sums["failed"], "tokens per day" in sums["errors"][0][1]) == (1, True), sums


async def test_uploaders_pay_for_their_files_in_a_shared_store_and_the_operator_otherwise(
    tmp_path: Path,
) -> None:
    """In a shared store, the uploader of a file pays for reading it, and the operator pays for everything else.

    This applies whichever run reads the file, including a run that another key began. Reindexing everything and groups
    are paid by the operator.
    """
    async with asyncio.timeout(60), api_server(tmp_path) as daemon:
        await daemon.services.models.add(
            ModelSpec("vectors", "fake://", task="embedding", parameters={"dimensions": 8})
        )
        body = {"name": "shelf", "embedding_model": "vectors"}
        store = (await daemon.client.post("/api/stores", json=body)).json()["id"]
        secrets: dict[str, str] = {}
        ids: dict[str, str] = {}
        for name in ("small", "large"):
            body = {
                "name": name,
                "scopes": ["chat", "stores:shelf:write"],
                "limits": {"tokens_per_day": 50},
            }
            new_key = (await daemon.client.post("/api/keys", json=body)).json()
            secrets[name], ids[name] = new_key["key"], new_key["id"]

        async def put(name: str, text: bytes) -> None:
            auth_headers = {"authorization": f"Bearer {secrets[name]}"}
            form = {"file": (f"{name}.md", text, "text/markdown")}
            file_response = await daemon.client.post(
                "/v1/files", files=form, data={"purpose": "assistants"}, headers=auth_headers
            )
            answer = await daemon.client.post(
                f"/v1/vector_stores/{store}/files",
                json={"file_id": file_response.json()["id"]},
                headers=auth_headers,
            )
            assert answer.status_code == 200, answer.text

        async def settled() -> None:
            while True:
                runs = (await daemon.client.get("/api/runs")).json()["data"]
                if all(run["status"] not in ("queued", "running") for run in runs):
                    return
                for run in runs:
                    await daemon.client.get(f"/api/runs/{run['id']}/events")

        async def used() -> dict[str, int]:
            rows = (await daemon.client.get("/api/usage/course?by=key")).json()["data"]
            tokens = {row["series"]: row["prompt_tokens"] for row in rows}
            return {key: count for key, count in tokens.items() if count}

        # Nothing is indexed yet: the first run, started for the small file, finds the files of both keys.
        await put("small", b"One word.")
        await put("large", b"word " * 500)
        await daemon.services.stores.start()
        await settled()
        first = await used()
        assert set(first) == set(ids.values()) and first[ids["small"]] < 50 < first[ids["large"]], first
        meters = {name: daemon.services.runner.quotas.of(key) for name, key in ids.items()}
        assert {name: meter.spent for name, meter in meters.items() if meter} == {
            name: first[key] for name, key in ids.items()
        }
        # The keys do not pay for the operator's requests: reindexing all files and a group.
        await daemon.client.post("/api/stores/shelf/reindex", json={"files": True})
        await settled()
        group = {"name": "short", "chunking_strategy": {"type": "sentence"}}
        answer = await daemon.client.post("/api/stores/shelf/groups", json=group)
        assert answer.status_code == 200, answer.text
        await settled()
        later = await used()
        assert {key: later[key] for key in first} == first
        assert later["system"] > first[ids["large"]], later


async def test_tokens_of_query_embeddings_still_count_after_a_restart(tmp_path: Path) -> None:
    """The vector of a question counts after a restart too: usage rows, which restore the limits, record embedded
    searches.
    """
    body = {"name": "phone", "scopes": ["chat", "stores:*:manage"], "limits": {"tokens_per_day": 60}}
    vectors = ModelSpec("vectors", "fake://", task="embedding", parameters={"dimensions": 8})
    async with asyncio.timeout(120):
        async with api_server(tmp_path) as daemon:
            daemon.add(RelayModel("teller", b"{}"))
            await daemon.services.stores.start()
            await daemon.services.models.add(vectors)
            new_key = (await daemon.client.post("/api/keys", json=body)).json()
            auth_headers = {"authorization": f"Bearer {new_key['key']}"}

            async def post(path: str, **more: Any) -> httpx.Response:
                return await daemon.client.post(path, headers=auth_headers, **more)

            shelf = {"name": "shelf", "embedding_model": "vectors"}
            store = (await post("/api/stores", json=shelf)).json()["id"]
            form = {"file": ("a.md", b"Bread.", "text/markdown")}
            file_response = await post("/v1/files", files=form, data={"purpose": "assistants"})
            await post(f"/v1/vector_stores/{store}/files", json={"file_id": file_response.json()["id"]})
            for run in (await daemon.client.get("/api/runs")).json()["data"]:
                await daemon.client.get(f"/api/runs/{run['id']}/events")
            search_response = await post("/api/stores/shelf/search", json={"query": "bread " * 100})
            assert search_response.status_code == 200, search_response.text
            refused(await ask(daemon, new_key["key"]), "tokens per day")
            await daemon.services.usage.flush()
        async with api_server(tmp_path) as daemon:
            daemon.add(RelayModel("teller", b"{}"))
            refused(await ask(daemon, new_key["key"]), "tokens per day")


async def test_multi_store_searches_and_chunk_previews_count_as_requests(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as daemon:
        await daemon.services.stores.start()
        await daemon.services.models.add(ModelSpec("writer", "fake://"))
        for path, request_body in (
            ("/api/search", {"query": "x", "stores": ["shelf"], "rewrite": "hyde", "writer": "writer"}),
            ("/api/chunk", {"text": "x", "strategies": [{"type": "summary", "model": "writer"}]}),
        ):
            body = {
                "name": "phone",
                "scopes": ["chat", "stores:*:manage"],
                "limits": {"requests_per_minute": 1},
            }
            new_key = (await daemon.client.post("/api/keys", json=body)).json()
            auth_headers = {"authorization": f"Bearer {new_key['key']}"}
            shelf = {"name": "shelf", "embedding_model": ""}
            await daemon.client.post("/api/stores", json=shelf, headers=auth_headers)
            first = await daemon.client.post(path, json=request_body, headers=auth_headers)
            assert first.status_code == 200, first.text
            refused(
                await daemon.client.post(path, json=request_body, headers=auth_headers), "requests per minute"
            )


async def test_each_model_call_within_a_response_counts_as_a_request(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as daemon:
        await daemon.services.stores.start()
        script = [{"times": 1, "tool_calls": [{"name": "file_search", "arguments": {"query": "x"}}]}]
        clever = ModelSpec("clever", "fake://", parameters={"script": [*script, {"content": "Found."}]})
        await daemon.services.models.add(clever)
        await daemon.client.post("/api/stores", json={"name": "shelf", "embedding_model": ""})
        body = {
            "name": "phone",
            "scopes": ["chat", "stores:*:read"],
            "limits": {"requests_per_minute": 1, "tokens_per_day": 1_000_000},
        }
        new_key = (await daemon.client.post("/api/keys", json=body)).json()
        request_body = {
            "model": "clever",
            "input": "look",
            "tools": [{"type": "file_search", "vector_store_ids": ["shelf"]}],
        }
        auth_headers = {"authorization": f"Bearer {new_key['key']}"}
        answer = await daemon.client.post("/v1/responses", json=request_body, headers=auth_headers)
        refused(answer, "requests per minute")


async def test_a_forked_run_counts_against_the_limits_of_its_key(tmp_path: Path) -> None:
    async with asyncio.timeout(60), api_server(tmp_path) as daemon:
        await daemon.services.models.add(ModelSpec("writer", "fake://"))
        body = {"name": "phone", "scopes": ["chat", "apps:*:deploy"], "limits": {"tokens_per_day": 1}}
        new_key = (await daemon.client.post("/api/keys", json=body)).json()
        auth_headers = {"authorization": f"Bearer {new_key['key']}"}

        async def ended(run: str) -> dict[str, Any]:
            await daemon.client.get(f"/api/runs/{run}/events", headers=auth_headers)
            return dict((await daemon.client.get(f"/api/runs/{run}", headers=auth_headers)).json())

        step = {"op": "llm", "name": "say", "model": "writer"}
        flow = {"portico_flow": 1, "name": "told", "durability": "normal", "step": step}
        flow_response = await daemon.client.post(
            "/api/flows/run", json={"flow": flow, "input": "one"}, headers=auth_headers
        )
        first = await ended(flow_response.headers["x-portico-run"])
        assert first["status"] == "completed"
        again = await daemon.client.post(
            f"/api/runs/{first['id']}/fork", json={"input": "two"}, headers=auth_headers
        )
        assert again.status_code == 200, again.text
        forked = await ended(again.json()["id"])
        assert (forked["status"], forked["error"]["code"]) == ("failed", "rate_limit_exceeded")
