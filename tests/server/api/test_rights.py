"""Rights inside a store: a key with a filter finds no byte of what the filter withholds, whatever it calls.

One file of the store has a marker in its text, its name and an attribute. A key whose filter withholds that file calls
every route of the daemon. A key without a filter does too, which shows that the calls would reveal the marker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx
import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import ResourceTemplateReference

from portico_server.embedded import embedded
from portico_server.features.mcp.resources import TEMPLATE, themes_uri_of, uri_of

MARKER = "zirconquartz"
NEEDLE = "lighthouse"
"""A word in all files."""

SCOPES = [
    "chat",
    "models:read",
    "finetune",
    *("stores:*:manage", "apps:*:deploy", "tools:*:call"),
]
FILTER = {"type": "eq", "key": "team", "value": "sales"}
KEYS = {"filtered": "pk-filtered-0123456789", "whole": "pk-whole-0123456789", "boss": "pk-boss-0123456789"}

CALLS = {"look up": "file_search", "desk": "search_handbook", "agent": "search_handbook"}
SCRIPT = [
    {
        "match": f"^{said} for {key}",
        "times": 1,
        "tool_calls": [{"name": tool, "arguments": {"query": NEEDLE}}],
    }
    for said, tool in CALLS.items()
    for key in KEYS
]

CONFIGURATION = {
    "models": [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": SCRIPT}}},
    ],
    "keys": [
        {
            "name": "filtered",
            "key": KEYS["filtered"],
            "scopes": SCOPES,
            "filters": {"handbook": FILTER},
        },
        {"name": "whole", "key": KEYS["whole"], "scopes": SCOPES},
        {"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]},
    ],
    "stores": [{"name": "handbook", "embedding_model": "", "app": True}],
    "agents": [{"name": "desk", "portico_agent": 1, "model": "clever", "stores": ["handbook"]}],
    "apps": [{"name": "finder", "flow": {"step": {"op": "retrieve", "store": "handbook", "query": NEEDLE}}}],
}

FLOW = {"portico_flow": 1, "step": {"op": "retrieve", "store": "handbook", "query": NEEDLE, "cache": True}}


@dataclass(frozen=True)
class SharedStores:
    """A daemon with one store of three files, and the ids of its contents."""

    url: str
    store: str
    visible: str
    hidden: str
    unlabelled: str
    batch: str

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=60)


def waited(client: httpx.Client, store: str) -> None:
    """Wait until nothing of the store waits to be indexed."""
    for run in client.get("/api/runs").json()["data"]:
        if run["status"] in ("queued", "running"):
            client.get(f"/api/runs/{run['id']}/events")
    assert client.get(f"/api/stores/{store}").json()["file_counts"]["in_progress"] == 0


@pytest.fixture(scope="module")
def daemon() -> Iterator[SharedStores]:
    with embedded(CONFIGURATION) as url, httpx.Client(base_url=url, timeout=60) as boss:
        boss.headers["authorization"] = f"Bearer {KEYS['boss']}"
        store = boss.get("/api/stores/handbook").raise_for_status().json()["id"]
        ids = []
        for name, text, attributes in (
            ("prices.md", f"The {NEEDLE} costs five crowns.", {"team": "sales"}),
            (f"{MARKER}.md", f"The {NEEDLE} is {MARKER}.", {"team": "board", MARKER: True}),
            ("loose.md", f"A {NEEDLE} of nobody, {MARKER}.", None),
        ):
            file = boss.post(
                "/v1/files", files={"file": (name, text)}, data={"purpose": "assistants"}
            ).raise_for_status()
            ids.append(file.json()["id"])
            body = {"file_id": ids[-1], "attributes": attributes}
            boss.post(f"/v1/vector_stores/{store}/files", json=body).raise_for_status()
        batch = boss.post(
            f"/v1/vector_stores/{store}/file_batches",
            json={
                "files": [
                    {"file_id": ids[0], "attributes": {"team": "sales"}},
                    {"file_id": ids[1], "attributes": {"team": "board", MARKER: True}},
                ]
            },
        ).raise_for_status()
        boss.post(f"/api/stores/{store}/groups", json={"name": "FineChunk"}).raise_for_status()
        waited(boss, store)
        yield SharedStores(url, store, *ids, batch.json()["id"])  # type: ignore[call-arg]


# --- every route -----------------------------------------------------------------------------------------------------

SEARCH = {"query": NEEDLE, "max_num_results": 50}
CHAT = {"model": "handbook", "messages": [{"role": "user", "content": f"What is the {NEEDLE}?"}]}

TO_DESK = {"portico_flow": 1, "step": {"op": "agent", "agent": "desk"}}
AGENT = {"portico_agent": 1, "model": "clever", "stores": ["handbook"]}

RECORDING = {
    "run": {"id": "run_1", "kind": "chat", "created_at": 0.0, "milliseconds": 1.0},
    "app": {"name": "handbook"},
    "request": {"type": "Chat", "value": {"messages": CHAT["messages"]}},
    "steps": [],
}
"""The recording of a question, without calls: a replay searches the store again."""

BODIES: Mapping[str, tuple[Any, ...]] = {
    "POST /v1/vector_stores": ({"name": "mine", "file_ids": ["HIDDEN"]}, {"name": "mine"}),
    "POST /v1/vector_stores/{store}": ({"name": "other"},),
    "POST /v1/vector_stores/{store}/search": (
        SEARCH,
        {**SEARCH, "filters": {"type": "eq", "key": "team", "value": "board"}},
        {**SEARCH, "filters": {"type": "ne", "key": "nothing", "value": 1}},
        {**SEARCH, "filters": {"type": "eq", "key": MARKER[:-1], "value": True}},
    ),
    "POST /v1/vector_stores/{store}/files": (
        {"file_id": "HIDDEN", "attributes": {"team": "sales"}},
        {"file_id": "VISIBLE", "attributes": {"team": "board"}},
    ),
    "POST /v1/vector_stores/{store}/files/{file_id}": (
        {"attributes": {"team": "board"}},
        {"attributes": {"team": "sales", "lang": "en"}},
    ),
    "POST /v1/vector_stores/{store}/file_batches": (
        {"file_ids": ["HIDDEN"], "attributes": {"team": "sales"}},
    ),
    "POST /v1/vector_stores/{store}/file_batches/{batch_id}/cancel": (None,),
    "POST /api/stores": ({"name": "handbook"}, {"name": "own", "embedding_model": ""}),
    "PATCH /api/stores/{store}": ({"description": "mine"},),
    "POST /api/stores/{store}/search": (
        {**SEARCH, "trace": True},
        {**SEARCH, "groups": ["FineChunk"], "trace": True},
        {**SEARCH, "groups": ["FineChunk"], "parents": "*", "neighbours": 10, "diversity": 0.5},
        {**SEARCH, "reranker": "echo"},
        {**SEARCH, "rewrite": "rewrite"},
    ),
    "POST /api/stores/{store}/files/{file_id}/page": ({"page": 1, "passage": NEEDLE},),
    "POST /api/stores/{store}/sync": (None,),
    "POST /api/stores/{store}/reindex": ({"files": True},),
    "POST /api/stores/{store}/groups": ({"name": "CoarseChunk"},),
    "POST /api/stores/{store}/groups/retry": (None,),
    "POST /api/stores/{store}/calibrate": ({"generate": 2},),
    "POST /api/stores/{store}/guards": ({"questions": [{"question": "When?", "facts": [NEEDLE]}]},),
    "POST /api/stores/{store}/review/accept": (None,),
    "POST /api/stores/{store}/review/reject": (None,),
    "POST /api/search": ({**SEARCH, "stores": ["handbook", "STORE"]},),
    "POST /api/chunk": ({"text": NEEDLE, "filename": "x.md"},),
    "POST /api/runs/replay": ({"recording": RECORDING, "store": "STORE"},),
    "POST /api/flows/run": ({"flow": FLOW}, {"flow": TO_DESK, "input": "desk for KEY"}),
    "POST /api/apps/{name}/run": ({"input": NEEDLE}, {"messages": CHAT["messages"]}),
    "POST /api/apps": ({"name": "own-finder", "spec": FLOW},),
    "POST /api/apps/{name}/package": ({},),
    "POST /api/apps/{name}/package/plan": ({"include": ["store/handbook"]},),
    "POST /api/agents/run": ({"agent": AGENT, "message": "agent for KEY"},),
    "POST /api/agents/check": ({"agent": AGENT},),
    "POST /api/flows/check": ({"flow": FLOW},),
    "POST /api/tools/{name}/call": (
        {"arguments": {"store": "handbook", "query": NEEDLE}},
        {"arguments": {}},
    ),
    "POST /v1/files": (None,),
    "POST /api/schedules": (
        {"name": "synced", "store": "STORE", "every": "1h"},
        {"name": "asked", "app": "finder", "input": NEEDLE, "every": "1h"},
    ),
    "PATCH /api/schedules/{schedule}": ({"store": "STORE"},),
    "POST /v1/batches": (
        {"input_file_id": "HIDDEN", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "POST /api/batches/check": ({"input_file_id": "HIDDEN", "endpoint": "/v1/chat/completions"},),
    "POST /v1/fine_tuning/jobs": ({"model": "echo", "training_file": "HIDDEN"},),
    "POST /api/fine_tuning/plan": ({"model": "echo", "training_file": "HIDDEN"},),
    "POST /v1/evals": (
        {
            "name": "found",
            "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
            "testing_criteria": [
                {
                    "type": "string_check",
                    "name": "same",
                    "input": "{{sample.output_text}}",
                    "reference": "x",
                    "operation": "eq",
                }
            ],
        },
    ),
    "POST /v1/evals/{eval_id}/runs": (
        {"data_source": {"type": "jsonl", "source": {"type": "file_id", "id": "HIDDEN"}}},
    ),
    "POST /v1/chat/completions": (CHAT, {**CHAT, "stream": True}, {**CHAT, "model": "finder"}),
    "POST /v1/messages": ({**CHAT, "max_tokens": 400},),
    "POST /v1/responses": (
        {"model": "handbook", "input": f"What is the {NEEDLE}?"},
        {
            "model": "clever",
            "input": "look up for KEY",
            "tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}],
            "include": ["file_search_call.results"],
        },
        {
            "model": "echo",
            "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "HIDDEN"}]}],
        },
    ),
}
"""Bodies for the routes that accept a store or a file."""

NEVER = {"POST /api/shutdown", "GET /api/questions/events"}

NO_CONTENT = {
    "POST /api/stores/import",  # accepts an archive of the caller's own
    "POST /api/apply",  # for admins only
    "POST /api/evals/{eval_id}/search",
    "PATCH /api/facts/{fact_id}",
    "POST /api/prompts/import",
    "POST /v1/skills",  # files of the caller's own
    "POST /v1/skills/{skill_id}/versions",
    "POST /v1/containers",  # copies of files that the caller may read
    "POST /v1/containers/{container_id}/files",
    "POST /v1/uploads",  # the name of a file of the caller's own
    "POST /v1/images/edits",
    "POST /v1/images/variations",
    "POST /v1/audio/transcriptions",
    "POST /v1/audio/translations",
}
"""Routes that refer to stores or files but reveal nothing of stores that belong to others."""

PARAMETERS = re.compile(r"\{(\w+)(?::path)?\}")


def operations(document: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def words(schema: Any, document: Mapping[str, Any], seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield the names of all fields of a schema, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            yield from words(part, document, seen)
    elif isinstance(schema, dict):
        ref = schema.get("$ref")
        if isinstance(ref, str) and ref not in seen:
            yield from words(
                document["components"]["schemas"].get(ref.rsplit("/", 1)[-1], {}), document, seen | {ref}
            )
        yield from schema.get("properties", {})
        for part in schema.values():
            yield from words(part, document, seen)


def takes_content(route: str, operation: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Return whether a body for this route can name a store or a file."""
    body = operation.get("requestBody", {})
    return not route.startswith(("GET", "DELETE")) and any(
        re.search(r"store|file", name) for name in (route, *words(body, document))
    )


