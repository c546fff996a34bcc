"""Rights from a source: no key receives a byte of a file that the source shows only to other groups.

A folder has a file for each of three groups. Each key is in one group and calls every route and every protocol.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.growth import MCP_HEADERS
from tests.server.api.test_rights import (
    CALLS,
    CONFIGURATION,
    NEEDLE,
    REVEALING,
    SCOPES,
    SharedStores,
    crawled,
    waited,
)
from tests.server.api.test_withheld import asked
from tests.server.features.sources.webdav_server import grant, serving

from portico_server.embedded import embedded

MARKERS = {"sales": "zirconquartz", "board": "opalgranite", "lab": "topazbasalt"}
KEYS = {name: f"pk-{name}-0123456789" for name in (*MARKERS, "boss")}


class _Groups(SharedStores):
    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {KEYS[key]}"}, timeout=60)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("shared")
    for group, marker in MARKERS.items():
        (folder / group).mkdir()
        (folder / group / f"{marker}.md").write_text(f"# {marker}\n\nThe {NEEDLE} is {marker}.")
    rights = {f"{group}/": [group] for group in MARKERS}
    keys: list[dict[str, Any]] = [
        {"name": name, "key": KEYS[name], "scopes": SCOPES, "groups": [name]} for name in MARKERS
    ]
    keys.append({"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]})
    store = {
        "name": "handbook",
        "folder": str(folder),
        "rights": rights,
        "embedding_model": "",
        "links": True,
    }
    replies = [
        {
            "match": f"^{text} for {key}",
            "times": 1,
            "tool_calls": [{"name": tool, "arguments": {"query": NEEDLE}}],
        }
        for text, tool in CALLS.items()
        for key in KEYS
    ]
    models = [
        {"name": "echo", "source": "fake://", "aliases": ["default"]},
        {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": replies}}},
    ]
    with embedded({**CONFIGURATION, "models": models, "keys": keys, "stores": [store]}) as url:
        yield url


def daemon_for(url: str, group: str) -> _Groups:
    """Return the daemon with the ids of the files of ``group`` and of two other groups."""
    with _Groups(url, "", "", "", "", "").client("boss") as boss:
        store = boss.get("/api/stores/handbook").raise_for_status().json()["id"]
        waited(boss, store)
        files = {
            row["filename"].partition("/")[0]: row["id"]
            for row in boss.get(f"/api/stores/{store}/files").json()["data"]
        }
    own_file = files.pop(group)
    hidden, other_file = files.values()
    return _Groups(url, store, own_file, hidden, other_file, "vsfb_00000000")


def answers(daemon: _Groups, key: str) -> Iterator[tuple[str, str, httpx.Response]]:
    """Yield every route that reads, and the requests of the other protocols."""
    placeholders = {"STORE": daemon.store, "VISIBLE": daemon.visible, "HIDDEN": daemon.hidden}
    with daemon.client(key) as client:
        for method, path, body in asked(client.get("/openapi.json").json()):
            text = json.dumps([path, body])
            for word, name in placeholders.items():
                text = text.replace(word, name)
            address, value = json.loads(text)
            headers = {**MCP_HEADERS, "a2a-version": "1.0"} if address.startswith(("/mcp", "/a2a")) else {}
            if isinstance(value, dict) and "jsonrpc" in value:
                headers["mcp-method"] = value["method"]
                if naming := value["params"].get("name") or value["params"].get("uri"):
                    headers["mcp-name"] = naming
            yield f"{method} {path}", text, client.request(method, address, headers=headers, json=value)
    yield from crawled(daemon, key, ("GET", "POST"))


@pytest.mark.slow
@pytest.mark.parametrize("key", MARKERS)
def test_no_route_shows_a_key_a_file_of_other_groups(url: str, key: str) -> None:
    daemon = daemon_for(url, key)
    foreign = [marker for group, marker in MARKERS.items() if group != key]
    leaks, revealing = [], set()
    for route, request_text, answer in answers(daemon, key):
        assert answer.status_code < 500, (route, request_text, answer.text[:500])
        if any(marker in answer.text and marker not in request_text for marker in foreign):
            leaks.append((route, request_text, answer.text[:300]))
        if MARKERS[key] in answer.text:
            revealing.add(route)
    assert leaks == []
    assert REVEALING - revealing == {"GET /v1/vector_stores/{store}/file_batches/{batch_id}/files"}
    with daemon.client(key) as client:
        store = client.get("/api/stores/handbook").json()
    assert store["file_counts"]["total"] == 1
    assert (store["folder"], store["rights"]) == (None, None)


@pytest.mark.parametrize(
    ("key", "marker", "permitted", "rule", "reason"),
    [
        (None, "sales", True, "admin", "An admin reads every file."),
        ("sales", "sales", True, "source", "The source lets the groups of the key read the file."),
        ("sales", "board", False, "source", "The key needs one of these groups: board."),
    ],
)
def test_an_admin_sees_which_rule_decides(
    url: str, key: str | None, marker: str, permitted: bool, rule: str, reason: str
) -> None:
    daemon = daemon_for(url, marker)
    path = f"/api/stores/handbook/files/{daemon.visible}/access"
    with daemon.client("boss") as boss:
        answer = boss.get(path, params={} if key is None else {"key": key}).raise_for_status().json()
        assert boss.get(path, params={"key": "stranger"}).status_code == 404
    assert (answer["permitted"], answer["rule"], answer["reason"]) == (permitted, rule, reason)
    assert (answer["readers"], answer["source"]) == (
        [[marker]],
        [{"place": f"{marker}/", "groups": [marker], "names": []}],
    )
    with daemon.client("sales") as client:
        assert client.get(path).status_code == 403


def test_a_key_removed_from_a_group_loses_access_to_its_files(url: str) -> None:
    daemon = daemon_for(url, "sales")
    with daemon.client("boss") as boss:
        body = {"name": "made", "scopes": ["stores:*:read"], "groups": ["sales", "lab"]}
        key = boss.post("/api/keys", json=body).raise_for_status().json()
        assert key["groups"] == ["sales", "lab"]
        with httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key['key']}"}, timeout=60
        ) as client:
            for groups in (["sales", "lab"], ["lab"], []):
                boss.patch(f"/api/keys/{key['id']}", json={"groups": groups}).raise_for_status()
                passages = client.post("/api/stores/handbook/search", json={"query": NEEDLE}).json()["data"]
                assert {passage["filename"].partition("/")[0] for passage in passages} == set(groups)


@pytest.mark.slow
def test_a_webdav_folder_shows_each_key_only_files_permitted_by_its_acls(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for group, marker in MARKERS.items():
            server.write(**{f"{group}_md": f"The {NEEDLE} is {marker}."})
            server.acls[f"/dav/{group}.md"] = grant(f"/principals/groups/of-{group}")
        rights = {"source": {"of-sales": ["sales"], "of-board": ["board", "sales"]}}
        store = {"name": "handbook", "source": server.source, "rights": rights, "embedding_model": ""}
        keys = [
            {"name": name, "key": KEYS[name], "scopes": SCOPES, "groups": [name, f"of-{name}"]}
            for name in MARKERS
        ]
        keys.append({"name": "boss", "key": KEYS["boss"], "scopes": ["admin"]})
        configuration = {"settings": {"tool_hosts": server.host}, "stores": [store], "keys": keys}
        visible_markers = {}
        with embedded(configuration) as url:
            daemon = _Groups(url, "", "", "", "", "")
            with daemon.client("boss") as boss:
                waited(boss, "handbook")
            for name in MARKERS:
                with daemon.client(name) as client:
                    answer = client.post("/api/stores/handbook/search", json={"query": NEEDLE})
                visible_markers[name] = {marker for marker in MARKERS.values() if marker in answer.text}
    sales, board, _lab = MARKERS.values()
    assert visible_markers == {"sales": {sales, board}, "board": {board}, "lab": set()}, (
        "lab has only an unmapped name"
    )
