"""Ways around a guard, tried over every route and protocol: no text that a guard must hold back may reach a client."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from tests.api_server import ApiServer, api_server
from tests.server.features.readers.documents import pdf
from tests.server.features.stores.store_services import pieces

from portico_server.core.principal import LOCAL, SYSTEM
from portico_server.core.servable import Card
from portico_server.features.guards.configuration import set_guards
from portico_server.features.guards.guard import parse_guard
from portico_server.features.guards.guarded import guards_of
from portico_server.features.stores.contents import FileToAttach
from portico_server.models.spec import ModelSpec

HIDDEN = "nightingale"

STORE_TEXTS = {
    "plan.md": "# Nightingale plan\n\nProject Nightingale starts in May. Nightingale's budget is 40 euros, says Ada "
    "Lovelace.\n\n## Staff\n\nAda Lovelace leads the harbour team of Project Nightingale in Bergen.\n",
    "harbour.md": "# Harbour\n\nThe harbour of Bergen opens at seven. Ada Lovelace wrote about Nightingale.\n",
    "costs.csv": "project,leader,cost\nNightingale,Ada,40\nSparrow,Bob,35\n",
    "page.html": "<html><body><!-- Nightingale --><p>Bergen</p></body></html>",
    "open.md": "# Tides\n\nSpring tides follow the full moon in Bergen, says Ada Lovelace.\n",
}


def guard(action: str, on: Any = "*", **fields: Any) -> Any:
    details = {"words": [HIDDEN], "where": ["input", "output", "tool_arguments", "tool_results"], **fields}
    return parse_guard({"name": "secrecy", "on": on, "action": action, **details}, "guards[0]")


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


@dataclass
class GuardedStore:
    """A store with one file of each kind, and a key that can read it and write to its own stores."""

    daemon: ApiServer
    store: str
    files: dict[str, str]
    key: str

    async def ask(self, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
        return await self.daemon.client.request(method, path, headers=bearer(key or self.key), **options)

    @asynccontextmanager
    async def over_mcp(self) -> AsyncIterator[Client]:
        async with httpx2.AsyncClient(headers=bearer(self.key), timeout=60) as http:
            transport = streamable_http_client(f"{self.daemon.url}/mcp", http_client=http)
            async with Client(transport) as client:
                yield client


async def fill_store(daemon: ApiServer) -> GuardedStore:
    services = daemon.services
    await services.stores.start()
    await services.models.add(ModelSpec("echo", "fake://", aliases=("default",)))
    store = await services.stores.create("handbook", LOCAL, embedding_model="", links=True, app=True)
    files = {}
    contents = {name: text.encode() for name, text in STORE_TEXTS.items()} | {
        "page.pdf": pdf("Nightingale lands in Bergen.")
    }
    for name, content in contents.items():
        row = await services.files.create(name, "assistants", pieces(content), SYSTEM)
        files[name] = row.id
    await services.stores.contents.attach(store, [FileToAttach(file_id) for file_id in files.values()], LOCAL)
    run_id = await services.stores.contents.queue(store)
    _row, admin_key = await daemon.auth.create("admin", ["admin"])
    await daemon.client.get(f"/api/runs/{run_id}/events", headers=bearer(admin_key))
    scopes = [
        *("chat", "stores:handbook:read", "apps:*:call", "tools:*:call"),
        *(f"stores:mine:{action}" for action in ("read", "write", "manage")),
    ]
    _row, key = await daemon.auth.create("reader", scopes)
    return GuardedStore(daemon, store.id, files, key)


def chat(model: str, text: Any, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 200, "messages": [{"role": "user", "content": text}], **fields}


QUESTIONS = (
    "When does Project Nightingale start?",
    "What starts in May?",
    "Which project costs most?",
    "What is the cost of Sparrow?",
    "What are these documents about?",
    "Which files were added last?",
)


def store_requests(guarded_store: GuardedStore) -> list[tuple[str, str, Any]]:
    """Return requests that read content of the store, as (method, path, body)."""
    store = guarded_store.store
    requests: list[tuple[str, str, Any]] = []
    for name, file_id in guarded_store.files.items():
        requests += [
            ("GET", f"/v1/vector_stores/{store}/files/{file_id}/content", None),
            ("GET", f"/api/stores/handbook/files/{file_id}/chunks", None),
            ("GET", f"/api/stores/handbook/links?file={file_id}&start=0", None),
            ("GET", f"/v1/files/{file_id}/content", None),
            ("POST", "/v1/chat/completions", chat("echo", [{"type": "file", "file": {"file_id": file_id}}])),
            ("POST", "/v1/vector_stores", {"name": "mine", "file_ids": [file_id]}),
        ]
        if name.endswith(".pdf"):
            requests.append(("POST", f"/api/stores/handbook/files/{file_id}/page", {"page": 1}))
    for question in QUESTIONS:
        requests += [
            ("POST", f"/v1/vector_stores/{store}/search", {"query": question}),
            ("POST", "/api/stores/handbook/search", {"query": question, "trace": True}),
            ("POST", "/api/search", {"stores": ["handbook"], "query": question}),
            ("POST", "/v1/chat/completions", chat("handbook", question)),
            ("POST", "/v1/chat/completions", chat("handbook", question, stream=True)),
            ("POST", "/v1/messages", chat("handbook", question)),
            ("POST", "/api/chat", chat("handbook", question)),
            ("POST", "/v1/responses", {"model": "handbook", "input": question}),
            (
                "POST",
                "/v1/responses",
                {
                    "model": "echo",
                    "input": question,
                    "tools": [{"type": "file_search", "vector_store_ids": [store]}],
                    "include": ["file_search_call.results"],
                },
            ),
        ]
    return [
        *requests,
        ("GET", "/api/stores/handbook/themes", None),
        ("GET", "/api/stores/handbook/graph", None),
        ("GET", "/api/stores/handbook/questions", None),
        ("GET", "/api/stores/handbook", None),
        ("GET", "/api/stores/handbook/files", None),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("on", ["*", "store/handbook"])
@pytest.mark.parametrize("action", ["block", "mask"])
async def test_no_route_hands_out_the_text_of_a_guarded_store(tmp_path: Path, on: str, action: str) -> None:
    async with api_server(tmp_path, require_key=True) as daemon:
        guarded_store = await fill_store(daemon)
        requests = store_requests(guarded_store)
        open_answers = [await guarded_store.ask(method, path, json=body) for method, path, body in requests]
        shows_text = [HIDDEN in answer.text.lower() for answer in open_answers]
        assert sum(shows_text) > 50, "without a guard, the requests show the text"
        set_guards(daemon.services, [guard(action, on, where=["tool_results"])])
        leaks = []
        for (method, path, body), open_answer in zip(requests, open_answers, strict=True):
            answer = await guarded_store.ask(method, path, json=body)
            assert answer.status_code < 500, (path, answer.text)
            question = json.dumps(body or "").lower()
            if HIDDEN in answer.text.lower() and HIDDEN not in question:
                leaks.append((method, path, body, answer.text))
            is_secret = any(
                file_id in f"{path}{question}" and name != "open.md"
                for name, file_id in guarded_store.files.items()
            )
            if path.endswith("/page") or (path == "/v1/vector_stores" and is_secret):
                assert answer.status_code == 400 and answer.json()["error"]["code"] == "content_filter"
                assert "secrecy" in answer.text
            elif HIDDEN not in open_answer.text.lower() and not is_secret:
                assert answer.status_code == open_answer.status_code, (path, answer.text)
        assert not leaks
        async with guarded_store.over_mcp() as client:
            answers = [await client.call_tool("search", {"query": question}) for question in QUESTIONS]
            for name, file_id in guarded_store.files.items():
                answers.append(await client.call_tool("fetch", {"id": f"handbook/{file_id}"}))
                assert answers[-1].is_error == (action == "block" and name not in ("open.md", "page.html"))
                if name != "open.md":
                    with pytest.raises(MCPError, match="secrecy"):
                        await client.read_resource(f"portico://stores/handbook/files/{name}")
            answers += [
                await client.read_resource("portico://stores/handbook/files/open.md"),
                await client.read_resource("portico://stores/handbook/themes"),
            ]
            assert HIDDEN not in repr(answers).lower()
        owner = (await daemon.auth.create("owner", ["admin"]))[1]
        for file_id in guarded_store.files.values():
            answer = await guarded_store.ask("GET", f"/v1/files/{file_id}/content", owner)
            assert answer.status_code == 200, "an admin keeps the files"


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


SPELLINGS = (
    HIDDEN,
    "NIGHTINGALE",
    "nightingale's",
    "Nightingales",
    "_nightingale_",
    "**Nightingale**",
    "night\u200bingale",
    "night\u00adingale",
    "night\U000e0101ingale",
    "night\u034fingale",
    "nightin-\ngale",
    "the night\ningales",
    "ｎｉｇｈｔｉｎｇａｌｅ",
    "𝐧𝐢𝐠𝐡𝐭𝐢𝐧𝐠𝐚𝐥𝐞",
)

CONTENTS: tuple[Any, ...] = (
    *SPELLINGS,
    parts("Night", "ingale"),
    parts("N", "i", "ghtin", "gale's"),
    parts("Who is N", "", "ightingale?"),
)


def faces(content: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return requests with a content in every protocol that has it."""
    turn = {"role": "user", "content": content}
    requests = [
        ("/v1/chat/completions", {"model": "clerk", "messages": [turn]}),
        ("/v1/chat/completions", {"model": "clerk", "messages": [turn], "stream": True}),
        ("/v1/messages", {"model": "clerk", "max_tokens": 99, "messages": [turn]}),
    ]
    if isinstance(content, str):
        return [
            *requests,
            ("/v1/responses", {"model": "clerk", "input": content}),
            ("/v1/completions", {"model": "clerk", "prompt": content}),
            ("/api/chat", {"model": "clerk", "messages": [turn], "stream": False}),
            ("/api/generate", {"model": "clerk", "prompt": content, "stream": False}),
        ]
    split_messages = [{"role": "user", "content": part["text"]} for part in content]
    inputs = [{"type": "input_text", "text": part["text"]} for part in content]
    return [
        *requests,
        ("/v1/responses", {"model": "clerk", "input": [{"role": "user", "content": inputs}]}),
        ("/v1/responses", {"model": "clerk", "input": split_messages}),
        ("/v1/chat/completions", {"model": "clerk", "messages": split_messages}),
        ("/api/chat", {"model": "clerk", "messages": split_messages, "stream": False}),
    ]