def filled(value: Any, daemon: SharedStores, key: str) -> Any:
    text = json.dumps(value).replace("HIDDEN", daemon.hidden).replace("VISIBLE", daemon.visible)
    return json.loads(text.replace("STORE", daemon.store).replace("KEY", key))


def addresses(path: str, daemon: SharedStores, made: Mapping[str, str]) -> list[str]:
    """Return the path with every possible value of its parameters."""
    candidates = {
        "store": ["handbook", daemon.store],
        "file_id": [daemon.hidden, daemon.visible, daemon.unlabelled],
        "batch_id": [daemon.batch],
        "name": ["handbook", "finder", "search", "desk"],
        "group": ["FineChunk"],
    }
    candidate_paths = [path]
    for name in PARAMETERS.findall(path):
        values = candidates.get(name) or [made.get(name, "nothing")]
        candidate_paths = [
            re.sub(rf"\{{{name}(:path)?\}}", value, candidate)
            for candidate in candidate_paths
            for value in values
        ]
    return candidate_paths


def crawled(
    daemon: SharedStores, key: str, methods: Sequence[str], among: Collection[str] | None = None
) -> Iterator[tuple[str, str, httpx.Response]]:
    """Yield every route with each of ``methods``, or the routes in ``among``, as (route, body, answer)."""
    with daemon.client(key) as client:
        document = client.get("/openapi.json").json()
        object_ids: dict[str, str] = {}
        for method in methods:
            routes = [route for route in operations(document) if route.startswith(f"{method} ")]
            for route in routes:
                if route in NEVER or (among is not None and route not in among):
                    continue
                empty = {} if method in ("POST", "PATCH", "PUT") else None
                for address in addresses(route.partition(" ")[2], daemon, object_ids):
                    for body in BODIES.get(route, (empty,)):
                        request_body = filled(body, daemon, key)
                        answer = client.request(method, address, **content(route, request_body))
                        note(answer, object_ids)
                        yield route, f"{address} {json.dumps(request_body)}", answer


