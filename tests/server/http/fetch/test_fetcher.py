"""Which hosts tools may reach, and how much they may download."""

from __future__ import annotations

import asyncio
import gzip
from dataclasses import replace
from socket import AF_INET

import pytest
from aiohttp import web
from tests.server.features.tools.web import Site, page, redirect, serving

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.http.fetch import client, readable
from portico_server.http.fetch.client import FetchFailed, FetchRequest, fetch
from portico_server.http.fetch.policy import AddressPolicy, is_public

INSIDE = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "198.18.0.1", "203.0.113.5", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1",
    "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
    "2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1", "nonsense", "",
]  # fmt: skip
OUTSIDE = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses_do_not_count_as_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses_count_as_public(address: str) -> None:
    assert is_public(address)


REFUSED = [
    "http://127.0.0.1/", "http://127.1/", "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/",
    "http://localhost/", "http://LOCALHOST/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[fe80::1]/",
    "http://169.254.169.254/latest/meta-data/", "http://[64:ff9b::a9fe:a9fe]/", "http://0/",
]  # fmt: skip


@pytest.mark.parametrize(("interim", "status"), [(3, 200), (1_000, None)])
async def test_a_response_with_too_many_interim_responses_is_an_error(
    interim: int, status: int | None
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * interim)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        asking = fetch(
            FetchRequest(f"http://127.0.0.1:{port}/"), AddressPolicy(frozenset({f"127.0.0.1:{port}"}))
        )
        if status is not None:
            assert (await asking).status == status
            return
        with pytest.raises(FetchFailed, match="interim responses"):
            await asking


