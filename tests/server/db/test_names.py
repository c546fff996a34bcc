"""One name for two kinds of things: the database refuses the second, whichever daemon it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import permutations
from pathlib import Path

import httpx
import pytest
from tests.api_server import ApiServer, api_server

ADMIN = {"authorization": "Bearer pk-of-the-operator"}
FLOW = {"portico_flow": 1, "step": {"op": "emit", "name": "e"}}

Make = Callable[[ApiServer, str, dict[str, str]], Awaitable[httpx.Response]]


async def app(daemon: ApiServer, name: str, who: dict[str, str]) -> httpx.Response:
    return await daemon.client.post("/api/apps", json={"name": name, "spec": FLOW}, headers=who)


async def store(daemon: ApiServer, name: str, who: dict[str, str]) -> httpx.Response:
    return await daemon.client.post("/api/stores", json={"name": name, "app": True}, headers=who)


async def model(daemon: ApiServer, name: str, who: dict[str, str]) -> httpx.Response:
    body = {"name": name, "source": "fake://"}
    return await daemon.client.post("/api/deployments", json=body, headers=who)


async def alias(daemon: ApiServer, name: str, who: dict[str, str]) -> httpx.Response:
    return await daemon.client.put(f"/api/aliases/{name}", json={"target": "base"}, headers=who)


KINDS: tuple[Make, ...] = (app, store, model, alias)
PAIRS = [pair for pair in permutations(KINDS, 2) if {app, store} & set(pair)]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, ApiServer]]:
    """Two daemons on one database, neither of which learns the other's names."""
    async with api_server(tmp_path, api_key="pk-of-the-operator") as first_daemon:
        await model(first_daemon, "base", ADMIN)
        async with api_server(tmp_path, api_key="pk-of-the-operator") as second_daemon:
            await model(second_daemon, "base", ADMIN)
            yield first_daemon, second_daemon


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda make: make.__name__)
async def test_two_daemons_do_not_give_one_name_to_two_kinds(
    two: tuple[ApiServer, ApiServer], first: Make, second: Make
) -> None:
    first_daemon, second_daemon = two
    first_response = await first(first_daemon, "thing", ADMIN)
    assert first_response.status_code < 300, first_response.text
    refusal = await second(second_daemon, "thing", ADMIN)
    assert refusal.status_code == 409, refusal.text
    assert refusal.json()["error"]["code"] == "name_taken"
    assert (await second(second_daemon, "another", ADMIN)).status_code < 300
    responses = await asyncio.gather(
        first(first_daemon, "at-once", ADMIN), second(second_daemon, "at-once", ADMIN)
    )
    assert sorted(answer.status_code < 300 for answer in responses) == [False, True], [
        response.text for response in responses
    ]


@pytest.mark.parametrize("make", [app, store])
async def test_a_key_cannot_take_a_name_shared_by_another_daemon(
    two: tuple[ApiServer, ApiServer], make: Make
) -> None:
    first_daemon, second_daemon = two
    _row, secret = await second_daemon.auth.create("k", ("chat", "apps:*:deploy", "stores:*:manage"))
    key = {"authorization": f"Bearer {secret}"}
    for kind in KINDS:
        name = f"shared-{kind.__name__}"
        assert (await kind(first_daemon, name, ADMIN)).status_code < 300
        refusal = await make(second_daemon, name, key)
        assert refusal.status_code == 409, (name, refusal.text)
        assert refusal.json()["error"]["code"] == "name_taken"
        own_response = await make(second_daemon, f"own-{kind.__name__}", key)
        assert own_response.status_code < 300, own_response.text
        beside = await kind(first_daemon, f"own-{kind.__name__}", ADMIN)
        assert beside.status_code < 300, "the operator may share a name that some key has"


async def test_the_store_of_a_key_stays_editable_after_its_name_is_shared(
    two: tuple[ApiServer, ApiServer],
) -> None:
    first_daemon, second_daemon = two
    _row, secret = await second_daemon.auth.create("k", ("chat", "stores:*:manage"))
    key = {"authorization": f"Bearer {secret}"}
    store_id = (await store(second_daemon, "thing", key)).json()["id"]
    assert (await store(first_daemon, "thing", ADMIN)).status_code < 300
    response = await second_daemon.client.patch(
        f"/api/stores/{store_id}", json={"description": "mine"}, headers=key
    )
    assert response.status_code == 200, response.text
    assert (response.json()["name"], response.json()["description"]) == ("thing", "mine")