def content(route: str, sent: Any) -> dict[str, Any]:
    if route == "POST /v1/files":
        return {"files": {"file": ("own.md", f"The {NEEDLE}.")}, "data": {"purpose": "assistants"}}
    return {} if sent is None else {"json": sent}


def note(answer: httpx.Response, made: dict[str, str]) -> None:
    """Record the ids of created resources for the routes that need one."""
    if "x-portico-run" in answer.headers:
        made["run_id"] = answer.headers["x-portico-run"]
    if not answer.is_success or not answer.headers.get("content-type", "").startswith("application/json"):
        return
    answer_json = answer.json()
    object_id = str(answer_json.get("id", "")) if isinstance(answer_json, dict) else ""
    for prefix in ("resp", "eval", "conv"):
        if object_id.startswith(f"{prefix}_"):
            name = {"resp": "response", "eval": "eval", "conv": "conversation"}[prefix]
            made[f"{name}_id"] = object_id


@pytest.mark.slow
def test_every_route_that_takes_a_store_or_file_has_a_test_case(daemon: SharedStores) -> None:
    with daemon.client("boss") as boss:
        document = boss.get("/openapi.json").json()
    documented_routes = operations(document)
    without = [
        route
        for route, operation in documented_routes.items()
        if takes_content(route, operation, document) and route not in {*BODIES, *NEVER, *NO_CONTENT}
    ]
    assert without == [], "a row in BODIES says what to send there, so that the canary below is looked for"
    assert {*BODIES, *NO_CONTENT, *NEVER} <= set(documented_routes)


