"""Scopes of stores: by name or by id, a scope opens the same store through every route and protocol, and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx
import pytest
from tests.growth import MCP_HEADERS, MCP_VERSION
from tests.server.api.test_rights import waited

from portico_server.embedded import embedded

KEY: Final = "pk-boss-0123456789"


def mcp(method: str, **params: Any) -> tuple[str, str, dict[str, Any]]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": MCP_VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return "POST", "/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}


SEARCH: Final = {"query": "harbour"}
READS: Final[Mapping[str, tuple[str, str, Any]]] = {
    "list": ("GET", "/api/stores", None),
    "vector stores": ("GET", "/v1/vector_stores", None),
    "store by name": ("GET", "/api/stores/handbook", None),
    "store by id": ("GET", "/api/stores/{id}", None),
    "vector store": ("GET", "/v1/vector_stores/{id}", None),
    "files": ("GET", "/api/stores/handbook/files", None),
    "files of the vector store": ("GET", "/v1/vector_stores/{id}/files", None),
    "content of a file": ("GET", "/v1/vector_stores/{id}/files/{file}/content", None),
    "search by name": ("POST", "/api/stores/handbook/search", SEARCH),
    "search by id": ("POST", "/api/stores/{id}/search", SEARCH),
    "search of several": ("POST", "/api/search", {**SEARCH, "stores": ["handbook", "{id}"]}),
    "search of the vector store": ("POST", "/v1/vector_stores/{id}/search", SEARCH),
    "tools over MCP": mcp("tools/list"),
    "search over MCP": mcp("tools/call", name="search", arguments=SEARCH),
    "search of one store over MCP": mcp("tools/call", name="search_handbook", arguments=SEARCH),
    "resources over MCP": mcp("resources/list"),
    "a file over MCP": mcp("resources/read", uri="portico://stores/handbook/files/tide.txt"),
}

WRITES: Final[Mapping[str, tuple[str, str, Any]]] = {
    "attach": ("POST", "/v1/vector_stores/{id}/files", {"file_id": "{file}"}),
    "detach": ("DELETE", "/v1/vector_stores/{id}/files/{file}", None),
    "rename": ("POST", "/v1/vector_stores/{id}", {"name": "taken"}),
    "delete": ("DELETE", "/api/stores/handbook", None),
    "create": ("POST", "/api/stores", {"name": "another"}),
}


@dataclass(frozen=True, slots=True)
class Shelf:
    """A daemon with a shared store that has a file, and another store with the same file."""

    boss: httpx.Client
    store: str
    other: str
    file: str

    def request(self, scope: str, method: str, path: str, body: Any) -> httpx.Response:
        """Send a request with a new key that has one scope."""
        scope, path, body = json.loads(
            json.dumps([scope, path, body]).replace("{id}", self.store).replace("{file}", self.file)
        )
        key = (
            self.boss.post("/api/keys", json={"name": "reader", "scopes": [scope]}).raise_for_status().json()
        )
        headers = {"authorization": f"Bearer {key['key']}"}
        if path == "/mcp":
            params = body["params"]
            headers |= {**MCP_HEADERS, "mcp-method": body["method"]}
            headers |= {"mcp-name": name} if (name := params.get("name") or params.get("uri")) else {}
        return self.boss.request(method, path, json=body, headers=headers)


@pytest.fixture(scope="module")
def shelf() -> Iterator[Shelf]:
    stores = [{"name": name, "embedding_model": ""} for name in ("handbook", "other")]
    keys = [{"name": "boss", "key": KEY, "scopes": ["admin"]}]
    with (
        embedded({"keys": keys, "stores": stores}) as url,
        httpx.Client(base_url=url, timeout=60, headers={"authorization": f"Bearer {KEY}"}) as boss,
    ):
        form = {
            "files": {"file": ("tide.txt", b"The harbour opens at six.")},
            "data": {"purpose": "assistants"},
        }
        file = boss.post("/v1/files", **form).raise_for_status().json()["id"]  # type: ignore[arg-type]
        ids = []
        for store in ("handbook", "other"):
            ids.append(boss.get(f"/api/stores/{store}").json()["id"])
            boss.post(f"/v1/vector_stores/{ids[-1]}/files", json={"file_id": file}).raise_for_status()
            waited(boss, store)
        yield Shelf(boss, ids[0], ids[1], file)


@pytest.mark.slow
def test_a_scope_by_id_reads_what_a_scope_by_name_reads(shelf: Shelf) -> None:
    for name, request in READS.items():
        by_name = shelf.request("stores:handbook:read", *request)
        by_id = shelf.request("stores:{id}:read", *request)
        assert by_name.status_code == by_id.status_code == 200, (name, by_id.text)
        assert stable(by_id.json()) == stable(by_name.json()), name
        assert any(text in by_id.text for text in ("handbook", "harbour", "tide.txt")), (name, by_id.text)
        assert not any(text in by_id.text for text in ('"isError":true', '"error":{')), (name, by_id.text)
        assert shelf.other not in by_id.text and '"name":"other"' not in by_id.text, name


def test_a_scope_by_id_opens_no_other_store_and_no_other_operation(shelf: Shelf) -> None:
    for name, (method, path, body) in READS.items():
        elsewhere = json.loads(
            json.dumps([path, body]).replace("{id}", shelf.other).replace("handbook", "other")
        )
        answer = shelf.request("stores:{id}:read", method, *elsewhere)
        assert "harbour opens" not in answer.text, (name, answer.text)
    for name, request in WRITES.items():
        answer = shelf.request("stores:{id}:read", *request)
        assert answer.status_code == 403, (name, answer.text)
    answer = shelf.request("stores:{id}:manage", "DELETE", "/api/stores/handbook", None)
    assert answer.is_success, answer.text


def stable(value: Any) -> Any:
    """Return a JSON value without the members that differ between two equal requests."""
    if isinstance(value, dict):
        names = value.keys() - {"took_ms", "run", "created", "expires_at", "last_active_at"}
        return {name: stable(value[name]) for name in sorted(names)}
    return [stable(item) for item in value] if isinstance(value, list) else value