async def test_no_spelling_and_no_split_text_passes_a_guarded_model(tmp_path: Path) -> None:
    async with api_server(tmp_path) as daemon:
        services = daemon.services
        await services.models.add(ModelSpec("clerk", "fake://"))
        set_guards(services, [guard("block", "clerk", where=["input"])])
        requests = [request for content in CONTENTS for request in faces(content)]
        assert len(requests) > 90
        passed_requests = []
        for path, body in requests:
            answer = await daemon.client.post(path, json=body)
            if answer.status_code != 400 or "secrecy" not in answer.text:
                passed_requests.append((path, body, answer.text))
        assert not passed_requests
        set_guards(services, [guard("mask", "clerk", where=["input"])])
        for path, body in faces(parts("Night", "ingale")):
            answer = await daemon.client.post(path, json=body)
            assert answer.status_code == 200 and "ingale" not in answer.text, (path, answer.text)
        for text in ("a knight in gales", "nightingalery", "night, in gale", "a night\n\n1. in gale"):
            path, body = faces(text)[0]
            answer = await daemon.client.post(path, json=body)
            assert answer.json()["choices"][0]["message"]["content"] == text


async def test_every_protocol_says_that_an_answer_was_blocked(tmp_path: Path) -> None:
    async with api_server(tmp_path) as daemon:
        services = daemon.services
        script = [{"match": "^go", "content": "It is Nightingale."}]
        await services.models.add(ModelSpec("clerk", "fake://", parameters={"script": script}))
        set_guards(services, [guard("block", "clerk", where=["output"])])
        reasons = {}
        for path, body in faces("go"):
            answer = (await daemon.client.post(path, json=body)).text
            assert "Nightingale" not in answer
            reasons[path] = answer
        assert '"finish_reason":"content_filter"' in reasons["/v1/chat/completions"]
        assert '"stop_reason":"refusal"' in reasons["/v1/messages"]
        assert '"reason":"content_filter"' in reasons["/v1/responses"]
        for path in ("/api/chat", "/api/generate"):
            assert '"done_reason":"content_filter"' in reasons[path], reasons[path]


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("ft:clerk:portico:twin:0123456789ab", {}),
        ("ft:clerk:portico:twin:0123456789ab:ckpt-step-7", {}),
        ("ft:ft:clerk:portico:twin:0123456789ab:portico:again:0123456789ab", {}),
        ("polite", {"base": "clerk"}),
        ("polite", {"base": "ft:clerk:portico:twin:0123456789ab"}),
    ],
)
def test_a_guard_on_a_model_covers_the_models_trained_from_it(name: str, labels: dict[str, str]) -> None:
    entries = [guard("mask", on) for on in ("clerk", "desk", "other")]
    around = guards_of(Card(name, "model", labels=labels), entries, {"desk": "clerk"})
    assert around == tuple(entries[:2])


