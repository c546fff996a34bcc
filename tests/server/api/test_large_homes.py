"""A call that concerns one object takes no more of the database in a home with many objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.pool import Pool
from tests.api_server import ApiServer, api_server

from portico_server.core.ids import new_id
from portico_server.db import stores
from portico_server.db.names import claim_of
from portico_server.db.stores import StoreRow

STORES = 400
TRIES = 5
"""Number of calls, of which the cheapest counts: others can fall together with other work of the daemon."""


class Instructions:
    """Counts the instructions of SQLite's virtual machine, in tens."""

    def __init__(self) -> None:
        self.count = 0

    def step(self) -> int:
        self.count += 1
        return 0

    def watch(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.set_progress_handler(self.step, 10)


@contextmanager
def count_instructions() -> Iterator[Instructions]:
    """Count the instructions of all connections that are opened within the block."""
    instructions = Instructions()
    event.listen(Pool, "connect", instructions.watch)
    try:
        yield instructions
    finally:
        event.remove(Pool, "connect", instructions.watch)


async def add_stores(server: ApiServer, count: int) -> None:
    def add(connection: Connection) -> None:
        for number in range(count):
            name = f"handbook-{number:04}"
            claim = claim_of(None, name)
            row = StoreRow(new_id("vs_"), name, "", None, None, True, "", {}, None, 0.0, 0.0, claim=claim)
            assert stores.add(connection, row)

    await server.services.database.write(add)


CALLS = [
    ("GET", "/api/status", 200),
    ("GET", "/api/stores?limit=5", 200),
    ("GET", "/api/stores?limit=5&query=handbook-000", 200),
    ("GET", "/api/keys?limit=5", 200),
    ("GET", "/v1/vector_stores?limit=5", 200),
    ("GET", "/v1/vector_stores?limit=5&order=asc", 200),
    ("GET", "/api/stores/handbook-0003", 200),
    ("GET", "/api/tools", 200),
    ("GET", "/api/stores/handbok-0003", 404),
    ("POST", "/api/stores/handbok-0003/search", 404),
    ("POST", "/v1/chat/completions", 404),
]


async def _cost(server: ApiServer, instructions: Instructions, method: str, path: str, status: int) -> int:
    """Return the instructions of a call, in tens."""
    search = {"query": "hi"}
    chat = {"model": "handbok-0003", "messages": [{"role": "user", "content": "hi"}]}
    body = None if method == "GET" else search if "search" in path else chat
    counts = []
    for _ in range(TRIES):
        count_before = instructions.count
        answer = await server.client.request(method, path, json=body)
        assert answer.status_code == status, answer.text
        counts.append(instructions.count - count_before)
    return min(counts)


async def test_a_call_about_one_object_does_not_read_all(tmp_path: Path) -> None:
    for name in ("small", "large"):
        (tmp_path / name).mkdir()
    dear = []
    with count_instructions() as instructions:
        async with api_server(tmp_path / "small") as small, api_server(tmp_path / "large") as large:
            await add_stores(small, STORES // 10)
            await add_stores(large, STORES)
            for method, path, status in CALLS:
                costs = [await _cost(server, instructions, method, path, status) for server in (small, large)]
                if costs[1] > 2 * max(costs[0], 10):
                    dear.append((method, path, costs))
    assert dear == []


async def test_pages_of_vector_stores_contain_each_store_once(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        await add_stores(server, 23)
        for order in ("asc", "desc"):
            whole_list = (
                await server.client.get("/v1/vector_stores", params={"limit": 100, "order": order})
            ).json()
            names = [store["name"] for store in whole_list["data"]]
            ids = [store["id"] for store in whole_list["data"]]
            assert sorted(ids, reverse=order == "desc") == ids
            assert sorted(names) == [f"handbook-{number:04}" for number in range(23)]
            paged: list[str] = []
            cursor: dict[str, str] = {}
            while True:
                parameters = {"limit": "5", "order": order, **cursor}
                page = (await server.client.get("/v1/vector_stores", params=parameters)).json()
                paged += [store["name"] for store in page["data"]]
                if not page["has_more"]:
                    break
                cursor = {"after": page["last_id"]}
            assert paged == names
            last = whole_list["data"][20]["id"]
            back = (
                await server.client.get(
                    "/v1/vector_stores", params={"limit": 4, "order": order, "before": last}
                )
            ).json()
            assert ([store["name"] for store in back["data"]], back["has_more"]) == (names[16:20], True)
        wrong = await server.client.get("/v1/vector_stores", params={"after": "handbook-0003"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


async def test_a_status_names_few_stores_and_counts_all(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        await add_stores(server, 23)
        status = (await server.client.get("/api/status")).json()
        names = [store["name"] for store in status["stores"]]
        assert (names, status["store_count"]) == ([f"handbook-{number:04}" for number in range(3, 23)], 23)
        assert status["apps"] == names
        _row, key = await server.auth.create("reader", ["stores:handbook-0001:read"])
        headers = {"Authorization": f"Bearer {key}"}
        status = (await server.client.get("/api/status", headers=headers)).json()
        assert [store["name"] for store in status["stores"]] == ["handbook-0001"]
        assert status["store_count"] == 1


async def test_names_of_the_status_change_with_the_lists(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        names = (await server.client.get("/api/status")).json()["names"]
        assert (await server.client.get("/api/status")).json()["names"] == names
        await server.client.post("/api/stores", json={"name": "handbook", "app": True})
        assert (await server.client.get("/api/status")).json()["names"] != names


async def test_pages_of_stores_contain_each_store_once(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        await add_stores(server, 23)
        whole_list = (await server.client.get("/api/stores")).json()
        assert (len(whole_list["data"]), whole_list["has_more"]) == (23, False)
        paged_names: list[str] = []
        page = {"has_more": True, "last_id": None}
        while page["has_more"]:
            parameters = {"limit": "5"} | ({"after": page["last_id"]} if page["last_id"] else {})
            page = (await server.client.get("/api/stores", params=parameters)).json()
            paged_names += [store["name"] for store in page["data"]]
        assert paged_names == [store["name"] for store in whole_list["data"]]
        found_page = (await server.client.get("/api/stores", params={"query": "BOOK-002", "limit": 2})).json()
        assert [store["name"] for store in found_page["data"]] == ["handbook-0020", "handbook-0021"]
        assert found_page["has_more"] is True
        assert (await server.client.get("/api/stores", params={"query": "%"})).json()["data"] == []
        wrong = await server.client.get("/api/stores", params={"after": "handbook-0003"})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "after")


TAGGED = ("/api/status", "/v1/models", "/api/apps", "/api/stores", "/api/stores?limit=1")


async def test_an_unchanged_list_is_not_sent_again(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        await add_stores(server, 1)
        tags = {}
        for path in TAGGED:
            answer = await server.client.get(path)
            tags[path] = answer.headers["etag"]
            assert answer.headers["cache-control"] == "private, no-cache"
            for condition in (tags[path], f"W/{tags[path]}", f'"other", {tags[path]}', "*"):
                unchanged_answer = await server.client.get(path, headers={"If-None-Match": condition})
                assert (
                    unchanged_answer.status_code,
                    unchanged_answer.content,
                    unchanged_answer.headers["etag"],
                ) == (304, b"", tags[path])
        await server.client.post("/api/stores", json={"name": "another", "app": True})
        for path in TAGGED:
            answer = await server.client.get(path, headers={"If-None-Match": tags[path]})
            assert answer.status_code == 200, path
        unknown_store = await server.client.get("/api/stores/unknown", headers={"If-None-Match": "*"})
        assert unknown_store.status_code == 404


async def test_a_wrong_name_is_compared_with_the_names_next_to_it(tmp_path: Path) -> None:
    async with api_server(tmp_path) as server:
        await add_stores(server, STORES)
        for path, name in (
            ("/api/stores/handbook-0203x", "handbook-0203"),
            ("/api/stores/handbok-0003", "handbook-0003"),
        ):
            answer = await server.client.get(path)
            assert f"'{name}'" in answer.json()["error"]["message"]