REVEALING = {
    "GET /v1/vector_stores/{store}/files",
    "GET /v1/vector_stores/{store}/files/{file_id}",
    "GET /v1/vector_stores/{store}/files/{file_id}/content",
    "GET /v1/vector_stores/{store}/file_batches/{batch_id}/files",
    "GET /api/stores/{store}/files",
    "GET /api/stores/{store}/files/{file_id}/chunks",
    "POST /v1/vector_stores/{store}/search",
    "POST /api/stores/{store}/search",
    "POST /api/search",
    "POST /api/flows/run",
    "POST /api/apps/{name}/run",
    "POST /api/tools/{name}/call",
    "POST /api/agents/run",
    "POST /v1/chat/completions",
    "POST /v1/messages",
    "POST /v1/responses",
}
"""Routes whose answers contain the marker if nothing is withheld."""


# --- MCP -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("key", ["whole", "filtered"])
async def test_no_message_over_mcp_holds_a_byte_of_a_hidden_file(
    daemon: SharedStores, key: str, mode: Literal["legacy", "auto"]
) -> None:
    texts: list[str] = []

    async def keep(response: httpx2.Response) -> None:
        await response.aread()
        texts.append(response.text)

    headers = {"authorization": f"Bearer {KEYS[key]}"}
    uris = [uri_of("handbook", name) for name in (daemon.hidden, daemon.unlabelled, "prices.md", "price.md")]
    uris.append(themes_uri_of("handbook"))
    async with httpx2.AsyncClient(headers=headers, timeout=60) as http:
        transport = streamable_http_client(f"{daemon.url}/mcp", http_client=http)
        async with Client(transport, mode=mode) as client:
            resource_list = await client.list_resources()
            texts.append(resource_list.model_dump_json())
            for tool in (await client.list_tools()).tools:
                arguments = {"query": NEEDLE, "store": "handbook", "question": NEEDLE, "input": NEEDLE}
                properties = (tool.input_schema or {}).get("properties", {})
                fitting = {name: value for name, value in arguments.items() if name in properties}
                if tool.annotations is not None and tool.annotations.open_world_hint:
                    continue  # it uses the network
                result = await client.call_tool(tool.name, fitting)
                texts.append(result.model_dump_json())
            for uri in uris:
                for ask in (client.read_resource, *([client.subscribe_resource] if mode == "legacy" else [])):
                    try:
                        texts.append(str(await ask(uri)))
                    except MCPError as error:
                        texts.append(str(error))
            reference = ResourceTemplateReference(uri=TEMPLATE, type="ref/resource")
            completed = await client.complete(
                reference, {"name": "file", "value": MARKER[0]}, {"store": "handbook"}
            )
            texts.append(str(completed))
    assert (MARKER in "".join(texts)) is (key == "whole")
    titles = {resource.title for resource in resource_list.resources}
    assert "prices.md" in titles
    assert (f"{MARKER}.md" in titles) is (key == "whole")


