"""A store that follows addresses on the web."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.server.features.sources.site import Site, serving
from tests.server.features.stores.store_services import TURN, StoreServices, store_services

from portico_server.core.errors import Forbidden, InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL, Principal
from portico_server.db.stores import StoreRow
from portico_server.features.sources import listing

PAGE = "<html><body><h1>{0}</h1><p>{1}</p></body></html>"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.fixture
async def shop(tmp_path: Path, site: Site) -> AsyncIterator[StoreServices]:
    async with store_services(tmp_path / "home", tool_hosts=site.url.removeprefix("http://")) as shop:
        yield shop


async def names(shop: StoreServices, store: StoreRow) -> dict[str, str]:
    page = await shop.stores.contents.list(store, limit=1000, order="asc")
    return {row.filename: row.status for row in page.data}


async def test_pages_of_a_sitemap_are_indexed_and_named_by_their_paths(
    shop: StoreServices, site: Site
) -> None:
    site.put("/guide/port", PAGE.format("Ports", "The lighthouse listens on port 7419."))
    site.put("/", PAGE.format("Start", "Welcome to the lighthouse."))
    site.put("/notes.txt", "雪莲花生长在高山。", "text/plain; charset=utf-8")
    store = await shop.stores.create("manual", LOCAL, source=site.sitemap("/guide/port", "/", "/notes.txt"))
    result = await shop.sync(store)
    assert (result["added"], result["indexed"], result["failed"]) == (3, 3, 0)
    assert await names(shop, store) == {
        "guide/port.html": "completed",
        "index.html": "completed",
        "notes.txt": "completed",
    }
    assert (await shop.search(store, "Which port?")).passages[0].filename == "guide/port.html"
    assert (await shop.search(store, "雪莲花")).passages[0].filename == "notes.txt"


RSS = """<?xml version="1.0"?><rss version="2.0"><channel><title>News</title><link>/</link>
<item><title>One</title><link>/news/one.html</link></item>
<item><title>Two</title><guid>{url}/news/two.html</guid></item>
<item><title>No page</title><guid isPermaLink="false">42</guid></item>
<item><title>Elsewhere</title><link>ftp://example.com/x</link></item></channel></rss>"""

ATOM = """<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom"><link href="/"/>
<entry><link rel="enclosure" href="/sound.mp3"/><link href="news/two.html#top"/></entry>
<entry><link rel="alternate" href="/news/three.html"/></entry></feed>"""


async def test_earlier_entries_of_a_feed_stay_indexed_when_it_lists_later_ones(
    shop: StoreServices, site: Site
) -> None:
    for name in ("one", "two", "three"):
        site.put(f"/news/{name}.html", PAGE.format(name, f"News of {name}: the {name} harbour opens."))
    feed = site.put("/feed", RSS.format(url=site.url), "application/rss+xml")
    store = await shop.stores.create("news", LOCAL, source=feed)
    assert (await shop.sync(store))["added"] == 2
    site.put("/feed", ATOM, "application/atom+xml; charset=utf-8")
    plan = await shop.stores.plan(store)
    assert (plan.added, plan.removed) == (("news/three.html",), ())
    result = await shop.sync(store)
    assert (result["added"], result["unchanged"], result["removed"]) == (1, 1, 0)
    assert set(await names(shop, store)) == {"news/one.html", "news/two.html", "news/three.html"}
    assert (await shop.search(store, "one harbour")).passages[0].filename == "news/one.html"


async def test_a_feed_that_exceeds_the_file_limit_is_refused(tmp_path: Path, site: Site) -> None:
    hosts = site.url.removeprefix("http://")
    async with store_services(tmp_path / "home", tool_hosts=hosts, source_max_files=2) as shop:
        for name in ("one", "two", "three"):
            site.put(f"/news/{name}.html", PAGE.format(name, f"News of {name}."))
        feed = site.put("/feed", RSS.format(url=site.url), "application/rss+xml")
        store = await shop.stores.create("news", LOCAL, source=feed)
        await shop.sync(store)
        site.put("/feed", ATOM, "application/atom+xml")
        with pytest.raises(InvalidRequest, match="new documents in addition to 2 earlier ones"):
            await shop.stores.plan(store)
        assert len(await names(shop, store)) == 2


