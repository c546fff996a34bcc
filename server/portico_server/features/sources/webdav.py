"""A folder on a WebDAV server (Nextcloud, SharePoint, Apache …) as a source, including its subfolders. RFC 4918."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.fetching import Fetcher, FetchSession
from portico_server.core.filenames import to_filename
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import fetch
from portico_server.features.sources.fetch import ETagCache, ETagEntry
from portico_server.features.sources.limits import SourceLimits
from portico_server.features.sources.pages import is_answer
from portico_server.features.sources.source import FetchFailure, FetchResult, change_time
from portico_server.features.sources.spec import WEBDAV, SourceSpec
from portico_server.features.sources.walk import IGNORED_FOLDERS, SourceEntry, Walk, unfit_reason

if TYPE_CHECKING:
    from portico_server.features.sources.listing import Member

LIST_TIMEOUT_S = 120.0
"""Maximum time for listing one folder, in seconds."""

SCAN_TIMEOUT_S = 3_600.0
"""Maximum time for listing all folders, in seconds."""

MAX_FOLDERS = 20_000
"""Maximum number of folders that are listed."""

MAX_FOLDER_DEPTH = 64
"""Maximum depth of folders."""

MAX_READERS = 1_000_000
"""Maximum number of users and groups in the rights of all files together."""

_ASKED = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>'
    b"<getlastmodified/><getetag/>%b</prop></propfind>"
)
_RIGHTS = b"<acl/><owner/><group/>"


class WebDavSource:
    """A WebDAV folder as a `portico_server.features.sources.source.StoreSource`.

    Each folder is listed separately (depth 1), because many servers reject a greater depth. ``login`` is
    ``USER:PASSWORD`` for the host, or empty. With ``has_rights``, a scan reads who may read the files.
    """

    def __init__(
        self,
        spec: SourceSpec,
        fetcher: Fetcher,
        files: FileStorage,
        notes: ETagCache,
        limits: SourceLimits,
        login: str,
        *,
        has_rights: bool = False,
    ) -> None:
        self._has_rights = has_rights
        self._readers_count = 0
        self._root = spec.addresses[0].removeprefix(WEBDAV)
        self._fetcher = fetcher
        self._files = files
        self._notes = notes
        self._limits = limits
        self._headers = (
            {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"} if login else {}
        )
        self._tags: dict[str, str] = {}
        """Entity tags found by the last scan, by address."""

    @property
    def address(self) -> str:
        return f"WebDAV folder {self._root}"

    async def scan(self) -> Walk:
        await self._notes.load()
        self._fetcher.check(self._root, secure=bool(self._headers))
        walk = Walk()
        self._tags.clear()
        self._readers_count = 0
        pending, seen_paths = [(self._root, 0)], {_path(self._root)}
        try:
            async with asyncio.timeout(SCAN_TIMEOUT_S), self._fetcher.session() as session:
                while pending:
                    url, depth = pending.pop()
                    for at, member in await self._list_folder(session, url, walk):
                        if not member.folder:
                            self._see(walk, at, member)
                        elif depth == MAX_FOLDER_DEPTH:
                            self._skip(walk, at, "too many folder levels")
                        elif _path(at) not in seen_paths and not _is_hidden(self._name(at)):
                            seen_paths.add(_path(at))
                            pending.append((at, depth + 1))
                    if len(seen_paths) > MAX_FOLDERS:
                        raise self._too_large(f"{MAX_FOLDERS:,} folders", "")
                    if self._readers_count > MAX_READERS:
                        raise self._too_large(f"{MAX_READERS:,} users and groups in its rights", "")
                    if len(self._tags) > self._limits.files:
                        raise self._too_large(
                            f"{self._limits.files:,} files", ", or raise the setting source_max_files"
                        )
        except TimeoutError as error:
            raise fetch.unreadable(
                self.address, f"its listings took more than {SCAN_TIMEOUT_S:g} s"
            ) from error
        self._notes.keep(self._tags)
        await self._notes.save()
        return walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        note = self._notes.of(source_entry.at)
        return (
            note.sha256 if note.sha256 and note.tag and note.tag == self._tags.get(source_entry.at) else None
        )

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        async with self._fetcher.session() as session:

            async def take_entry(source_entry: SourceEntry, old: StoreFileRow | None) -> FetchResult:
                return await self._take(session, source_entry)

            fetched_files = await fetch.fetch_all(self._files, entries, take_entry)
        await self._notes.save()
        return fetched_files

    async def _take(self, session: FetchSession, source_entry: SourceEntry) -> FetchResult:
        async with session.open(source_entry.at, self._headers, seconds=self._limits.seconds) as response:
            if response.status != 200:
                return FetchFailure(is_answer(response.status), gone=response.status in (404, 410))
            fetched_file = await fetch.receive_document(
                self._files, response, source_entry.name, self._limits.bytes
            )
        tag = self._tags.get(source_entry.at, "")
        if isinstance(fetched_file, FetchFailure):
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, tag, refused=fetched_file.reason))
        else:
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, tag, sha256=fetched_file.sha256))
        return fetched_file

    async def _list_folder(self, session: FetchSession, url: str, walk: Walk) -> list[tuple[str, Member]]:
        """Return the direct members of a folder by address. If the folder cannot be read, the files already known in
        it are kept.
        """
        try:
            members = await self._request_listing(session, url)
        except InvalidRequest:
            raise
        except PorticoError:
            if url == self._root:
                raise
            self._skip(walk, url, "not permitted")
            return []
        within = []
        for member in members:
            if at := _below(url, member):
                within.append((at, member))
            else:
                walk.skip(to_filename(member.href[:200]), "outside the followed folder")
        return within

    async def _request_listing(self, session: FetchSession, url: str) -> list[Member]:
        """Return the members of a folder that the server lists, except the folder itself."""
        from portico_server.features.sources import listing

        headers = {**self._headers, "Depth": "1", "Content-Type": "application/xml; charset=utf-8"}
        async with session.open(
            url,
            headers,
            seconds=LIST_TIMEOUT_S,
            method="PROPFIND",
            body=_ASKED % (_RIGHTS if self._has_rights else b""),
        ) as response:
            if _path(response.url) != _path(url) or _origin(response.url) != _origin(url):
                raise fetch.unreadable(
                    self.address,
                    f"it redirects to {response.url.partition('?')[0][:200]}: follow that address",
                )
            if response.status != 207:
                raise fetch.unreadable(self.address, self._reason(response.status))
            data = await fetch.read_body(response.body, listing.MAX_LIST_BYTES)
        try:
            members = await pools.DOCUMENTS.run(listing.members, data, urlsplit(url).netloc)
        except ValueError as error:
            raise fetch.unreadable(
                self.address, f"it did not return a valid WebDAV response: {error}"
            ) from error
        others = [member for member in members if not _is_same(url, member.href)]
        if url == self._root and any(_is_same(url, item.href) and not item.folder for item in members):
            raise fetch.unreadable(
                self.address, f"it is a file, not a folder: follow {self._root.rstrip('/')}"
            )
        return others

    def _reason(self, status: int) -> str:
        host = urlsplit(self._root).netloc
        if status == 401:
            return f"it requires a login: set or check source_logins, as {host}=USER:PASSWORD"
        if status == 200 or status in (405, 501):
            return "that address does not support WebDAV"
        return f"it {is_answer(status)}"

    def _see(self, walk: Walk, at: str, member: Member) -> None:
        name = self._name(at)
        if _is_hidden(name):
            return  # hidden by the rules for folders
        self._tags[at] = member.tag
        self._readers_count += sum(map(len, member.readers or ()))
        note = self._notes.of(at)
        reason = unfit_reason(
            name,
            member.size,
            max_bytes=self._limits.bytes,
            pictures=self._limits.pictures,
            recordings=self._limits.recordings,
        )
        if not reason and name in walk.files:
            reason = "unusable name"
        if not reason and note.refused and member.tag and note.tag == member.tag:
            reason = note.refused
        if reason:
            walk.skip(name, reason)
        else:
            walk.files[name] = SourceEntry(name, at, member.size, _state(member), member.readers)

    def _skip(self, walk: Walk, at: str, reason: str) -> None:
        """Skip a folder. The files already known in the folder are kept."""
        walk.skip(self._name(at), reason)
        walk.unknown.append(self._name(at))

    def _name(self, at: str) -> str:
        return to_filename(_path(at).removeprefix(_path(self._root)).strip("/"))

    def _too_large(self, limit_text: str, size_text: str) -> InvalidRequest:
        return fetch.source_too_large(
            f"{self._root} contains more than {limit_text}. Follow a subfolder{size_text}.",
        )


def _join(url: str, href: str) -> str:
    try:
        return urljoin(url, href)
    except ValueError:
        return ""


def _is_same(url: str, href: str) -> bool:
    """Return whether a server's ``href`` refers to the folder ``url`` itself."""
    return _path(_join(url, href)).rstrip("/") == _path(url).rstrip("/")