# --- filters --------------------------------------------------------------------------------------------


@pytest.fixture
def boss(daemon: SharedStores) -> Iterator[httpx.Client]:
    with daemon.client("boss") as client:
        yield client


def made(boss: httpx.Client, daemon: SharedStores, *scopes: str, **filters: Any) -> httpx.Client:
    """Return a client with a newly created key."""
    body = {"name": "made", "scopes": scopes, "filters": filters}
    key = boss.post("/api/keys", json=body).raise_for_status().json()["key"]
    return httpx.Client(base_url=daemon.url, headers={"authorization": f"Bearer {key}"}, timeout=60)


def uploaded(client: httpx.Client, name: str, text: str) -> str:
    response = client.post("/v1/files", files={"file": (name, text)}, data={"purpose": "assistants"})
    return str(response.raise_for_status().json()["id"])


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error["code"] == code
    return str(error["message"])


@pytest.fixture
def shelf(boss: httpx.Client, daemon: SharedStores) -> Iterator[str]:
    """Create a store with a file of the sales team, one of the board and one without attributes."""
    store = boss.post("/api/stores", json={"name": "shelf", "embedding_model": ""}).json()["id"]
    for name, attributes in (
        ("a.md", {"team": "sales", "level": 1}),
        ("b.md", {"team": "board", "level": 3}),
        ("c.md", {}),
    ):
        body = {"file_id": uploaded(boss, name, f"{NEEDLE} {name}"), "attributes": attributes}
        boss.post(f"/v1/vector_stores/{store}/files", json=body).raise_for_status()
    waited(boss, store)
    yield store
    boss.delete(f"/api/stores/{store}")