async def test_only_changed_pages_are_fetched_again_and_missing_ones_removed(
    shop: StoreServices, site: Site
) -> None:
    for name in ("a", "b", "c"):
        site.put(f"/{name}.html", PAGE.format(name, f"Page {name} speaks of {name * 5}."))
    store = await shop.stores.create("manual", LOCAL, source=site.sitemap("/a.html", "/b.html", "/c.html"))
    await shop.sync(store)
    site.taken()
    result = await shop.sync(store)
    assert (result["unchanged"], result["indexed"]) == (3, 0)
    assert site.taken() == ["/sitemap.xml"]
    site.put("/b.html", PAGE.format("b", "Now it is about gardens."))
    del site.pages["/c.html"]  # still listed, but gone
    site.sitemap("/b.html", "/c.html")  # a.html is no longer listed
    plan = await shop.stores.plan(store)
    assert (plan.changed, plan.removed) == (("b.html", "c.html"), ("a.html",))
    site.taken()
    result = await shop.sync(store)
    assert (result["changed"], result["removed"], result["unchanged"]) == (1, 2, 0)
    assert site.taken() == ["/b.html", "/sitemap.xml"]
    assert await names(shop, store) == {"b.html": "completed"}
    assert (await shop.search(store, "gardens")).passages[0].filename == "b.html"


async def test_a_page_without_an_entity_tag_is_revalidated_by_its_date(
    shop: StoreServices, site: Site
) -> None:
    date = "Fri, 20 Nov 2026 10:00:00 GMT"
    address = site.put("/a.txt", "A harbour.", "text/plain", tagged=False, headers={"Last-Modified": date})
    store = await shop.stores.create("manual", LOCAL, source=[address])
    await shop.sync(store)
    site.taken()
    assert (await shop.sync(store))["unchanged"] == 1
    assert site.taken() == []


async def test_damaged_fetch_state_causes_a_refetch_without_reindexing(
    shop: StoreServices, site: Site, tmp_path: Path
) -> None:
    store = await shop.stores.create("manual", LOCAL, source=[site.put("/a.txt", "A harbour.", "text/plain")])
    await shop.sync(store)
    request_count = len(shop.model.asked)
    for path in (tmp_path / "home" / "sources").iterdir():
        path.write_text("{damaged")
    result = await shop.sync(store)
    assert (result["unchanged"], result["indexed"]) == (1, 0)
    assert len(shop.model.asked) == request_count


async def test_an_unavailable_site_keeps_its_indexed_files(shop: StoreServices, site: Site) -> None:
    site.put("/a.html", PAGE.format("A", "A harbour."))
    address = site.sitemap("/a.html")
    store = await shop.stores.create("manual", LOCAL, source=address)
    await shop.sync(store)
    site.put("/sitemap.xml", "busy", status=503)
    with pytest.raises(PorticoError, match="answers 503 Service Unavailable"):
        await shop.stores.plan(store)
    site.sitemap("/a.html")
    site.put("/a.html", "busy", status=500)
    result = await shop.sync(store)
    assert result["missed"] == [{"name": "a.html", "reason": "answers 500 Internal Server Error"}]
    assert await names(shop, store) == {"a.html": "completed"}


async def test_a_directory_index_is_followed_into_its_folders(shop: StoreServices, site: Site) -> None:
    address = site.index("/files/", "a.txt", "sub/", "/elsewhere.txt", ".hidden.txt", "closed/")
    site.index("/files/sub/", "%E6%96%87%E6%A1%A3.txt", "../../escape.txt")
    site.put("/files/a.txt", "A harbour.", "text/plain")
    site.put("/files/sub/%E6%96%87%E6%A1%A3.txt", "雪莲花生长在高山。", "text/plain; charset=utf-8")
    site.put("/files/closed/", "no", status=403)
    store = await shop.stores.create("files", LOCAL, source=address)
    result = await shop.sync(store)
    assert await names(shop, store) == {"a.txt": "completed", "sub/文档.txt": "completed"}
    assert result["skipped_because"] == {"not permitted": 1}
    site.put("/files/sub/", "no", status=403)  # its contents are now unknown
    assert (await shop.sync(store))["removed"] == 0
    site.index("/files/", "a.txt")
    assert (await shop.sync(store))["removed"] == 1


