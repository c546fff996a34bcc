"""Web addresses as a source: single documents, or the documents listed in a sitemap, a list or a directory index."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable
from portico_server.core.fetching import FetchedResponse, Fetcher, FetchSession
from portico_server.core.filenames import to_filename
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.readers.formats import format_of
from portico_server.features.sources import fetch
from portico_server.features.sources.fetch import ETagCache, ETagEntry
from portico_server.features.sources.limits import SourceLimits
from portico_server.features.sources.pages import PageLister, is_answer
from portico_server.features.sources.source import FetchFailure, FetchResult, Unchanged
from portico_server.features.sources.spec import SourceSpec
from portico_server.features.sources.walk import SourceEntry, Walk, unfit_reason

KIND_TIMEOUT_S = 60.0
"""Maximum time for requesting the media type of a document, in seconds."""

SUFFIXES = {
    "text/html": "html",
    "application/xhtml+xml": "html",
    "application/pdf": "pdf",
    "text/markdown": "md",
    "text/plain": "txt",
    "text/csv": "csv",
    "application/json": "json",
    "application/xml": "xml",
    "text/xml": "xml",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    "application/epub+zip": "epub",
    "application/zip": "zip",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
}
"""Suffix appended to a file's name, by media type, if the address does not reveal the type of the file."""


class WebSource:
    """http and https addresses as a `portico_server.features.sources.source.StoreSource`.

    The entity tag and the date of a page tell whether it has changed (RFC 9110, 13.1). A page that returns 404 or 410
    counts as removed.
    """

    def __init__(
        self, spec: SourceSpec, fetcher: Fetcher, files: FileStorage, notes: ETagCache, limits: SourceLimits
    ) -> None:
        self._spec = spec
        self._fetcher = fetcher
        self._files = files
        self._notes = notes
        self._limits = limits

    @property
    def address(self) -> str:
        return f"address {self._spec.title}"

    async def scan(self) -> Walk:
        await self._notes.load()
        walk = Walk()
        async with self._fetcher.session() as session:
            if self._spec.kind == "pages":
                addresses = {url: _path(url, "") for url in self._spec.addresses}
            else:
                listed_addresses = await PageLister(session, self._limits.files).list_addresses(
                    self._spec.addresses[0]
                )
                walk.unknown += [_plain(folder) for folder in listed_addresses.unknown]
                for folder in listed_addresses.unknown:
                    walk.skip(_plain(folder), "not permitted")
                addresses = {url: _path(url, listed_addresses.base) for url in listed_addresses.addresses}
                walk.keeps_removed = listed_addresses.latest
            await self._ask_kinds(session, addresses)
        for url, path in addresses.items():
            self._see(walk, url, path)
        self._notes.keep(addresses)
        await self._notes.save()
        return walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        note = self._notes.of(source_entry.at)
        if not note.sha256 or not _conditions(note):
            return None
        try:
            async with (
                self._fetcher.session() as session,
                session.open(source_entry.at, _conditions(note), seconds=KIND_TIMEOUT_S) as response,
            ):
                return note.sha256 if response.status == 304 else None
        except PorticoError:
            return None  # unknown without fetching

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        async with self._fetcher.session() as session:

            async def take_entry(source_entry: SourceEntry, old: StoreFileRow | None) -> FetchResult:
                return await self._take(session, source_entry, old)

            fetched_files = await fetch.fetch_all(self._files, entries, take_entry)
        await self._notes.save()
        return fetched_files

    async def _take(
        self, session: FetchSession, source_entry: SourceEntry, old: StoreFileRow | None
    ) -> FetchResult:
        note = self._notes.of(source_entry.at)
        is_held = old is not None and note.sha256 == old.sha256 and self._files.holds(old.sha256, old.bytes)
        conditions = _conditions(note) if is_held or note.refused else {}
        async with session.open(source_entry.at, conditions, seconds=self._limits.seconds) as response:
            if response.status == 304 and conditions:
                return FetchFailure(note.refused, gone=True) if note.refused else Unchanged()
            if response.status != 200:
                return FetchFailure(is_answer(response.status), gone=response.status in (404, 410))
            fetched_file = await fetch.receive_document(
                self._files, response, source_entry.name, self._limits.bytes
            )
            tag, date = response.headers.get("etag", ""), response.headers.get("last-modified", "")
        if isinstance(fetched_file, FetchFailure):
            self._notes.note(
                source_entry.at, ETagEntry(source_entry.name, tag, date, refused=fetched_file.reason)
            )
        else:
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, tag, date, fetched_file.sha256))
        return fetched_file

    async def _ask_kinds(self, session: FetchSession, addresses: dict[str, str]) -> None:
        """Request the media types of documents whose addresses do not reveal them, once per document."""
        slots = asyncio.Semaphore(fetch.MAX_CONCURRENT_FETCHES)

        async def ask(url: str, path: str) -> None:
            async with slots:
                kind = await _media_type(session, url)
            if kind is not None:
                self._notes.note(url, replace(self._notes.of(url), name=_file_name(path, kind)))

        async with asyncio.TaskGroup() as tasks:
            for url, path in addresses.items():
                if not self._notes.of(url).name and not _tells(path):
                    tasks.create_task(ask(url, path), name=f"kind of {url[:80]}")

    def _see(self, walk: Walk, url: str, path: str) -> None:
        name = self._notes.of(url).name or (path if _tells(path) else _file_name(path, "text/html"))
        reason = unfit_reason(
            name,
            0,
            max_bytes=self._limits.bytes,
            pictures=self._limits.pictures,
            recordings=self._limits.recordings,
        )
        if not reason and name in walk.files:
            reason = "another address has the same name"
        if reason:
            walk.skip(name, reason)
        else:
            walk.files[name] = SourceEntry(name, url, 0, None)


