"""Parses lists of addresses: sitemaps, feeds, directory indexes and plain lists. Imports lxml, so import this module
only where a list is read.

Sitemaps: https://www.sitemaps.org/protocol.html · RSS: https://www.rssboard.org/rss-specification · Atom: RFC 4287
WebDAV: RFC 4918 and 3744
"""

from __future__ import annotations

import io
import zlib
from urllib.parse import urljoin, urlsplit

from lxml import etree

from portico_server.core.dataclass import dataclass
from portico_server.core.html import declared_charset, local_name, parse
from portico_server.core.words import whole_number
from portico_server.features.sources.rights import Readers
from portico_server.features.sources.webdav_rights import readers_of

MAX_LIST_BYTES = 50 * 1024 * 1024
"""Maximum size of a list in bytes, before and after decompression. It is the limit of the sitemap protocol."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Sitemap:
    """The pages and the further sitemaps that a sitemap lists."""

    pages: tuple[str, ...]
    further: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """The properties that a WebDAV server reports for a folder or file, unchanged. ``size`` is 0 if the server does
    not report it. ``readers`` are ``None`` if the server reports no access control list.
    """

    href: str
    folder: bool
    size: int = 0
    modified: str = ""
    tag: str = ""
    readers: Readers | None = None


def members(data: bytes, host: str) -> list[Member]:
    """Parse the response of ``host`` to ``PROPFIND``. Raises `ValueError` if the response is invalid."""
    options = {"resolve_entities": False, "no_network": True, "remove_comments": True, "remove_pis": True}
    found_members: list[Member] = []
    try:
        for _event, node in etree.iterparse(
            io.BytesIO(data), events=("end",), tag="{DAV:}response", **options
        ):
            if node.getroottree().docinfo.doctype:
                raise ValueError("it declares a document type")
            if (member := _member(node, host)) is not None:
                found_members.append(member)
            node.clear()
            while (before := node.getprevious()) is not None:
                node.getparent().remove(before)
    except etree.XMLSyntaxError as error:
        raise ValueError("the response is not XML") from error
    if not found_members:
        raise ValueError("the response lists no resources")
    return found_members


def _member(response: etree._Element, host: str) -> Member | None:
    """Parse one member of the response. Return ``None`` if the server reports only an error for the member."""
    href = (response.findtext("{DAV:}href") or "").strip()
    properties = [
        status_block
        for status_block in response.iterfind("{DAV:}propstat")
        if " 200" in (status_block.findtext("{DAV:}status") or " 200")
    ]
    if not href or not properties:
        return None
    values = {
        _name(node): (node.text or "").strip()
        for status_block in properties
        for node in status_block.iterfind("{DAV:}prop/*")
    }
    folder = any(
        status_block.find("{DAV:}prop/{DAV:}resourcetype/{DAV:}collection") is not None
        for status_block in properties
    )
    size = values.get("getcontentlength", "")
    return Member(
        href,
        folder,
        whole_number(size) or 0,
        values.get("getlastmodified", ""),
        values.get("getetag", ""),
        next(
            (
                readers
                for status_block in properties
                for prop in status_block.iterfind("{DAV:}prop")
                if (readers := readers_of(prop, host)) is not None
            ),
            None,
        ),
    )


def unzipped(data: bytes) -> bytes:
    """Return the data, decompressed if it is gzipped. Raise `ValueError` if it is damaged or larger than
    `MAX_LIST_BYTES`.
    """
    if not data.startswith(GZIP_MAGIC):
        return data
    inflate = zlib.decompressobj(wbits=31)
    try:
        plain = inflate.decompress(data, MAX_LIST_BYTES)
    except zlib.error as error:
        raise ValueError("it is damaged") from error
    if inflate.unconsumed_tail:
        raise ValueError(f"it has more than {MAX_LIST_BYTES >> 20} MB")
    return plain


@dataclass(frozen=True, slots=True)
class ListedFeed:
    """The addresses of the pages in the first entries of a feed."""

    pages: tuple[str, ...]


def parse_listing(data: bytes, url: str, limit: int) -> Sitemap | ListedFeed | None:
    """Return the addresses in a sitemap, a sitemap index or a feed (RSS, Atom) from ``url``, or ``None`` for any other
    document.

    Entries are parsed one by one until ``limit`` addresses are known, so that memory is needed only for these.
    """
    addresses: dict[str, None] = {}
    options = {"resolve_entities": False, "no_network": True, "remove_comments": True, "remove_pis": True}
    events = etree.iterparse(io.BytesIO(data), events=("start", "end"), **options)
    kind = ""
    try:
        for event, node in events:
            kind = kind or _name(node)
            if kind not in _ENTRIES:
                return None
            if event == "start" or _name(node) not in _ENTRIES[kind]:
                continue
            link = _location(node) if kind in _SITEMAPS else _link(node)
            if address := plain_address(link, url):
                addresses[address] = None
            node.clear()
            while (before := node.getprevious()) is not None:
                node.getparent().remove(before)
            if len(addresses) == limit:
                break
    except etree.XMLSyntaxError:
        return None
    pages = tuple(addresses)
    if kind == "sitemapindex":
        return Sitemap((), pages)
    return Sitemap(pages) if kind in _SITEMAPS else ListedFeed(tuple(page for page in pages if page != url))


_SITEMAPS = ("urlset", "sitemapindex")
_ENTRIES = {
    "urlset": ("url",),
    "sitemapindex": ("sitemap",),
    "rss": ("item",),
    "RDF": ("item",),
    "feed": ("entry",),
}
"""Names of the root elements of lists, with the names of their entries."""


def plain_address(link: str, url: str) -> str:
    """Return ``link``, which occurs at ``url``, as an absolute address without fragment, user name and password.

    Returns an empty string for an address that cannot be fetched. A password in an address would otherwise become part
    of file names, citations and logs.
    """
    try:
        parts = urlsplit(urljoin(url, link.strip()))
        host, _port = parts.hostname, parts.port
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not host or not link.strip():
        return ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _location(entry: etree._Element) -> str:
    """Return the address of a sitemap entry, or an empty string."""
    loc = next((child for child in entry if _is(child, "loc")), None)
    return "" if loc is None else "".join(loc.itertext())


def _link(entry: etree._Element) -> str:
    """Return the address of a feed entry's page, or an empty string."""
    for node in entry:
        if _is(node, "link") and node.get("rel", "alternate") == "alternate":
            return (node.get("href") or node.text or "").strip()
    guid = next((node for node in entry if _is(node, "guid")), None)
    return "" if guid is None or guid.get("isPermaLink") == "false" else (guid.text or "").strip()


