"""Memory between keys: whatever a key calls, it finds, changes and plants no fact of another key.

An agent remembers a fact of the key ``alice``. The key ``mallory`` has every scope except ``admin``, so it may manage
the store that holds the fact. Each row of the table is a call and what it must answer.
"""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from tests.growth import MCP_HEADERS, MCP_VERSION
from tests.server.api.test_rights import waited

from portico_server.embedded import embedded

MARKER: Final = "zirconquartz"
"""A word of alice's fact, which no call of another key contains."""

KEYS: Final = {name: f"pk-{name}-0123456789" for name in ("alice", "bob", "mallory", "boss")}
MEMORY = {"long_term": {"store": "facts"}}
NOTHING = {"value": []}


def noted(place: str) -> dict[str, Any]:
    return {
        "value": [{"fact": f"The user lives in {place}.", "quote": f"I live in {place}", "replaces": None}]
    }


SCRIPT = [
    *(
        {"match": rf"Message:\s+I live in {place}", "content": json.dumps(noted(place))}
        for place in (MARKER, "Porto", "Faro")
    ),
    {"match": "Message:", "content": json.dumps(NOTHING)},
    *(
        {"match": "^What do you know", "system": place, "content": f"You live in {place}."}
        for place in (MARKER, "Porto", "Faro", "Atlantis")
    ),
    {"match": "^What do you know", "content": "Nothing."},
    {
        "match": "^look up",
        "times": 1,
        "tool_calls": [{"name": "file_search", "arguments": {"query": "lives"}}],
    },
    {
        "match": "^agent",
        "times": 1,
        "tool_calls": [{"name": "search_facts", "arguments": {"query": "lives"}}],
    },
    {"match": "", "content": "Noted."},
]
EVERYTHING = ["chat", "models:read", "finetune", "stores:*:manage", "apps:*:deploy", "tools:*:call"]
USER = ["chat", "apps:guide:call"]
CONFIGURATION = {
    "models": [
        {"name": "noter", "source": "fake://", "aliases": ["default"], "parameters": {"script": SCRIPT}}
    ],
    "keys": [
        {"name": "alice", "key": KEYS["alice"], "scopes": USER},
        {"name": "bob", "key": KEYS["bob"], "scopes": USER},
        {"name": "mallory", "key": KEYS["mallory"], "scopes": EVERYTHING},
        {"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]},
    ],
    "stores": [{"name": "facts", "embedding_model": "", "app": True, "links": True}],
    "agents": [{"name": "guide", "portico_agent": 1, "model": "noter", "memory": MEMORY}],
}


def client(url: str, key: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=60)


def says(url: str, key: str, text: str) -> str:
    """Return the agent's answer to a key."""
    with client(url, key) as caller:
        body = {"model": "guide", "messages": [{"role": "user", "content": text}]}
        answer = caller.post("/v1/chat/completions", json=body).raise_for_status().json()
    return str(answer["choices"][0]["message"]["content"])


def upload(caller: httpx.Client, text: str, name: str = "plain.md") -> str:
    response = caller.post("/v1/files", files={"file": (name, text)}, data={"purpose": "assistants"})
    return str(response.raise_for_status().json()["id"])


@dataclass(frozen=True)
class FactHome:
    """A daemon with a store of facts, the folder of its data, and the ids that rows name."""

    url: str
    path: Path
    ids: Mapping[str, str]

    def filled(self, text: str) -> str:
        for name, value in self.ids.items():
            text = text.replace(name, value)
        return text

    def settle(self) -> None:
        with client(self.url, "boss") as boss:
            waited(boss, self.ids["STORE"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FactHome]:
    path = tmp_path_factory.mktemp("memory")
    with embedded(CONFIGURATION, path) as url, client(url, "boss") as boss, client(url, "mallory") as mallory:
        store = boss.get("/api/stores/facts").raise_for_status().json()["id"]
        boss.post(f"/v1/vector_stores/{store}/files", json={"file_id": upload(boss, "Everybody lives here.")})
        assert says(url, "alice", f"I live in {MARKER}") == "Noted."
        waited(boss, store)
        [file] = [
            item
            for item in boss.get(f"/v1/vector_stores/{store}/files").json()["data"]
            if item["attributes"].get("fact")
        ]
        ids = {
            "STORE": store,
            "FILE": file["id"],
            "FACT": str(file["attributes"]["id"]),
            "ALICE": str(file["attributes"]["owner"]),
            "PLANT": upload(mallory, "The user lives in Atlantis.", "fact-0123456789abcdef.txt"),
        }
        yield FactHome(url, path, ids)


@dataclass(frozen=True)
class Row:
    """A call of ``key`` and the statuses that it may get; with ``param``, the parameter that the error names."""

    name: str
    request: str
    body: Any = None
    key: str = "mallory"
    statuses: tuple[int, ...] = (200,)
    param: str | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        if not isinstance(self.body, dict) or "jsonrpc" not in self.body:
            return {}
        params = self.body["params"]
        name = params.get("name") or params.get("uri")
        return {**MCP_HEADERS, "mcp-method": self.body["method"], **({"mcp-name": name} if name else {})}


FORGED = {"fact": True, "owner": "ALICE", "origins": ""}
SEARCH = {"query": "Where does the user live?", "max_num_results": 50}
FILTER = {"type": "eq", "key": "owner", "value": "ALICE"}
AGENT = {"portico_agent": 1, "model": "noter", "stores": ["facts"]}
FLOW = {"portico_flow": 1, "step": {"op": "retrieve", "store": "facts", "query": "lives"}}
MISSING, REFUSED, FOREIGN = (404,), (403,), (403, 404)


def mcp(method: str, **params: Any) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    return mcp("tools/call", name=name, arguments=arguments)


READS = [
    Row("native: files", "GET /api/stores/facts/files"),
    Row("native: the chunks of a fact", "GET /api/stores/facts/files/FILE/chunks", statuses=MISSING),
    Row("native: search", "POST /api/stores/facts/search", {**SEARCH, "trace": True}),
    Row(
        "native: search by owner",
        "POST /api/stores/facts/search",
        {**SEARCH, "filters": FILTER},
        statuses=(200, 400),
    ),
    Row("native: search of many stores", "POST /api/search", {**SEARCH, "stores": ["facts", "STORE"]}),
    Row("native: themes", "GET /api/stores/facts/themes"),
    Row("native: links", "GET /api/stores/facts/links?file=FILE", statuses=(200, 400, 404)),
    Row("native: graph", "GET /api/stores/facts/graph", statuses=(200, 403)),
    Row("native: suggested questions", "GET /api/stores/facts/questions"),
    Row("native: export", "GET /api/stores/facts/export", statuses=REFUSED),
    Row("native: page", "POST /api/stores/facts/files/FILE/page", {"page": 1}, statuses=MISSING),
    Row("native: facts", "GET /api/facts"),
    Row("native: facts of the store", "GET /api/facts?store=facts"),
    Row("native: a fact", "GET /api/facts/FACT", statuses=MISSING),
    Row("native: flow", "POST /api/flows/run", {"flow": FLOW}),
    Row("native: agent", "POST /api/agents/run", {"agent": AGENT, "message": "agent"}),
    Row("native: runs", "GET /api/runs"),
    Row("OpenAI: store files", "GET /v1/vector_stores/STORE/files"),
    Row("OpenAI: completed files", "GET /v1/vector_stores/STORE/files?filter=completed&limit=100"),
    Row("OpenAI: files after a fact", "GET /v1/vector_stores/STORE/files?after=FILE", statuses=MISSING),
    Row("OpenAI: a file of a store", "GET /v1/vector_stores/STORE/files/FILE", statuses=MISSING),
    Row("OpenAI: its content", "GET /v1/vector_stores/STORE/files/FILE/content", statuses=MISSING),
    Row("OpenAI: store search", "POST /v1/vector_stores/STORE/search", SEARCH),
    Row("OpenAI: files", "GET /v1/files"),
    Row("OpenAI: a file", "GET /v1/files/FILE", statuses=MISSING),
    Row("OpenAI: the bytes of a file", "GET /v1/files/FILE/content", statuses=MISSING),
    Row(
        "Responses: file search",
        "POST /v1/responses",
        {
            "model": "noter",
            "input": "look up",
            "tools": [{"type": "file_search", "vector_store_ids": ["STORE"]}],
            "include": ["file_search_call.results"],
        },
    ),
    Row(
        "Responses: an input file",
        "POST /v1/responses",
        {
            "model": "noter",
            "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "FILE"}]}],
        },
        statuses=MISSING,
    ),
    Row(
        "OpenAI: chat with the store",
        "POST /v1/chat/completions",
        {"model": "facts", "messages": [{"role": "user", "content": "Where does the user live?"}]},
    ),
    Row("MCP: search", "POST /mcp", tool("search", store="facts", query="lives")),
    Row("MCP: search at the store", "POST /mcp/stores/facts", tool("search", query="lives")),
    Row("MCP: fetch", "POST /mcp/stores/facts", tool("fetch", id="FILE")),
    Row("MCP: resources", "POST /mcp", mcp("resources/list")),
    Row(
        "MCP: a resource",
        "POST /mcp",
        mcp("resources/read", uri="portico://stores/facts/files/FILE"),
        statuses=(200, 400, 404),
    ),
    Row("another user: facts", "GET /api/facts", key="bob"),
    Row("another user: a fact", "GET /api/facts/FACT", key="bob", statuses=MISSING),
    Row("another user: the store", "GET /api/stores/facts/files", key="bob", statuses=REFUSED),
]

WRITES = [
    Row(
        "OpenAI: attach with the attributes of a fact",
        "POST /v1/vector_stores/STORE/files",
        {"file_id": "PLANT", "attributes": FORGED},
        statuses=(400,),
        param="attributes.fact",
    ),
    *(
        Row(
            f"OpenAI: attach with the attribute {name}",
            "POST /v1/vector_stores/STORE/files",
            {"file_id": "PLANT", "attributes": {name: "ALICE"}},
            statuses=(400,),
            param=f"attributes.{name}",
        )
        for name in ("owner", "origins", "memory", "span", "span_start")
    ),
    Row(
        "OpenAI: batch with common attributes",
        "POST /v1/vector_stores/STORE/file_batches",
        {"file_ids": ["PLANT"], "attributes": FORGED},
        statuses=(400,),
        param="attributes.fact",
    ),
    Row(
        "OpenAI: batch with attributes of a file",
        "POST /v1/vector_stores/STORE/file_batches",
        {"files": [{"file_id": "PLANT", "attributes": FORGED}]},
        statuses=(400,),
        param="attributes.fact",
    ),
    Row(
        "an admin plants a fact",
        "POST /v1/vector_stores/STORE/files",
        {"file_id": "PLANT", "attributes": FORGED},
        key="boss",
        statuses=(400,),
        param="attributes.fact",
    ),
    Row(
        "OpenAI: attach the file of a fact",
        "POST /v1/vector_stores/STORE/files",
        {"file_id": "FILE"},
        statuses=MISSING,
    ),
    Row(
        "an admin makes a fact a document",
        "POST /v1/vector_stores/STORE/files",
        {"file_id": "FILE"},
        key="boss",
        statuses=(409,),
    ),
    Row(
        "OpenAI: change the attributes of a fact",
        "POST /v1/vector_stores/STORE/files/FILE",
        {"attributes": {}},
        statuses=MISSING,
    ),
    Row(
        "an admin changes the attributes of a fact",
        "POST /v1/vector_stores/STORE/files/FILE",
        {"attributes": {"team": "sales"}},
        key="boss",
        statuses=(409,),
    ),
    Row("OpenAI: detach a fact", "DELETE /v1/vector_stores/STORE/files/FILE", statuses=MISSING),
    Row("OpenAI: delete the file", "DELETE /v1/files/FILE", statuses=MISSING),
    Row("OpenAI: delete the store", "DELETE /v1/vector_stores/STORE", statuses=REFUSED),
    Row("native: delete the store", "DELETE /api/stores/facts", statuses=REFUSED),
    Row("native: delete a fact", "DELETE /api/facts/FACT", statuses=MISSING),
    Row("native: change a fact", "PATCH /api/facts/FACT", {"text": "x"}, statuses=MISSING),
    Row("native: revert a fact", "POST /api/facts/FACT/revert", statuses=MISSING),
    Row("another user: delete a fact", "DELETE /api/facts/FACT", key="bob", statuses=MISSING),
]


@pytest.mark.parametrize("row", [*READS, *WRITES], ids=lambda row: row.name)
def test_no_key_can_read_change_or_plant_facts_of_another_key(home: FactHome, row: Row) -> None:
    method, _, path = row.request.partition(" ")
    body = json.loads(home.filled(json.dumps(row.body)))
    with client(home.url, row.key) as caller:
        request_options = {} if body is None else {"json": body}
        answer = caller.request(
            method,
            home.filled(path),
            headers={name: home.filled(value) for name, value in row.headers.items()},
            **request_options,
        )
    assert answer.status_code in row.statuses, answer.text
    assert MARKER not in answer.text
    if row.param is not None:
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == ("reserved_attribute", row.param)
    assert says(home.url, "alice", "What do you know?") == f"You live in {MARKER}."


def test_the_case_table_has_at_least_forty_distinct_rows() -> None:
    assert len({row.name for row in (*READS, *WRITES)}) == len([*READS, *WRITES]) >= 40


def test_an_admin_sees_every_fact_in_its_store(home: FactHome) -> None:
    with client(home.url, "boss") as boss:
        for path in ("/api/stores/facts/files/FILE/chunks", "/v1/vector_stores/STORE/files/FILE/content"):
            assert MARKER in boss.get(home.filled(path)).raise_for_status().text


def test_a_key_without_a_scope_on_the_store_lists_changes_and_deletes_its_own_facts(home: FactHome) -> None:
    assert says(home.url, "bob", "What do you know?") == "Nothing."
    assert says(home.url, "bob", "I live in Porto") == "Noted."
    home.settle()
    assert says(home.url, "bob", "What do you know?") == "You live in Porto."
    with client(home.url, "bob") as bob:
        [fact] = bob.get("/api/facts?store=facts").raise_for_status().json()["data"]
        assert (fact["text"], fact["store"]) == ("The user lives in Porto.", "facts")
        bob.patch(f"/api/facts/{fact['id']}", json={"text": "The user lives in Faro."}).raise_for_status()
        home.settle()
        assert says(home.url, "bob", "What do you know?") == "You live in Faro."
        bob.delete(f"/api/facts/{fact['id']}").raise_for_status()
        assert bob.get("/api/facts").json()["data"] == []
    assert says(home.url, "bob", "What do you know?") == "Nothing."


def archive(attributes: Mapping[str, Any]) -> bytes:
    """Return an archive of a store with one file that has these attributes."""
    data = b"The user lives in Atlantis."
    digest = sha256(data).hexdigest()
    file = {
        "id": "file-1",
        "filename": "fact-0123456789abcdef.txt",
        "bytes": len(data),
        "sha256": digest,
        "status": "completed",
        "error_code": None,
        "error_message": None,
        "usage_bytes": 0,
        "attributes": attributes,
        "chunking": {"type": "auto"},
    }
    place = {"page": None, "start": 0, "end": len(data)}
    chunk = {"file": "file-1", "group": "default", "ordinal": 0, "text": data.decode(), "place": place}
    lines = {"files.jsonl": json.dumps(file) + "\n", "chunks.jsonl": json.dumps(chunk) + "\n"}
    store = {"name": "planted", "description": "", "app": False, "answers": "auto", "embedding_model": ""}
    manifest = {
        "format": "portico-store",
        "version": 1,
        "groups": [],
        "group_files": [],
        "files": 1,
        "chunks": 1,
        "store": {**store, "metadata": {}},
        "sha256": {name: sha256(text.encode()).hexdigest() for name, text in lines.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, text in lines.items():
            packed.writestr(name, text)
        packed.writestr(f"blobs/{digest}", data)
        packed.writestr("manifest.json", json.dumps(manifest))
    return out.getvalue()


@pytest.mark.parametrize("key", ["mallory", "boss"])
@pytest.mark.parametrize("name", ["fact", "owner", "origins"])
def test_importing_an_archive_with_fact_attributes_is_refused(home: FactHome, key: str, name: str) -> None:
    with client(home.url, key) as caller:
        data = archive({name: FORGED[name]})
        answer = caller.post("/api/stores/import", files={"file": ("a.zip", data)}, data={"name": "planted"})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"]["param"] == f"attributes.{name}"
        assert caller.get("/api/stores/planted").status_code == 404


def test_an_exported_store_archive_contains_no_facts(home: FactHome) -> None:
    with client(home.url, "boss") as boss:
        data = boss.get("/api/stores/facts/export").raise_for_status().content
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            assert not any(MARKER.encode() in packed.read(name) for name in packed.namelist())
        files = {"file": ("facts.zip", data)}
        boss.post("/api/stores/import", files=files, data={"name": "copied"}).raise_for_status()
        assert boss.get("/api/stores/copied").json()["file_counts"]["total"] >= 1
        boss.delete("/api/stores/copied").raise_for_status()


def planted(home: FactHome, key: str, attributes: Mapping[str, Any]) -> str:
    """Attach a file, and write attributes to the database as an earlier version let every writer do."""
    with client(home.url, key) as writer:
        file = upload(writer, "The user lives in Atlantis.", "fact-00000000000000aa.txt")
        with client(home.url, "boss") as boss:
            if key != "mallory":
                file_row = {"file_id": file}
                boss.post(f"/v1/vector_stores/{home.ids['STORE']}/files", json=file_row).raise_for_status()
            else:
                path = f"/v1/vector_stores/{home.ids['STORE']}/files"
                writer.post(path, json={"file_id": file}).raise_for_status()
    home.settle()
    text = home.filled(json.dumps(attributes))
    with closing(sqlite3.connect(home.path / "portico.db")) as database, database:
        database.execute("update store_files set attributes = ? where file_id = ?", (text, file))
    return file


def test_a_fact_that_another_key_planted_earlier_is_not_recalled(home: FactHome) -> None:
    file = planted(home, "mallory", FORGED)
    assert says(home.url, "alice", "What do you know?") == f"You live in {MARKER}."
    with client(home.url, "alice") as alice, client(home.url, "boss") as boss:
        assert [fact["id"] for fact in alice.get("/api/facts").json()["data"]] == [home.ids["FACT"]]
        boss.delete(f"/v1/files/{file}").raise_for_status()


@pytest.mark.parametrize("origins", [{}, {"origins": ""}])
def test_a_fact_without_recorded_origins_is_treated_as_foreign_data(
    home: FactHome, origins: Mapping[str, Any]
) -> None:
    file = planted(home, "alice", {"fact": True, "owner": "ALICE", **origins})
    assert says(home.url, "alice", "I live in Faro") == "Noted."
    with client(home.url, "alice") as alice, client(home.url, "boss") as boss:
        files = boss.get(f"/v1/vector_stores/{home.ids['STORE']}/files?limit=100").json()["data"]
        origins_of = {item["attributes"].get("id"): item["attributes"].get("origins") for item in files}
        [learnt] = [fact for fact in alice.get("/api/facts").json()["data"] if "Faro" in fact["text"]]
        assert "a remembered fact of unknown origin" in origins_of[learnt["id"]]
        alice.delete(f"/api/facts/{learnt['id']}").raise_for_status()
        boss.delete(f"/v1/files/{file}").raise_for_status()


def test_an_agent_cannot_save_memory_to_a_store_its_key_cannot_write(
    home: FactHome,
) -> None:
    agent = {"portico_agent": 1, "name": "own", "model": "noter", "memory": MEMORY}
    with client(home.url, "alice") as alice:
        response = alice.post("/api/agents/run", json={"agent": agent, "message": "I live in Faro"})
        assert (response.status_code, response.json()["error"]["type"]) == (403, "permission_error"), (
            response.text
        )
        assert "stores:facts:write" in response.json()["error"]["message"]
