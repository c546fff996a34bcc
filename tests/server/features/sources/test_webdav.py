"""A store that follows a folder on a WebDAV server."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.server.features.sources.webdav_server import WebDavServer, multistatus, serving
from tests.server.features.stores.store_services import store_services

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.principal import LOCAL
from portico_server.features.sources import spec, webdav


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WebDavServer]:
    with serving(tmp_path / "shared") as server:
        yield server


async def test_a_folder_is_mirrored_and_only_what_changed_is_fetched(
    tmp_path: Path, server: WebDavServer
) -> None:
    server.write(
        port_md="The lighthouse listens on port 7419.",
        rules__harbour_md="The harbour opens at six.",
        _hidden_md="Hidden.",
    )
    (server.folder / "rules" / "雪 莲&50%#a.txt").write_text("雪莲花生长在高山。", encoding="utf-8")
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        result = await shop.sync(store)
        assert (result["added"], result["indexed"], result["failed"]) == (3, 3, 0), result
        names = {row.filename for row in await shop.settled(store)}
        assert names == {"port.md", "rules/harbour.md", "rules/雪 莲&50%#a.txt"}
        assert (await shop.search(store, "Which port?")).passages[0].filename == "port.md"
        assert "雪莲花" in (await shop.search(store, "雪莲花")).passages[0].text

        server.taken()
        assert (await shop.sync(store))["unchanged"] == 3
        assert server.taken() == []

        server.write(port_md="The lighthouse listens on port 80 and no other.", rules__harbour_md=None)
        plan = await shop.stores.plan(store)
        assert (plan.changed, plan.removed) == (("port.md",), ("rules/harbour.md",))
        result = await shop.sync(store)
        assert (result["changed"], result["removed"]) == (1, 1)
        assert server.taken() == ["/dav/port.md"]

        store = await shop.stores.update(store.id, LOCAL, {"keep_removed": True})
        server.write(port_md=None)
        assert (await shop.sync(store))["removed"] == 0
        await shop.stores.update(store.id, LOCAL, {"source": f"{server.source}rules"})
        await shop.sync(store)
        assert "雪 莲&50%#a.txt" in {row.filename for row in await shop.settled(store)}


async def test_a_login_is_sent_to_its_host_alone_and_shown_nowhere(tmp_path: Path) -> None:
    with serving(tmp_path / "shared", "ada:word-1234") as server, serving(tmp_path / "other") as other_server:
        server.write(a_md="The harbour.")
        logins = f"example.com=ada:other,{server.host}=ada:word-1234"
        async with store_services(tmp_path / "one", tool_hosts=server.host) as shop:
            store = await shop.stores.create("manual", LOCAL, source=server.source)
            with pytest.raises(
                Unavailable, match=r"set or check source_logins, as 127\.0\.0\.1:\d+=USER:PASSWORD"
            ):
                await shop.stores.plan(store)
        hosts = f"{server.host},{other_server.host}"
        async with store_services(tmp_path / "two", tool_hosts=hosts, source_logins=logins) as shop:
            store = await shop.stores.create("manual", LOCAL, source=server.source)
            assert (await shop.sync(store))["added"] == 1
            home = tmp_path / "two"
            assert not any(b"word-1234" in path.read_bytes() for path in home.rglob("*") if path.is_file())
            server.instead["/dav/"] = ("302 Found", [("Location", other_server.url)], b"")
            with pytest.raises(Unavailable, match=r"it redirects to http.*: follow that address"):
                await shop.stores.plan(store)
        async with store_services(tmp_path / "three", source_logins="dav.example.com=ada:word-1234") as shop:
            store = await shop.stores.create("manual", LOCAL, source="webdav+http://dav.example.com/docs")
            with pytest.raises(InvalidRequest, match="is not encrypted"):
                await shop.stores.plan(store)


async def test_paths_outside_the_listed_folder_are_skipped(tmp_path: Path, server: WebDavServer) -> None:
    server.write(a_md="The harbour.", inner__b_md="The boats.")
    (tmp_path / "secret.md").write_text("Secret.", encoding="utf-8")
    server.instead["/dav/inner/"] = multistatus(
        "/dav/inner/",
        "b.md",
        "/dav/inner/b.md",
        "/dav/a.md",
        "/dav/inner/../../secret.md",
        "/dav/inner/%2e%2e/%2e%2e/secret.md",
        "/dav/inner/..%2fa.md",
        "/dav/inner/%5c..%5ca.md",
        "http://127.0.0.1:1/dav/inner/c.md",
        "http://[/dav/inner/d.md",
        "/dav/",
        "/dav/inner/deep/er/e.md",
    )
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        result = await shop.sync(store)
        assert result["added"] == 2, result
        assert {row.filename for row in await shop.settled(store)} == {"a.md", "inner/b.md"}
        assert not any("secret" in path for _method, path in server.asked)


async def test_files_in_an_inaccessible_folder_stay_indexed(tmp_path: Path, server: WebDavServer) -> None:
    server.write(a_md="The harbour.", inner__b_md="The boats.")
    async with store_services(tmp_path / "home", tool_hosts=server.host, source_max_files=2) as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        await shop.sync(store)
        server.instead["/dav/inner/"] = ("403 Forbidden", [], b"")
        plan = await shop.stores.plan(store)
        assert (plan.removed, plan.skipped) == ((), {"not permitted": 1})
        server.instead.clear()
        server.write(c_md="The nets.")
        with pytest.raises(InvalidRequest, match="more than 2 files"):
            await shop.stores.plan(store)
        assert len(await shop.settled(store)) == 2


ENTITIES = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("200 OK", [("Content-Type", "text/html")], b"<p>Welcome"), "that address does not support WebDAV"),
        (("405 Method Not Allowed", [], b""), "that address does not support WebDAV"),
        (("503 Service Unavailable", [], b""), "answers 503"),
        (("207 Multi-Status", [], b"<multistatus xmlns='DAV:'><resp"), "the response is not XML"),
        (("207 Multi-Status", [], b"<a/>"), "the response lists no resources"),
        (
            ("207 Multi-Status", [], ENTITIES + multistatus("/dav/&b;.md")[2].partition(b"?>")[2]),
            "declares a document type",
        ),
        (multistatus("/dav"), "it is a file"),
    ],
)
async def test_an_invalid_webdav_response_is_refused_and_files_stay_indexed(
    tmp_path: Path, server: WebDavServer, answer: tuple[str, list[tuple[str, str]], bytes], said: str
) -> None:
    server.write(a_md="The harbour.")
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        await shop.sync(store)
        server.instead["/dav/"] = answer
        with pytest.raises(Unavailable, match=said):
            await shop.stores.plan(store)
        assert len(await shop.settled(store)) == 1


async def test_endless_or_very_many_folders_are_bounded(
    tmp_path: Path, server: WebDavServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdav, "MAX_FOLDERS", 20)
    monkeypatch.setattr(webdav, "MAX_FOLDER_DEPTH", 3)
    path = "/dav/"
    for _level in range(5):
        server.instead[path] = multistatus(path, f"{path}a/", f"{path}b.md")
        path += "a/"
    async with store_services(tmp_path / "home", tool_hosts=server.host) as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        plan = await shop.stores.plan(store)
        assert (len(plan.added), plan.skipped) == (4, {"too many folder levels": 1})
        server.instead["/dav/"] = multistatus(*(f"/dav/{number}/" for number in range(30)))
        with pytest.raises(InvalidRequest, match="more than 20 folders"):
            await shop.stores.plan(store)


async def test_private_addresses_are_refused(tmp_path: Path, server: WebDavServer) -> None:
    async with store_services(tmp_path / "away") as shop:
        store = await shop.stores.create("manual", LOCAL, source=server.source)
        with pytest.raises(PorticoError, match="tool_hosts"):
            await shop.stores.plan(store)
        row = replace(store, source=spec.parse_source("webdav+https://127.0.0.1/x").kept())
        with pytest.raises(PorticoError, match="tool_hosts"):
            await shop.stores.plan(row)
