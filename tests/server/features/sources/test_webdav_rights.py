"""The rights of WebDAV folders: access control lists (RFC 3744) as sets of groups, and a store that adopts them.

The entries have the form of answers of SabreDAV 4.7.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree
from tests.server.features.sources.test_rights import caller, seen
from tests.server.features.sources.webdav_server import WebDavServer, grant, serving
from tests.server.features.stores.store_services import store_services

from portico.wire import Progressed
from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL
from portico_server.features.sources import webdav, webdav_rights
from portico_server.features.sources.webdav_rights import readers_of
from portico_server.features.stores.access import explain

STAFF, ADA = "/principals/groups/staff", "/principals/users/ada"
ALL, OWNER = "<d:all/>", "<d:property><d:owner/></d:property>"
STAFF_GRANT = grant(STAFF)


def readers(acl: str, properties: str = "") -> list[list[str]] | None:
    prop = f'<d:prop xmlns:d="DAV:" xmlns:x="urn:x"><d:acl>{acl}</d:acl>{properties}</d:prop>'
    return readers_of(etree.fromstring(prop), "files.example")


@pytest.mark.parametrize(
    ("acl", "sets"),
    [
        pytest.param("", [[]], id="empty"),
        pytest.param(STAFF_GRANT, [["staff"]], id="group"),
        pytest.param(grant(f"{ADA}/"), [["user:ada"]], id="user"),
        pytest.param(grant("/principals/ada/"), [["user:ada"]], id="user of SabreDAV"),
        pytest.param(grant("/remote.php/dav/principals/circles/ada"), [[]], id="unknown kind of principal"),
        pytest.param(grant("/principals/groups/"), [[]], id="a collection of principals"),
        pytest.param(grant("/principals/groups/*"), [[]], id="a group named as everybody"),
        pytest.param(grant("/principals/groups/user%3Aada"), [[]], id="a group named as a user"),
        pytest.param(grant("/principals/groups/R%26D%20%E9%9B%AA"), [["R&D 雪"]], id="escaped"),
        pytest.param(grant("http://files.example" + STAFF), [["staff"]], id="absolute"),
        pytest.param(grant("http://other.example" + STAFF), [[]], id="principal of another server"),
        pytest.param(grant("http://[" + STAFF), [[]], id="invalid address"),
        pytest.param(grant(ALL), [], id="everybody"),
        pytest.param(grant("<d:authenticated/>"), [], id="everybody with a login"),
        pytest.param(grant("<d:unauthenticated/>"), [[]], id="callers without a login"),
        pytest.param(grant("<d:self/>"), [[]], id="self"),
        pytest.param(grant(OWNER), [["user:ada"]], id="owner"),
        pytest.param(grant("/{DAV:}owner/"), [["user:ada"]], id="owner in SabreDAV 4.7.1"),
        pytest.param(grant("<d:property><d:group/></d:property>"), [["staff"]], id="group of the file"),
        pytest.param(grant("<d:property><x:readers/></d:property>"), [[]], id="another property"),
        pytest.param(grant(STAFF, "all"), [["staff"]], id="all privileges"),
        pytest.param(grant(STAFF, "write"), [[]], id="only to write"),
        pytest.param(grant(STAFF, more="<d:protected/>"), [["staff"]], id="protected"),
        pytest.param(
            grant(STAFF, more="<d:inherited><d:href>/dav/</d:href></d:inherited>"),
            [["staff"]],
            id="inherited",
        ),
        pytest.param(
            f"<d:ace><d:invert><d:principal><d:href>{ADA}</d:href></d:principal></d:invert><d:grant>"
            "<d:privilege><d:read/></d:privilege></d:grant></d:ace>",
            [[]],
            id="everybody except a user",
        ),
        pytest.param(STAFF_GRANT + grant(ADA), [["staff", "user:ada"]], id="two"),
        pytest.param(
            STAFF_GRANT + grant(ADA, action="deny") + grant(ALL), [["staff"]], id="deny ends the list"
        ),
        pytest.param(grant(ADA, "all", "deny") + STAFF_GRANT, [[]], id="deny all first"),
        pytest.param(grant(ADA, "write", "deny") + STAFF_GRANT, [["staff"]], id="deny to write"),
        pytest.param(grant(ADA, "unknown", "deny") + STAFF_GRANT, [[]], id="deny an unknown privilege"),
        pytest.param(
            f"<d:ace><d:principal>{ALL}</d:principal><d:deny/></d:ace>{STAFF_GRANT}", [[]], id="deny nothing"
        ),
        pytest.param(STAFF_GRANT * webdav_rights.MAX_ACES, [["staff"]], id="longest list"),
        pytest.param(STAFF_GRANT * (webdav_rights.MAX_ACES + 1), None, id="too long"),
    ],
)
def test_an_access_control_list_becomes_a_set_of_groups(acl: str, sets: list[list[str]] | None) -> None:
    properties = (
        f"<d:owner><d:href>{ADA}</d:href></d:owner><d:group><d:href>{STAFF}</d:href></d:group>"
        "<x:readers><d:href>/principals/groups/boats</d:href></x:readers>"
    )
    assert readers(acl, properties) == sets


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebDavServer]:
    with serving(tmp_path / "shared") as server:
        server.write(open_md="The harbour opens at six.", sales__prices_md="The harbour costs 40 crowns.")
        server.acls = {
            "/dav/open.md": grant("<d:authenticated/>"),
            "/dav/sales/": grant(ADA, "all"),
            "/dav/sales/prices.md": STAFF_GRANT,
        }
        yield server


async def test_a_store_adopts_webdav_access_lists_and_their_changes(
    tmp_path: Path, server: WebDavServer
) -> None:
    both_names = {"open.md", "sales/prices.md"}
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("handbook", LOCAL, source=server.source, rights="source")
        await shop.sync(store)
        assert await seen(shop, store, caller("staff")) == both_names
        assert await seen(shop, store, caller("user:ada")) == {
            "open.md"
        }  # the list of the folder does not count
        server.acls["/dav/sales/prices.md"] = (
            f"{grant(OWNER)}</d:acl><d:owner><d:href>{ADA}</d:href></d:owner>"
        )
        result = await shop.sync(store)
        assert (result["changed"], result["unchanged"]) == (0, 2)
        assert await seen(shop, store, caller("staff")) == {"open.md"}
        assert await seen(shop, store, caller("user:ada")) == both_names
        store = await shop.stores.update(store.id, LOCAL, {"rights": {"source": {"user:ada": ["captains"]}}})
        await shop.sync(store)
        assert await seen(shop, store, caller("captains")) == both_names
        assert await seen(shop, store, caller("user:ada")) == {"open.md"}


async def test_a_file_without_a_readable_access_list_is_withheld_and_reported(
    tmp_path: Path, server: WebDavServer
) -> None:
    del server.acls["/dav/open.md"]
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("handbook", LOCAL, source=server.source, rights="source")
        events = await shop.events(await shop.stores.sync(store))
        messages = [event.message for event in events if isinstance(event, Progressed)]
        assert any("does not state who may read 1 of 2 files" in message for message in messages), messages
        assert any("DAV:read-acl" in message for message in messages)
        assert await seen(shop, store, caller("staff")) == {"sales/prices.md"}
        view = await shop.stores.get(store.id, LOCAL)
        [row] = [row for row in (await shop.stores.contents.list(view)).data if row.filename == "open.md"]
        access = await explain(view, row, caller("staff"))
        assert (access.permitted, access.rule, access.readers) == (False, "source", None)
        assert "DAV:read-acl" in access.reason


async def test_rights_with_too_many_names_stop_the_sync(
    tmp_path: Path, server: WebDavServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdav, "MAX_READERS", 0)
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("handbook", LOCAL, source=server.source, rights="source")
        with pytest.raises(InvalidRequest, match="more than 0 users and groups in its rights"):
            await shop.stores.plan(store)
        store = await shop.stores.update(store.id, LOCAL, {"rights": "off"})
        assert (await shop.stores.plan(store)).added == ("open.md", "sales/prices.md")
