"""Watched files: clients are notified when the files change, unless they may not read them."""

from __future__ import annotations

import asyncio
from typing import Any

import mcp_types as types
import pytest
from mcp.shared.exceptions import MCPError
from tests.mcp_service import Service
from tests.server.features.mcp.conftest import Connect, Era

from portico_server.features.mcp import changes
from portico_server.features.mcp.resources import uri_of

GUIDE = uri_of("docs", "guide.md")
COMING = uri_of("docs", "coming.md")
SECRET = uri_of("secret", "x.txt")

# In the era of sessions, this is the only way to watch a file.
pytestmark = pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")


async def test_a_subscribed_client_is_notified_when_the_file_changes(
    connect: Connect, service: Service, era: Era
) -> None:
    uris: set[str] = set()

    async def note(message: Any) -> None:
        if isinstance(message, types.ResourceUpdatedNotification):
            uris.add(message.params.uri)

    async with asyncio.timeout(60), connect(message_handler=note) as client:
        resources = client.server_capabilities.resources
        assert resources is not None and resources.subscribe
        if era == "legacy":
            await client.subscribe_resource(GUIDE)
            await client.subscribe_resource(COMING)
            number = 0
            while (
                not {GUIDE, COMING} <= uris
            ):  # messages sent before the standing stream opens are lost by design
                number += 1
                service.shelves.write("docs", "guide.md", b"%d" % number)
                service.shelves.write("docs", "coming.md", b"%d" % number)
                await client.list_tools(cache_mode="bypass")
            await client.unsubscribe_resource(GUIDE)
            uris.clear()
            while COMING not in uris:
                number += 1
                service.shelves.write("docs", "guide.md", b"%d" % number)
                service.shelves.write("docs", "coming.md", b"%d" % number)
                await client.list_tools(cache_mode="bypass")
            assert uris == {COMING}
        else:
            async with client.listen(resource_subscriptions=[GUIDE, COMING]) as changes:
                service.shelves.write("docs", "other.md", b"x")
                service.shelves.write("docs", "guide.md", b"Port 7420.")
                assert getattr(await anext(changes), "uri", None) == GUIDE
                service.shelves.write("docs", "coming.md", b"Here.")
                assert getattr(await anext(changes), "uri", None) == COMING


async def test_new_files_change_the_list_of_resources(connect: Connect, service: Service, era: Era) -> None:
    notification = asyncio.Event()

    async def note(message: Any) -> None:
        if isinstance(message, types.ResourceListChangedNotification):
            notification.set()

    async with asyncio.timeout(60), connect(message_handler=note) as client:
        if era == "legacy":
            while not notification.is_set():
                service.shelves.write("docs", "new.md", b"x")
                await client.list_tools(cache_mode="bypass")
        else:
            async with client.listen(resources_list_changed=True) as changes:
                service.shelves.write("docs", "new.md", b"x")
                assert type(await anext(changes)).__name__ == "ResourcesListChanged"


@pytest.mark.parametrize("uri", [SECRET, "file:///etc/passwd"])
async def test_a_subscription_to_an_unreadable_file_is_refused(connect: Connect, era: Era, uri: str) -> None:
    async with asyncio.timeout(60), connect("reader") as client:
        if era == "legacy":
            with pytest.raises(MCPError) as caught:
                await client.subscribe_resource(uri)
            assert caught.value.code == types.INVALID_PARAMS
        else:
            async with client.listen(resource_subscriptions=[uri, GUIDE]) as changes:
                assert changes.honored.resource_subscriptions == [GUIDE]


async def test_an_endpoint_for_one_store_refuses_subscriptions_to_other_stores(
    connect: Connect, era: Era
) -> None:
    async with asyncio.timeout(60), connect(below="/stores/docs") as client:
        if era == "legacy":
            with pytest.raises(MCPError, match="not visible at this endpoint"):
                await client.subscribe_resource(SECRET)
            await client.subscribe_resource(GUIDE)
        else:
            async with client.listen(resource_subscriptions=[SECRET, GUIDE]) as changes:
                assert changes.honored.resource_subscriptions == [GUIDE]


@pytest.mark.parametrize("era", ["2026-07-28"])
async def test_notification_streams_of_one_key_are_limited(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "MAX_STREAMS_PER_KEY", 2)
    async with (
        asyncio.timeout(60),
        connect("reader") as greedy,
        connect("other") as modest,
        greedy.listen(resources_list_changed=True),
        greedy.listen(resources_list_changed=True),
    ):
        with pytest.raises(MCPError, match="has the maximum of 2 notification streams open"):
            async with greedy.listen(resources_list_changed=True):
                pass
        async with modest.listen(resources_list_changed=True) as subscription:
            assert subscription.honored.resources_list_changed