@pytest.mark.parametrize("url", REFUSED)
async def test_no_spelling_of_an_inner_address_is_fetched(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await fetch(FetchRequest(url), AddressPolicy())
    assert caught.value.code == "address_refused"


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://example.com/x", "gopher://x", "//x", "x", "", "http://u:p@example.com/"],
)
async def test_other_schemes_and_credentials_are_refused(url: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        await fetch(FetchRequest(url), AddressPolicy())
    assert caught.value.code == "invalid_url"


async def test_an_allowed_host_is_fetched_but_not_on_another_port() -> None:
    async with serving({"/": page("hello", "text/plain")}) as site:
        result = await fetch(FetchRequest(f"{site.url}/"), AddressPolicy.of(site.host))
        assert (result.status, result.text, result.media_type) == (200, "hello", "text/plain")
        with pytest.raises(InvalidRequest, match="tool_hosts"):
            await fetch(FetchRequest(f"{site.url}/"), AddressPolicy.of("127.0.0.1:1"))


async def test_a_redirect_from_an_allowed_to_a_forbidden_host_is_refused() -> None:
    """A redirect from an allowed host to a forbidden host is refused."""
    pages = {"/metadata": redirect("http://169.254.169.254/latest"), "/file": redirect("file:///etc/passwd")}
    async with serving({"/": page("secret")}) as inner:
        pages["/inner"] = redirect(f"{inner.url}/")
        async with serving(pages) as site:
            for path, code in [
                ("/metadata", "address_refused"),
                ("/file", "invalid_url"),
                ("/inner", "address_refused"),
            ]:
                with pytest.raises(InvalidRequest) as caught:
                    await fetch(FetchRequest(site.url + path), AddressPolicy.of(site.host))
                assert caught.value.code == code
        assert inner.requests == []


async def test_a_host_name_with_one_internal_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server returns a public and an internal address."""

    async def resolve(host: str, port: int, family: int = 0) -> list[tuple[int, int, tuple[str, int]]]:
        return [(AF_INET, 0, (address, port)) for address in ("93.184.216.34", "127.0.0.1")]

    monkeypatch.setattr(pools, "resolve", resolve)
    with pytest.raises(InvalidRequest, match=r"example\.com"):
        await fetch(FetchRequest("http://example.com/"), AddressPolicy())


async def test_a_host_name_that_changes_to_an_internal_address_is_refused_after_a_redirect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name server changes its answer; in this test only 127.0.0.1 counts as the public internet."""
    answers = iter(["127.0.0.1", "127.0.0.2"])

    async def resolve(host: str, port: int, family: int = 0) -> list[tuple[int, int, tuple[str, int]]]:
        return [(AF_INET, 0, (next(answers), port))]

    monkeypatch.setattr(pools, "resolve", resolve)
    monkeypatch.setattr(client, "is_public", lambda address: address == "127.0.0.1")
    async with serving({"/": redirect("/inner"), "/inner": page("secret")}) as site:
        port = site.url.rpartition(":")[2]
        with pytest.raises(InvalidRequest) as caught:
            await fetch(FetchRequest(f"http://turning.example:{port}/"), AddressPolicy())
    assert caught.value.code == "address_refused"
    assert [request.path for request in site.requests] == ["/"] and next(answers, None) is None


async def test_a_redirect_loop_is_stopped_after_the_maximum_of_redirects(site: Site) -> None:
    with pytest.raises(FetchFailed) as caught:
        await fetch(FetchRequest(f"{site.url}/again"), AddressPolicy.of(site.host))
    assert caught.value.code == "too_many_redirects" and len(site.requests) == 6


async def test_headers_and_bodies_are_not_sent_to_another_origin_after_a_redirect() -> None:
    async with (
        serving({"/": page("there")}) as second_site,
        serving({"/": redirect(f"{second_site.url}/")}) as site,
    ):
        policy = AddressPolicy.of(f"{site.host},{second_site.host}")
        headers = {"Authorization": "Bearer x", "X-Key": "y", "Accept": "text/plain"}
        result = await fetch(FetchRequest(f"{site.url}/", "POST", headers, b"body"), policy)
    assert result.text == "there"
    assert site.requests[0].headers["X-Key"] == "y"
    arrived = second_site.requests[0]
    assert (arrived.method, arrived.headers.get("Authorization"), arrived.headers.get("X-Key")) == (
        "GET",
        None,
        None,
    )
    assert await arrived.read() == b""


async def test_a_decompression_bomb_is_truncated_at_the_size_limit(site: Site) -> None:
    result = await fetch(
        FetchRequest(f"{site.url}/bomb"), replace(AddressPolicy.of(site.host), max_bytes=1_000)
    )
    assert result.truncated and len(result.data) == 1_000


async def test_a_slow_response_body_is_aborted_at_the_deadline(site: Site) -> None:
    with pytest.raises(FetchFailed) as caught:
        await fetch(FetchRequest(f"{site.url}/drip"), replace(AddressPolicy.of(site.host), timeout=0.3))
    assert caught.value.code == "fetch_timeout"


async def test_an_unreachable_host_is_an_error_that_names_it() -> None:
    with pytest.raises(FetchFailed, match=r"127\.0\.0\.1:9"):
        await fetch(FetchRequest("http://127.0.0.1:9/?token=secret"), AddressPolicy.of("127.0.0.1:9"))


@pytest.fixture
async def site() -> object:
    async def bomb(_request: web.Request) -> web.StreamResponse:
        return web.Response(body=gzip.compress(b"0" * 3_000_000), headers={"Content-Encoding": "gzip"})

    async def drip(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        disconnect_event = asyncio.Event()
        while True:
            try:
                await response.write(b".")
                await asyncio.wait_for(disconnect_event.wait(), 0.05)
            except TimeoutError:
                continue
            except ConnectionError:
                return response

    async with serving({"/again": redirect("/again"), "/bomb": bomb, "/drip": drip}) as running:
        yield running


PAGE = b"""<html><head><title> A  title </title><style>p {}</style></head><body>
<nav>Menu</nav><h1>Ports</h1><p>The daemon listens on <a href="/ports?x=1">port 7419</a>.</p>
<ul><li>one</li><li><a href="javascript:alert(1)">two</a></li></ul>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2</td></tr></table>
<pre>x = 1
  y = 2</pre><script>evil()</script><p hidden>unseen</p><img src="x" alt="A map"></body></html>"""


def test_a_page_becomes_text_with_links() -> None:
    read = readable.read(PAGE, None, "https://example.com/docs/")
    assert read.title == "A title"
    assert "# Ports" in read.text
    assert "listens on [port 7419](https://example.com/ports?x=1)." in read.text
    assert "- one\n" in read.text
    assert "- two" in read.text
    assert "a | b\n1 | 2" in read.text
    assert "x = 1\n  y = 2" in read.text
    assert "[image: A map]" in read.text
    for unseen in ("Menu", "evil", "p {}", "unseen", "javascript"):
        assert unseen not in read.text


@pytest.mark.parametrize("data", [b"", b"\x00\xff", b"<", b"<p" * 50_000, b"<div>" * 50_000 + b"deep"])
def test_broken_pages_are_read_as_far_as_they_go(data: bytes) -> None:
    assert isinstance(readable.read(data, "no-such-charset", "http://x/").text, str)


@pytest.mark.parametrize(
    "charset", ["punycode", "idna", "undefined", "unicode_escape", "rot13", "zip", "\x00", "x" * 5_000, ""]
)
def test_an_unsupported_charset_is_read_as_utf_8(charset: str) -> None:
    """Some of these charsets take hours for a page of a megabyte, and some raise an error."""
    data = "<p>Sluttårn \\x41</p>".encode() + b"a" * 1_000_000 + b"-" + b"a" * 1_000_000
    assert "Sluttårn \\x41" in readable.read(data, charset, "http://x/").text
    if charset.isprintable():
        page_bytes = f"<meta charset={charset}>".encode() + data
        assert "Sluttårn \\x41" in readable.read(page_bytes, None, "http://x/").text


def test_a_chinese_page_declared_as_gb2312_is_decoded_as_gb18030() -> None:
    text = "<meta charset=gb2312><p>高山植物</p>"
    assert readable.read(text.encode("gb18030"), None, "http://x/").text == "高山植物"