def _below(url: str, member: Member) -> str:
    """Return the address of a direct member of the folder ``url``, with a trailing ``/`` for a folder. Return "" for
    other members.
    """
    at = _join(url, member.href)
    path, above = _path(at).rstrip("/"), _path(url)
    name = path.removeprefix(above) if path.startswith(above) else ""
    if _origin(at) != _origin(url) or name in ("", ".", "..") or "/" in name or "\\" in name:
        return ""
    plain = urlsplit(at)._replace(query="", fragment="").geturl().rstrip("/")
    return f"{plain}/" if member.folder else plain


def _path(url: str) -> str:
    """Return the decoded path of an address. Servers differ in the characters they escape, so only decoded paths are
    comparable.
    """
    try:
        return unquote(urlsplit(url).path)
    except ValueError:
        return ""


def _origin(url: str) -> tuple[str, str | None, int | None]:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return "", None, None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part in IGNORED_FOLDERS for part in name.split("/"))


def _state(member: Member) -> int | None:
    """Return the time of a member's last change, or ``None`` if the server reports neither a time nor an entity tag."""
    try:
        seconds = int(parsedate_to_datetime(member.modified).timestamp())
    except (ValueError, TypeError, OverflowError):
        seconds = 0
    if not seconds and not member.tag:
        return None
    return change_time(seconds, member.tag)
