"""Lists from hostile servers: no list reads a file, asks another address, or grows when it is parsed."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portico_server.features.sources import listing

SECRET = "swordfish-7419"
URL = "https://harbour.example/list.xml"
MAX_RESULT_CHARS = 100_000
LOL = "<!ENTITY a0 'lollol'>" + "".join(
    f"<!ENTITY a{level} '{f'&a{level - 1};' * 10}'>" for level in range(1, 10)
)
LONG = f"<!ENTITY a9 '{'l' * 100_000}'>"

DOCTYPES = {
    "a file": '<!DOCTYPE x [<!ENTITY a9 SYSTEM "file://{file}">]>',
    "a file in a parameter": '<!DOCTYPE x [<!ENTITY % p SYSTEM "file://{file}"> %p;]>',
    "a file through another entity": ('<!DOCTYPE x [<!ENTITY b SYSTEM "file://{file}"><!ENTITY a9 "&b;">]>'),
    "another address": '<!DOCTYPE x [<!ENTITY a9 SYSTEM "{address}">]>',
    "another address as its type": '<!DOCTYPE x SYSTEM "{address}">',
    "another address in a parameter": '<!DOCTYPE x [<!ENTITY % p SYSTEM "{address}"> %p;]>',
    "a billion laughs": f"<!DOCTYPE x [{LOL}]>",
    "a long entity": f"<!DOCTYPE x [{LONG}]>",
    "an entity that contains itself": '<!DOCTYPE x [<!ENTITY a9 "&a9;">]>',
    "attributes by default": '<!DOCTYPE x [<!ATTLIST link href CDATA "file://{file}">]>',
    "no type": "",
}
"""Beginnings of a document; the entity ``a9`` is used in its entries."""

BODIES = {
    "WebDAV": (
        '<d:multistatus xmlns:d="DAV:">'
        "<d:response><d:href>/dav/{entity}.md</d:href><d:propstat><d:prop><d:getetag>{entity}</d:getetag>"
        "</d:prop></d:propstat></d:response></d:multistatus>"
    ),
    "sitemap": "<urlset><url><loc>https://harbour.example/{entity}</loc></url></urlset>",
    "feed": "<rss><channel><item><link>https://harbour.example/{entity}</link></item></channel></rss>",
    "Atom": '<feed><entry><link href="https://harbour.example/{entity}"/></entry></feed>',
    "bucket": (
        "<ListBucketResult><Contents><Key>{entity}.md</Key></Contents>"
        '<x:include xmlns:x="http://www.w3.org/2001/XInclude" href="file://{file}" parse="text"/>'
        "</ListBucketResult>"
    ),
    "bucket's error": "<Error><Code>{entity}</Code></Error>",
}

PARSERS: dict[str, Callable[[bytes], Any]] = {
    "WebDAV": lambda data: listing.members(data, "harbour.example"),
    "sitemap": lambda data: listing.parse_listing(data, URL, 1_000),
    "feed": lambda data: listing.parse_listing(data, URL, 1_000),
    "Atom": lambda data: listing.parse_listing(data, URL, 1_000),
    "bucket": listing.objects,
    "bucket's error": listing.refusal,
}


def read(kind: str, data: bytes) -> str:
    """Return what a parser reads, as text; its error is a result too."""
    try:
        return repr(PARSERS[kind](data))
    except ValueError as error:
        return f"refused: {error}"


@pytest.fixture
def listener() -> Any:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("doctype", DOCTYPES)
def test_a_list_with_entities_reads_no_file_and_does_not_expand(
    kind: str, doctype: str, tmp_path: Path, listener: socket.socket
) -> None:
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}/x.dtd"
    names = {"file": file, "address": address}
    head = DOCTYPES[doctype] if "<!ENTITY a0" in DOCTYPES[doctype] else DOCTYPES[doctype].format(**names)
    body = BODIES[kind].format(entity="&a9;" * 100 if doctype else "tide", file=file)
    result = read(kind, f'<?xml version="1.0"?>{head}{body}'.encode())
    assert SECRET not in result
    assert str(file) not in result
    assert len(result) < MAX_RESULT_CHARS
    with pytest.raises(BlockingIOError):
        listener.accept()


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x00" * 1_000, id="zeros"),
        pytest.param(b"<" * 100_000, id="only openings"),
        pytest.param(b"<a>" * 100_000, id="deep"),
        pytest.param(b"<urlset>" + b"<url><loc>" * 50_000, id="deep entries"),
        pytest.param(b"<rss " + b" ".join(b'a%d="x"' % n for n in range(50_000)) + b"/>", id="attributes"),
        pytest.param(b"<rss" + b"a" * 200_000 + b"/>", id="a long name"),
        pytest.param(b'<?xml version="1.0" encoding="UTF-7"?><rss/>', id="UTF-7"),
        pytest.param(b'<?xml version="1.0" encoding="punycode"?><rss/>', id="punycode"),
        pytest.param('<?xml version="1.0"?><urlset/>'.encode("utf-16"), id="UTF-16"),
        pytest.param(b"<urlset><url><loc>http://a/\xff\xfe</loc></url></urlset>", id="no UTF-8"),
        pytest.param(b"<urlset><url><loc>http://[::1</loc></url></urlset>", id="half an address"),
        pytest.param(b"<feed><entry><link href='javascript:x'/></entry></feed>", id="a script"),
        pytest.param(b"<feed><entry><link href='file:///etc/passwd'/></entry></feed>", id="a file"),
        pytest.param(
            b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", id="no next page"
        ),
    ],
)
def test_a_broken_list_is_refused_or_yields_a_short_result(kind: str, data: bytes) -> None:
    result = read(kind, data)
    assert len(result) < 1_000
    assert "javascript" not in result and "passwd" not in result


@pytest.mark.parametrize("size", [listing.MAX_LIST_BYTES + 1, 4 * listing.MAX_LIST_BYTES])
def test_a_compressed_list_is_refused_beyond_its_size_limit(size: int) -> None:
    with pytest.raises(ValueError, match="more than 50 MB"):
        listing.unzipped(gzip.compress(b" " * size, 1))