def _conditions(note: ETagEntry) -> dict[str, str]:
    """Return headers for a request to which the server responds with 304 if the file has not changed."""
    headers = {"If-None-Match": note.tag, "If-Modified-Since": "" if note.tag else note.date}
    return {name: value for name, value in headers.items() if value}


def _path(url: str, base: str) -> str:
    """Return the name of a file, made from its address: relative to ``base``, or with the host if it is not below
    ``base``.
    """
    parts = urlsplit(url)
    if base and url.startswith(base):
        path = urlsplit(url).path.removeprefix(urlsplit(base).path)
    else:
        path = f"{parts.netloc}{parts.path}"
    if not path or path.endswith("/"):
        path += "index.html"
    return _plain(f"{path}?{parts.query}" if parts.query else path)


def _plain(path: str) -> str:
    parts = unquote(path).replace("\\", "/").split("/")
    return to_filename("/".join(part for part in parts if part not in ("", ".", "..")))


def _tells(path: str) -> bool:
    """Return whether a name reveals the type of a file. The suffix of a programming language does not, because a
    program may generate the page.
    """
    form = format_of(path)
    return form is not None and form.name != "code"


def _file_name(path: str, media_type: str) -> str:
    suffix = SUFFIXES.get(media_type)
    form = format_of(path)
    if suffix is None or (form is not None and media_type == "text/plain"):
        return path
    return path if form is not None and format_of(f"x.{suffix}") == form else f"{path}.{suffix}"


async def _media_type(session: FetchSession, url: str) -> str | None:
    """Return the media type of a document, or ``None`` if the server does not currently report it."""

    async def ask(method: str) -> FetchedResponse:
        async with session.open(url, seconds=KIND_TIMEOUT_S, method=method) as response:
            return response

    try:
        response = await ask("HEAD")
        if response.status >= 400:  # retry with GET, because many servers do not support HEAD
            response = await ask("GET")
    except (InvalidRequest, Unavailable):
        raise
    except PorticoError:
        return None
    return response.media_type if response.status == 200 else None