@pytest.mark.parametrize(
    ("condition", "seen"),
    [
        ({"type": "eq", "key": "team", "value": "sales"}, {"a.md"}),
        ({"type": "ne", "key": "team", "value": "board"}, {"a.md"}),
        ({"type": "nin", "key": "team", "value": ["board"]}, {"a.md"}),
        ({"type": "ne", "key": "level", "value": "1"}, set()),
        ({"type": "gte", "key": "level", "value": 1}, {"a.md", "b.md"}),
        ({"type": "in", "key": "team", "value": []}, set()),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "team", "value": "board"},
                    {"type": "lt", "key": "level", "value": 2},
                ],
            },
            {"a.md", "b.md"},
        ),
    ],
)
def test_files_without_the_filtered_attribute_or_with_another_value_type_are_withheld(
    daemon: SharedStores, boss: httpx.Client, shelf: str, condition: dict[str, Any], seen: set[str]
) -> None:
    with made(boss, daemon, "stores:*:read", shelf=condition) as client:
        files = client.get("/api/stores/shelf/files").json()["data"]
        result = client.post("/api/stores/shelf/search", json={"query": NEEDLE, "trace": True}).json()
        counts = client.get("/api/stores/shelf").json()
        groups = client.get("/api/stores/shelf/groups").json()["data"]
    assert {row["filename"] for row in files} == seen
    assert {passage["filename"] for passage in result["data"]} == seen
    notes = " ".join(stage["note"] for stage in result["trace"])
    assert f"{len(seen)} files meet the filter" in notes
    assert counts["file_counts"]["total"] == len(seen)
    assert counts["usage_bytes"] == sum(row["usage_bytes"] for row in files)
    assert [group["completed"] for group in groups] == [len(seen)]
    assert [group["chunks"] for group in groups] == [len(seen)]


def test_search_limits_count_permitted_files_and_request_filters_apply_additionally(
    daemon: SharedStores, boss: httpx.Client, shelf: str
) -> None:
    for number in range(12):
        body = {
            "file_id": uploaded(boss, f"many-{number}.md", f"{NEEDLE} {NEEDLE} {number}"),
            "attributes": {"team": "board"},
        }
        boss.post(f"/v1/vector_stores/{shelf}/files", json=body).raise_for_status()
    waited(boss, shelf)
    with made(boss, daemon, "stores:*:read", **{shelf: FILTER}) as client:
        search = f"/v1/vector_stores/{shelf}/search"
        hits = client.post(search, json={"query": NEEDLE, "max_num_results": 1}).json()["data"]
        assert [hit["filename"] for hit in hits] == ["a.md"]
        wider = {"type": "in", "key": "team", "value": ["board", "sales"]}
        refusal = refused(
            client.post(search, json={"query": NEEDLE, "filters": {**wider, "key": "leve"}}),
            400,
            "unknown_attribute",
        )
        assert "level" in refusal  # from a file that it may read
        hits = client.post(search, json={"query": NEEDLE, "filters": wider}).json()["data"]
        assert [hit["filename"] for hit in hits] == ["a.md"]
        page = client.get(f"/v1/vector_stores/{shelf}/files?limit=1").json()
        assert ([row["attributes"]["team"] for row in page["data"]], page["has_more"]) == (["sales"], False)


def test_all_filters_of_a_key_for_one_store_apply_together(
    daemon: SharedStores, boss: httpx.Client, shelf: str
) -> None:
    level = {"type": "gt", "key": "level", "value": 1}
    with made(boss, daemon, "stores:*:read", **{"*": level, "shelf": FILTER}) as client:
        assert client.get("/api/stores/shelf/files").json()["data"] == []
        assert refused(client.get("/api/stores/shelf/export"), 403, "store_is_filtered")