def _name(node: etree._Element) -> str:
    return local_name(node.tag) if isinstance(node.tag, str) else ""


def _is(node: etree._Element, name: str) -> bool:
    return _name(node) == name


def lines(data: bytes) -> list[str] | None:
    """Return the addresses of a plain list, which has one address per line and comments after ``#``. Return ``None``
    if the data contains any other text.
    """
    addresses = []
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            if not line.startswith(("http://", "https://")) or " " in line:
                return None
            if address := plain_address(line, line):
                addresses.append(address)
    return addresses or None


def index(data: bytes, charset: str | None, url: str) -> list[str]:
    """Return the links in a directory index that lead to addresses below ``url``. Links to folders end in ``/``."""
    root = parse(data, charset or declared_charset(data) or "utf-8")
    targets: dict[str, None] = {}
    for node in () if root is None else root.iter("a"):
        href = (node.get("href") or "").strip()
        if not href or "?" in href:  # links with a query sort the index by a column
            continue
        try:
            target = urljoin(url, href).partition("#")[0]
            name = urlsplit(target).path.removeprefix(urlsplit(url).path)
        except ValueError:
            continue
        below = target.startswith(url) and name and "/" not in name.rstrip("/")
        if below and not name.startswith("."):
            targets[target] = None
    return list(targets)


def objects(data: bytes) -> tuple[list[dict[str, str]], str]:
    """Parse one page of a ``ListObjectsV2`` response: the fields of each object, and the token of the next page, if
    any.

    Raises `ValueError` for any other document.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError("no XML") from error
    if not _is(root, "ListBucketResult"):
        raise ValueError("not a list of objects")
    found_objects, has_more, token = [], False, ""
    for node in root:
        if _is(node, "Contents"):
            found_objects.append({_name(child): child.text or "" for child in node if len(child) == 0})
        elif _is(node, "IsTruncated"):
            has_more = node.text == "true"
        elif _is(node, "NextContinuationToken"):
            token = node.text or ""
    if has_more and not token:
        raise ValueError("the token for the next page is missing")
    return found_objects, token if has_more else ""


def refusal(data: bytes) -> str:
    """Return the error code of an S3 error document, or an empty string."""
    try:
        root = etree.fromstring(data[:65_536], etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return ""
    return next((node.text or "" for node in root.iter() if _is(node, "Code")), "")[:80]
