"""What lists addresses: sitemaps, feeds, directory indexes, plain lists. Imports lxml: import this module where one is
read.

Sitemaps: https://www.sitemaps.org/protocol.html · RSS: https://www.rssboard.org/rss-specification · Atom: RFC 4287
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

from lxml import etree

from portico_server.core.html import declared_charset, parse

MAX_LIST_BYTES = 50 * 1024 * 1024
"""Bytes of a list, also when it is decompressed: what the protocol of sitemaps allows."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class Sitemap:
    """The pages that a sitemap lists, and further sitemaps."""

    pages: tuple[str, ...]
    further: tuple[str, ...] = ()


def unzipped(data: bytes) -> bytes:
    """The same without gzip, if it has that. Raises `ValueError` for more than `MAX_LIST_BYTES` bytes or a damaged
    file.
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


def document(data: bytes) -> etree._Element | None:
    """The root of an XML document; ``None`` for anything else."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=True, remove_pis=True)
    try:
        return etree.fromstring(data, parser)
    except etree.XMLSyntaxError:
        return None


def sitemap(root: etree._Element | None) -> Sitemap | None:
    """What a sitemap or an index of sitemaps lists; ``None`` for anything else."""
    kind = "" if root is None else _name(root)
    if root is None or kind not in ("urlset", "sitemapindex"):
        return None
    found = []
    for entry in root:
        loc = next((child for child in entry if _is(child, "loc")), None)
        if loc is not None and (address := "".join(loc.itertext()).strip()):
            found.append(address)
    return Sitemap(tuple(found)) if kind == "urlset" else Sitemap((), tuple(found))


def feed(root: etree._Element | None, url: str, most: int) -> list[str] | None:
    """The addresses of the entries of a feed at ``url``, RSS or Atom, ``most`` at most; ``None`` for anything else."""
    kind = "" if root is None else _name(root)
    if root is None or kind not in ("rss", "RDF", "feed"):
        return None
    found: dict[str, None] = {}
    for link in dict.fromkeys(map(_link, root.iter("{*}item", "{*}entry"))):
        if len(found) == most:
            break
        try:
            address = urljoin(url, link).partition("#")[0]
        except ValueError:
            continue
        if address != url and address.startswith(("http://", "https://")):
            found[address] = None
    return list(found)


def _link(entry: etree._Element) -> str:
    """Where the page of an entry is; an empty string if it says nothing of that."""
    for node in entry:
        if _is(node, "link") and node.get("rel", "alternate") == "alternate":
            return (node.get("href") or node.text or "").strip()
    guid = next((node for node in entry if _is(node, "guid")), None)
    return "" if guid is None or guid.get("isPermaLink") == "false" else (guid.text or "").strip()


def _name(node: etree._Element) -> str:
    return etree.QName(node).localname if isinstance(node.tag, str) else ""


def _is(node: etree._Element, name: str) -> bool:
    return _name(node) == name


def lines(data: bytes) -> list[str] | None:
    """The addresses of a list, one in a line beside comments after ``#``; ``None`` if there is anything else in it."""
    found = []
    for line in data.decode("utf-8", "replace").splitlines():
        line = line.strip()
        if line and not line.startswith("#"):
            if not line.startswith(("http://", "https://")) or " " in line:
                return None
            found.append(line)
    return found or None


def index(data: bytes, charset: str | None, url: str) -> list[str]:
    """What the links of a directory index at ``url`` lead to below it, folders with a ``/`` at their end."""
    root = parse(data, charset or declared_charset(data) or "utf-8")
    found: dict[str, None] = {}
    for node in () if root is None else root.iter("a"):
        href = (node.get("href") or "").strip()
        if not href or "?" in href:  # columns to sort by
            continue
        try:
            target = urljoin(url, href).partition("#")[0]
            name = urlsplit(target).path.removeprefix(urlsplit(url).path)
        except ValueError:
            continue
        below = target.startswith(url) and name and "/" not in name.rstrip("/")
        if below and not name.startswith("."):
            found[target] = None
    return list(found)


def objects(data: bytes) -> tuple[list[dict[str, str]], str]:
    """One page of ``ListObjectsV2``: the fields of each object, and the token of the next page, if there is one.

    Raises `ValueError` for anything else.
    """
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False)
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as error:
        raise ValueError("no XML") from error
    if not _is(root, "ListBucketResult"):
        raise ValueError("no list of objects")
    found, more, token = [], False, ""
    for node in root:
        if _is(node, "Contents"):
            found.append(
                {etree.QName(child).localname: child.text or "" for child in node if len(child) == 0}
            )
        elif _is(node, "IsTruncated"):
            more = node.text == "true"
        elif _is(node, "NextContinuationToken"):
            token = node.text or ""
    if more and not token:
        raise ValueError("no token for its next page")
    return found, token if more else ""


def refusal(data: bytes) -> str:
    """The code of an error as S3 writes it, or an empty string."""
    try:
        root = etree.fromstring(data[:65_536], etree.XMLParser(resolve_entities=False, no_network=True))
    except (etree.XMLSyntaxError, ValueError):
        return ""
    return next((node.text or "" for node in root.iter() if _is(node, "Code")), "")[:80]