async def test_sitemap_indexes_compressed_sitemaps_and_url_lists_are_followed(
    shop: StoreServices, site: Site
) -> None:
    for name in ("a", "b", "c"):
        site.put(f"/{name}.html", PAGE.format(name, f"Page {name}."))
    site.sitemap("/a.html", at="/one.xml")
    site.sitemap("/b.html", at="/two.xml")
    site.put("/two.xml.gz", gzip.compress(site.pages["/two.xml"].data), "application/gzip")
    entries = "".join(
        f"<sitemap><loc>{site.url}/{name}</loc></sitemap>" for name in ("one.xml", "two.xml.gz")
    )
    site.put("/all.xml", f"<sitemapindex>{entries}</sitemapindex>", "text/xml")
    store = await shop.stores.create("maps", LOCAL, source=f"{site.url}/all.xml")
    await shop.sync(store)
    assert set(await names(shop, store)) == {"a.html", "b.html"}
    site.put("/list.txt", f"# what we read\n{site.url}/a.html\n\n{site.url}/c.html\n", "text/plain")
    store = await shop.stores.update(store.id, LOCAL, {"source": f"{site.url}/list.txt"})
    await shop.sync(store)
    assert set(await names(shop, store)) == {"a.html", "c.html"}
    site.put("/one.xml", "gone", status=404)
    store = await shop.stores.update(store.id, LOCAL, {"source": f"{site.url}/all.xml"})
    with pytest.raises(PorticoError, match=r"one\.xml answers 404"):
        await shop.stores.plan(store)


async def test_the_media_type_decides_the_format_where_the_address_does_not(
    shop: StoreServices, site: Site
) -> None:
    addresses = [
        site.put("/show.php?id=3", PAGE.format("Three", "The third harbour.")),
        site.put("/paper/2409", "name,berth\nAurora,7\n", "text/csv"),
        site.put("/data.bin", b"\x00\x01\x02", "application/octet-stream"),
    ]
    store = await shop.stores.create("mixed", LOCAL, source=addresses)
    result = await shop.sync(store)
    host = site.url.removeprefix("http://")
    assert set(await names(shop, store)) == {f"{host}/show.php?id=3.html", f"{host}/paper/2409.csv"}
    assert result["missed"] == [{"name": f"{host}/data.bin", "reason": "of an unsupported format"}]
    site.taken()
    await shop.sync(store)
    assert site.taken() == []  # refused documents are not sent again either


async def test_oversized_files_are_skipped_and_too_many_files_refused(tmp_path: Path, site: Site) -> None:
    settings = {"tool_hosts": site.url.removeprefix("http://"), "max_file_mb": 1, "source_max_files": 2}
    async with store_services(tmp_path / "home", **settings) as shop:
        large = site.put("/large.txt", b"a" * (1024 * 1024 + 1), "text/plain")
        store = await shop.stores.create("large", LOCAL, source=[large])
        assert (await shop.sync(store))["skipped_because"] == {"larger than 1 MB": 1}
        large_store = await shop.stores.create("many", LOCAL, source=site.sitemap("/a", "/b", "/c"))
        with pytest.raises(InvalidRequest, match="lists more than 2 files"):
            await shop.stores.plan(large_store)


async def test_private_addresses_are_refused_unless_the_tools_may_reach_them(
    tmp_path: Path, site: Site
) -> None:
    async with store_services(tmp_path / "home") as shop:
        store = await shop.stores.create("manual", LOCAL, source=site.sitemap("/a"))
        with pytest.raises(InvalidRequest, match="private, local or reserved"):
            await shop.stores.plan(store)
        pages = await shop.stores.create("pages", LOCAL, source=[f"{site.url}/a.html"])
        result = await shop.sync(pages)
        assert result["skipped_because"] == {"could not be fetched": 1}
        assert "tool_hosts" in result["missed"][0]["reason"]
        assert site.asked == []


async def test_a_redirect_into_a_private_network_is_not_followed(shop: StoreServices, site: Site) -> None:
    with serving() as private_site:
        private_site.put("/secret.html", PAGE.format("Secret", "Nobody reads this."))
        address = site.put("/a.html", "", status=302, headers={"Location": f"{private_site.url}/secret.html"})
        store = await shop.stores.create("manual", LOCAL, source=[address])
        assert (await shop.sync(store))["skipped_because"] == {"could not be fetched": 1}
        assert private_site.asked == []


async def test_only_an_administrator_lets_the_daemon_fetch(shop: StoreServices) -> None:
    somebody = Principal("key_1", frozenset({"stores:*:manage"}))
    with pytest.raises(Forbidden):
        await shop.stores.create("mine", somebody, source="https://example.com/sitemap.xml")
    store = await shop.stores.create("mine", somebody)
    with pytest.raises(Forbidden):
        await shop.stores.update(store.id, somebody, {"source": "https://example.com/sitemap.xml"})