def test_a_filtered_key_can_write_only_files_that_match_its_filter(
    daemon: SharedStores, boss: httpx.Client, shelf: str
) -> None:
    rows = boss.get("/api/stores/shelf/files").json()["data"]
    ids = {row["filename"]: row["id"] for row in rows}
    files = f"/v1/vector_stores/{shelf}/files"
    with made(boss, daemon, "stores:shelf:write", shelf=FILTER) as client:
        own_file = uploaded(client, "own.md", NEEDLE)
        for attributes in (None, {"team": "board"}, {"team": 1}):
            message = refused(
                client.post(files, json={"file_id": own_file, "attributes": attributes}),
                403,
                "attributes_not_permitted",
            )
            assert "team = 'sales'" in message
        assert boss.get(f"{files}/{own_file}").status_code == 404
        client.post(files, json={"file_id": own_file, "attributes": {"team": "sales"}}).raise_for_status()
        refused(client.post(f"{files}/{own_file}", json={"attributes": {}}), 403, "attributes_not_permitted")
        for name in ("b.md", "c.md"):
            for answer in (
                client.get(f"{files}/{ids[name]}"),
                client.get(f"{files}/{ids[name]}/content"),
                client.post(f"{files}/{ids[name]}", json={"attributes": {"team": "sales"}}),
                client.delete(f"{files}/{ids[name]}"),
                client.get(f"{files}?after={ids[name]}"),
            ):
                assert refused(answer, 404, "file_not_found") == refused(
                    client.get(f"{files}/{ids[name]}"), 404, "file_not_found"
                )
        # A file that the operator has moved out of the key's sight stays hidden, even the key's own file.
        boss.post(f"{files}/{own_file}", json={"attributes": {"team": "board"}}).raise_for_status()
        again = {"file_id": own_file, "attributes": {"team": "sales"}}
        refused(client.post(files, json=again), 403, "attributes_not_permitted")
        for method, path in (
            ("POST", "sync"),
            ("GET", "sync/plan"),
        ):
            refused(client.request(method, f"/api/stores/shelf/{path}"), 403, "store_is_filtered")


def test_a_filtered_key_cannot_manage_the_store(daemon: SharedStores, boss: httpx.Client, shelf: str) -> None:
    with made(boss, daemon, "stores:*:manage", shelf=FILTER) as client:
        for method, path, body in (
            ("DELETE", "", None),
            ("PATCH", "", {"description": "x"}),
            ("POST", "/reindex", None),
            ("POST", "/groups", {"name": "FineChunk"}),
            ("POST", "/calibrate", {"generate": 1}),
            ("POST", "/guards", {"questions": [{"question": "When?", "facts": ["noon"]}]}),
            ("GET", "/guards", None),
            ("GET", "/review", None),
            ("GET", "/export", None),
        ):
            answer = client.request(method, f"/api/stores/shelf{path}", json=body)
            refused(answer, 403, "store_is_filtered")
        own_store = client.post(
            "/api/stores", json={"name": "my-own", "embedding_model": ""}
        ).raise_for_status()
        assert client.delete(f"/api/stores/{own_store.json()['id']}").is_success


def test_a_store_keeps_its_name_while_a_filter_is_bound_to_it(
    daemon: SharedStores, boss: httpx.Client, shelf: str
) -> None:
    with made(boss, daemon, "stores:*:read", shelf=FILTER):
        answer = boss.post(f"/v1/vector_stores/{shelf}", json={"name": "other"})
    assert shelf in refused(answer, 409, "store_is_filtered")


@pytest.mark.parametrize(
    ("scopes", "filters", "param"),
    [
        (["admin"], {"shelf": FILTER}, "filters"),
        (["chat"], {"shelf": {"type": "eq", "key": "team"}}, "filters.shelf.value"),
        (["chat"], {"": FILTER}, "filters"),
        (["chat"], {f"s{number}": FILTER for number in range(65)}, "filters"),
    ],
)
def test_an_invalid_key_filter_is_refused(
    boss: httpx.Client, scopes: list[str], filters: dict[str, Any], param: str
) -> None:
    answer = boss.post("/api/keys", json={"name": "x", "scopes": scopes, "filters": filters})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_background_work_keeps_the_filter_and_caches_are_not_shared_between_keys(
    daemon: SharedStores, boss: httpx.Client
) -> None:
    """Background work keeps the filter, and caches do not cross keys: two keys call a deployed flow with a cached
    step.
    """
    spec = {"name": "cached", "spec": FLOW}
    boss.post("/api/apps", json=spec).raise_for_status()
    answer_texts = {}
    for key in ("whole", "filtered"):
        with daemon.client(key) as client:
            answer = client.post(
                "/v1/responses", json={"model": "cached", "input": "x", "background": True}
            ).raise_for_status()
            path = f"/v1/responses/{answer.json()['id']}"
            while (state := client.get(path).json())["status"] in ("queued", "in_progress"):
                client.get(f"{path}?stream=true")
            assert state["status"] == "completed", state
            answer_texts[key] = json.dumps(state)
    assert MARKER in answer_texts["whole"]
    assert MARKER not in answer_texts["filtered"]
    assert "five crowns" in answer_texts["filtered"]


