"""One name for two kinds of things: the database refuses the second, whichever daemon it comes from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import permutations
from pathlib import Path

import httpx
import pytest
from tests.api_server import ApiServer, api_server

from portico_server.apps.deployed import AppKind

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
    async with api_server(tmp_path, api_key="pk-of-the-operator") as one:
        await model(one, "base", ADMIN)
        async with api_server(tmp_path, api_key="pk-of-the-operator") as other:
            await model(other, "base", ADMIN)
            for daemon in (one, other):
                daemon.services.apps.kind(
                    "flow", AppKind(daemon.services.flows.check, daemon.services.flows.build)
                )
            yield one, other


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda make: make.__name__)
async def test_two_daemons_do_not_give_one_name_to_two_kinds(
    two: tuple[ApiServer, ApiServer], first: Make, second: Make
) -> None:
    one, other = two
    made = await first(one, "thing", ADMIN)
    assert made.status_code < 300, made.text
    refused = await second(other, "thing", ADMIN)
    assert refused.status_code == 409, refused.text
    assert refused.json()["error"]["code"] == "name_taken"
    assert (await second(other, "another", ADMIN)).status_code < 300
    both = await asyncio.gather(first(one, "at-once", ADMIN), second(other, "at-once", ADMIN))
    assert sorted(answer.status_code < 300 for answer in both) == [False, True], [each.text for each in both]


@pytest.mark.parametrize("make", [app, store])
async def test_a_key_cannot_take_a_name_shared_by_another_daemon(
    two: tuple[ApiServer, ApiServer], make: Make
) -> None:
    one, other = two
    _row, secret = await other.auth.create("k", ("chat", "apps:*:deploy", "stores:*:manage"))
    key = {"authorization": f"Bearer {secret}"}
    for kind in KINDS:
        name = f"shared-{kind.__name__}"
        assert (await kind(one, name, ADMIN)).status_code < 300
        refused = await make(other, name, key)
        assert refused.status_code == 409, (name, refused.text)
        assert refused.json()["error"]["code"] == "name_taken"
        own = await make(other, f"own-{kind.__name__}", key)
        assert own.status_code < 300, own.text
        beside = await kind(one, f"own-{kind.__name__}", ADMIN)
        assert beside.status_code < 300, "the operator may share a name that some key has"


async def test_the_store_of_a_key_stays_editable_after_its_name_is_shared(
    two: tuple[ApiServer, ApiServer],
) -> None:
    one, other = two
    _row, secret = await other.auth.create("k", ("chat", "stores:*:manage"))
    key = {"authorization": f"Bearer {secret}"}
    made = (await store(other, "thing", key)).json()["id"]
    assert (await store(one, "thing", ADMIN)).status_code < 300
    changed = await other.client.patch(f"/api/stores/{made}", json={"description": "mine"}, headers=key)
    assert changed.status_code == 200, changed.text
    assert (changed.json()["name"], changed.json()["description"]) == ("thing", "mine")