async def test_a_source_is_synced_periodically_until_it_is_paused(tmp_path: Path, site: Site) -> None:
    settings = {"tool_hosts": site.url.removeprefix("http://"), "source_interval": 0.05, "watch": True}
    async with store_services(tmp_path / "home", **settings) as shop:
        site.put("/a.txt", "A harbour.", "text/plain")
        store = await shop.stores.create("manual", LOCAL, source=site.sitemap("/a.txt"))
        await shop.sync(store)
        site.put("/b.txt", "A lighthouse.", "text/plain")
        site.sitemap("/a.txt", "/b.txt")
        while set(await names(shop, store)) != {"a.txt", "b.txt"}:  # noqa: ASYNC110
            await asyncio.sleep(TURN)
        await shop.sync(await shop.stores.update(store.id, LOCAL, {"paused": True}))
    site.sitemap("/a.txt")
    async with store_services(tmp_path / "home", **settings) as again:
        assert again.begun == []
        assert set(await names(again, store)) == {"a.txt", "b.txt"}
        await again.stores.update(store.id, LOCAL, {"paused": False})
        await again.sync(store)
        assert set(await names(again, store)) == {"a.txt"}


def test_a_feed_is_parsed_only_up_to_the_requested_number() -> None:
    entries = b"".join(b"<item><link>/%d</link></item>" % (number // 2) for number in range(100))
    # The rest is not examined, so it need not be well-formed.
    feed = listing.parse_listing(b"<rss><channel>" + entries + b"</wrong>", "https://example.com/feed", 3)
    assert feed == listing.ListedFeed(tuple(f"https://example.com/{number}" for number in range(3)))


def test_a_sitemap_is_parsed_only_up_to_the_requested_number() -> None:
    entries = b"".join(b"<url><loc>https://example.com/%d</loc></url>" % number for number in range(100))
    for head in (b"<urlset>", b'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">'):
        sitemap = listing.parse_listing(head + entries + b"</wrong>", "https://example.com/sitemap.xml", 3)
        assert sitemap == listing.Sitemap(tuple(f"https://example.com/{number}" for number in range(3)))


def test_a_list_with_odd_names_or_charsets_is_read_or_skipped() -> None:
    """A list of odd names and charsets is read or skipped.

    A library's own functions raise for such elements and charsets, though its parser accepts them.
    """
    feed = b"<rss><channel><D:x/><item><D:y/><link>https://example.com/a</link></item></channel></rss>"
    assert listing.parse_listing(feed, "https://example.com/feed", 3) in (
        None,
        listing.ListedFeed(("https://example.com/a",)),
    )
    assert listing.parse_listing(b"<D:urlset/>", "https://example.com/", 3) is None
    for charset in ("idna", "undefined", "punycode"):
        assert listing.index(b"<a href='a.md'>\xff</a>", charset, "https://example.com/") == [
            "https://example.com/a.md"
        ]


def test_no_password_in_a_link_reaches_the_name_of_a_file() -> None:
    """No password in a link reaches a file's name: addresses from any listing lack user name, password and fragment."""
    link, addresses = "https://eve:secret@example.com/a?b=1#c", ("https://example.com/a?b=1",)
    at = "https://example.com/list"
    odd = "<loc>https://[x/</loc>", "<loc>ftp://example.com/a</loc>", "<loc> </loc>", ""
    entries = "".join(f"<url>{loc}</url>" for loc in (*odd, f"<loc>{link}</loc>"))
    assert listing.parse_listing(f"<urlset>{entries}</urlset>".encode(), at, 9) == listing.Sitemap(addresses)
    index = f"<sitemapindex><sitemap><loc>{link}</loc></sitemap></sitemapindex>"
    assert listing.parse_listing(index.encode(), at, 9) == listing.Sitemap((), addresses)
    for feed in (
        f"<rss><channel><item><link>{link}</link></item></channel></rss>",
        f"<rss><channel><item><guid>{link}</guid></item></channel></rss>",
        f'<feed><entry><link href="{link}"/></entry></feed>',
    ):
        assert listing.parse_listing(feed.encode(), at, 9) == listing.ListedFeed(addresses)
    assert listing.lines(link.encode()) == list(addresses)