# --- paths of files and addresses of servers ------------------------------------------------------------


@pytest.mark.slow
def test_responses_to_a_key_reveal_no_local_paths_or_server_addresses(tmp_path: Path) -> None:
    """No answer reveals file paths of this machine or server addresses to a key.

    A key sees the names of models and stores and of their problems; an admin sees paths and addresses.
    """
    place = tmp_path / MARKER / "two words"
    place.mkdir(parents=True)
    (place / "a.md").write_text(NEEDLE)
    (tmp_path / MARKER / "script.yaml").write_text("- content: x")
    configuration = {
        "models": [
            {"name": "echo", "source": f"fake://{tmp_path / MARKER / 'script.yaml'}", "aliases": ["default"]},
            {"name": "gone", "source": f"file://{tmp_path / MARKER}/model.gguf"},
            {"name": "twice", "source": f"file://{tmp_path / MARKER}/b.gguf", "replicas": 2},
            {"name": "near", "source": f"http://127.0.0.1:1/{MARKER}/v1#llama"},
            {"name": "named", "source": f"https://{MARKER}.invalid/v1#llama"},
            {"name": "peer", "source": f"a2a+http://127.0.0.1:1/{MARKER}"},
        ],
        "keys": [
            {"name": name, "key": KEYS[name], "scopes": scopes}
            for name, scopes in (("whole", SCOPES), ("boss", ["admin"]))
        ],
        "stores": [{"name": "handbook", "folder": str(place), "embedding_model": "", "app": True}],
    }
    names = {"model": "gone", "store": "handbook"}
    revealing, wrong = set(), []
    with embedded(configuration) as url:
        for key in ("boss", "whole"):
            headers = {"authorization": f"Bearer {KEYS[key]}"}
            with httpx.Client(base_url=url, headers=headers, timeout=60) as client:
                waited(client, "handbook")
                chat_failure = client.post("/v1/chat/completions", json={**CHAT, "model": "gone"})
                assert (chat_failure.status_code, "model.gguf" in chat_failure.text) == (503, True)
                answers = {"chat": chat_failure.text}
                for name in ("near", "named", "peer"):
                    away = client.post("/v1/chat/completions", json={**CHAT, "model": name})
                    assert (away.status_code, "cannot be reached" in away.text) == (502, True), away.text
                    answers[f"chat with {name}"] = away.text
                for route in operations(client.get("/openapi.json").json()):
                    method, path = route.split(" ")
                    if method != "GET" or path in ("/api/events", "/api/notices"):
                        continue
                    for name in ("echo", "gone", "twice", "near", "peer", "handbook"):
                        given = {**names, "name": name}
                        address = re.sub(r"{(\w+)}", lambda part, given=given: given.get(part[1], "x"), path)
                        if address in answers:
                            continue
                        with client.stream("GET", address) as answer:
                            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                                answers[address] = answer.read().decode(errors="replace")
                for address, text in answers.items():
                    if MARKER in text and key == "boss":
                        revealing.add(address)
                    elif MARKER in text:
                        wrong.append(f"{address}: …{text[max(0, text.index(MARKER) - 200) :][:300]}")
    assert not wrong, "\n".join(wrong)
    assert {"/api/deployments", "/api/status", "/api/stores", "/v1/vector_stores"} <= revealing


# --- last, since it deletes all that it can -------------------------------------------------------------


@pytest.mark.slow
def test_no_answer_to_a_filtered_key_holds_a_byte_of_a_hidden_file(daemon: SharedStores) -> None:
    # The marker must appear where nothing is withheld; otherwise its absence below would prove nothing.
    revealing_routes = {
        route
        for route, _, answer in crawled(daemon, "whole", ("GET", "POST"), REVEALING)
        if MARKER in answer.text
    }
    assert revealing_routes == REVEALING
    methods = ("GET", "POST", "PUT", "PATCH", "GET", "DELETE")
    for route, request_text, answer in crawled(daemon, "filtered", methods):
        assert MARKER.encode() not in answer.content, (route, request_text, answer.text[:2000])
        assert answer.status_code < 500, (route, request_text, answer.text[:500])