def test_a_guard_covers_an_object_under_its_id_and_its_earlier_name() -> None:
    tool = Card("say_it", "tool", id="tool_1", original_name="say.it")
    for on in ("tool/say_it", "tool/say.it", "tool/tool_1", "*"):
        assert guards_of(tool, [guard("mask", on)], {})
    assert not guards_of(tool, [guard("mask", ["say_it", "store/say_it"])], {})


async def test_a_name_that_no_object_has_is_a_problem_of_the_daemon(tmp_path: Path) -> None:
    async with api_server(tmp_path) as daemon:
        services = daemon.services
        await services.models.add(ModelSpec("clerk", "fake://", aliases=("desk",)))
        known_names = ["clerk", "desk", "tool/calculator", "*"]
        set_guards(services, [guard("block", [*known_names, "tool/calculater", "store/none"])])
        problems = (await daemon.client.get("/api/status")).json()["problems"]
        assert [(problem["name"], problem["place"], problem["reason"]) for problem in problems] == [
            (
                "secrecy",
                "guards",
                "No shared object is called 'store/none', so the guard does not protect it.",
            ),
            (
                "secrecy",
                "guards",
                "No shared object is called 'tool/calculater', so the guard does not protect it. "
                "Did you mean 'tool/calculator' or 'tool/apply_patch' or 'tool/search'?",
            ),
        ]
        await services.models.add(ModelSpec("none", "fake://"))
        set_guards(services, [guard("block", "none")])
        assert (await daemon.client.get("/api/status")).json()["problems"] == []


@pytest.mark.parametrize(
    ("path", "field"), [("/v1/embeddings", "input"), ("/v1/completions", "prompt"), ("/api/embed", "input")]
)
async def test_token_ids_pass_no_guard(tmp_path: Path, path: str, field: str) -> None:
    async with api_server(tmp_path) as daemon:
        await daemon.services.models.add(ModelSpec("clerk", "fake://"))
        set_guards(daemon.services, [guard("block", "clerk", words=["Hello"], where=["input"])])
        for tokens in ([9906], [[9906]], [[1917], [9906]]):  # 9906 is "Hello" in cl100k_base
            answer = await daemon.client.post(path, json={"model": "clerk", field: tokens})
            assert answer.status_code == 400, answer.text
