"""Finds the documents that an address refers to."""

from __future__ import annotations

import http
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.fetching import FetchedResponse, FetchSession
from portico_server.features.sources.fetch import read_body, source_too_large

if TYPE_CHECKING:
    from portico_server.features.sources.listing import Sitemap

PAGE_TIMEOUT_S = 120.0
"""Maximum time for one page of a list, in seconds."""

MAX_INDEX_DEPTH = 16
"""Maximum depth of folders below a directory index."""

MAX_SITEMAPS = 1_000
"""Maximum number of sitemaps in a sitemap index."""

MAX_PAGE_BYTES = 50 * 1024 * 1024
"""Maximum size of a list in bytes, equal to that in `portico_server.features.sources.listing`."""

LIST_TYPES = frozenset(("application/xml", "text/xml", "application/rss+xml", "application/atom+xml"))
"""Media types of sitemaps and feeds."""


@dataclass(slots=True)
class ListedAddresses:
    """Addresses of documents, in order. ``base`` is the prefix that their names omit. ``unknown`` are folders that
    could not be listed.

    ``latest`` means that the list contains only the latest documents, as a feed does, and that older documents still
    exist.
    """

    addresses: list[str]
    base: str = ""
    unknown: list[str] = field(default_factory=list)
    latest: bool = False


class PageLister:
    """Requests lists of addresses through ``session``. A list may have at most ``limit`` addresses."""

    def __init__(self, session: FetchSession, limit: int) -> None:
        self._session = session
        self._max_addresses = limit

    async def list_addresses(self, address: str) -> ListedAddresses:
        """Return the addresses listed at ``address``.

        If ``address`` ends in ``/``, it is a directory index. If it is no list of any kind, the address itself is the
        document. Raises `Unavailable` if the address or a part of the list does not respond, and `InvalidRequest` for
        too many addresses.
        """
        if urlsplit(address).path.endswith("/"):
            return await self._index(address)
        from portico_server.features.sources import listing

        base = urljoin(address, "/")
        async with self._session.open(address, seconds=PAGE_TIMEOUT_S) as response:
            _require(response, address)
            head = await anext(response.body, b"")
            if not _may_list(response, head):
                return ListedAddresses([address], base)
            data = head + await read_body(response.body, MAX_PAGE_BYTES - len(head))
        data = await self._plain(data, address)
        listing_result = await pools.DOCUMENTS.run(listing.parse_listing, data, address, self._limit)
        if isinstance(listing_result, listing.ListedFeed):
            return ListedAddresses(self._check_count(list(listing_result.pages)), base, latest=True)
        if listing_result is not None:
            return ListedAddresses(await self._pages_of(address, listing_result), base)
        address_lines = await pools.DOCUMENTS.run(listing.lines, data)
        return ListedAddresses([address] if address_lines is None else self._check_count(address_lines), base)

    @property
    def _limit(self) -> int:
        """Maximum number of addresses to read from a list: one more than allowed, so that a list that is too long is
        detected.
        """
        return max(self._max_addresses, MAX_SITEMAPS) + 1

    async def _pages_of(self, address: str, top: Sitemap) -> list[str]:
        """Return the pages of a sitemap and of the sitemaps it refers to."""
        from portico_server.features.sources import listing

        pages: dict[str, None] = dict.fromkeys(self._check_count(list(top.pages)))
        pending, seen_addresses = list(top.further), {address, *top.further}
        while pending:
            if len(seen_addresses) > MAX_SITEMAPS:
                raise _too_many(f"{MAX_SITEMAPS:,} sitemaps", address)
            url = pending.pop(0)
            async with self._session.open(url, seconds=PAGE_TIMEOUT_S) as response:
                _require(response, url)
                data = await read_body(response.body, MAX_PAGE_BYTES)
            plain = await self._plain(data, url)
            listing_result = await pools.DOCUMENTS.run(listing.parse_listing, plain, url, self._limit)
            if not isinstance(listing_result, listing.Sitemap):
                raise Unavailable(
                    f"{_shorten(url)} is not a sitemap as expected. The files indexed so far are kept.",
                    code="source_unreadable",
                )
            pages.update(dict.fromkeys(listing_result.pages))
            self._check_count(list(pages))
            pending += [further for further in listing_result.further if further not in seen_addresses]
            seen_addresses.update(listing_result.further)
        return self._check_count(list(pages))

    async def _index(self, address: str) -> ListedAddresses:
        """Return the addresses of all documents below a directory index."""
        from portico_server.features.sources import listing

        listed_addresses = ListedAddresses([], address)
        pending = [(address, 0)]
        seen_addresses = {address}
        while pending:
            url, depth = pending.pop()
            try:
                async with self._session.open(url, seconds=PAGE_TIMEOUT_S) as response:
                    _require(response, url)
                    if response.media_type not in ("text/html", "application/xhtml+xml"):
                        raise Unavailable(
                            f"{_shorten(url)} is {response.media_type}, not a directory index.",
                            code="source_unreadable",
                        )
                    data = await read_body(response.body, MAX_PAGE_BYTES)
            except InvalidRequest:
                raise
            except PorticoError:
                if url == address:
                    raise
                listed_addresses.unknown.append(unquote(url.removeprefix(address)))
                continue
            for target in await pools.DOCUMENTS.run(listing.index, data, None, url):
                if not target.endswith("/"):
                    listed_addresses.addresses.append(target)
                elif target not in seen_addresses and depth < MAX_INDEX_DEPTH:
                    seen_addresses.add(target)
                    pending.append((target, depth + 1))
            self._check_count([*seen_addresses, *listed_addresses.addresses])
        return listed_addresses

    async def _plain(self, data: bytes, url: str) -> bytes:
        from portico_server.features.sources import listing

        try:
            return await pools.DOCUMENTS.run(listing.unzipped, data)
        except ValueError as error:
            raise Unavailable(
                f"The list {_shorten(url)} cannot be read: {error}.", code="source_unreadable"
            ) from error

    def _check_count(self, addresses: list[str]) -> list[str]:
        if len(addresses) > self._max_addresses:
            raise _too_many(f"{self._max_addresses:,} files", addresses[0])
        return addresses


def is_answer(status: int) -> str:
    """Describe an HTTP status that is not a success."""
    status_phrases = {item.value: item.phrase for item in http.HTTPStatus}
    return f"answers {status} {status_phrases.get(status, '')}".strip()


def _require(response: FetchedResponse, url: str) -> None:
    if response.status != 200:
        raise Unavailable(
            f"{_shorten(url)} {is_answer(response.status)}. The files indexed so far are kept; sync again "
            "when it is available.",
            code="source_unreadable",
        )


def _may_list(response: FetchedResponse, head: bytes) -> bool:
    path = urlsplit(response.url).path.lower()
    if response.media_type in LIST_TYPES or path.endswith((".xml", ".xml.gz")):
        return True
    return response.media_type == "text/plain" and head.lstrip().startswith((b"http://", b"https://", b"#"))


def _too_many(limit_text: str, address: str) -> InvalidRequest:
    return source_too_large(
        f"{_shorten(address)} lists more than {limit_text}. Follow a part of the list, or raise the setting "
        "source_max_files.",
    )


def _shorten(url: str) -> str:
    return url.partition("?")[0][:200]
