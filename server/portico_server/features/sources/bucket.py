"""A bucket as a source, accessed with the S3 protocol: ``ListObjectsV2`` and ``GetObject``.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import unquote_plus

from portico_server.blobs.s3 import BucketEndpoint
from portico_server.core import pools
from portico_server.core.errors import Unavailable
from portico_server.core.fetching import FetchedResponse, Fetcher, FetchSession
from portico_server.core.filenames import to_filename
from portico_server.core.words import whole_number
from portico_server.db.stores import StoreFileRow
from portico_server.features.files.files import FileStorage
from portico_server.features.sources import fetch
from portico_server.features.sources.fetch import ETagCache, ETagEntry
from portico_server.features.sources.limits import SourceLimits
from portico_server.features.sources.pages import is_answer
from portico_server.features.sources.source import FetchFailure, FetchResult, change_time
from portico_server.features.sources.spec import SourceSpec
from portico_server.features.sources.walk import SourceEntry, Walk, unfit_reason

SCAN_TIMEOUT_S = 3_600.0
"""Maximum time for listing a bucket, in seconds: a server can continue a listing forever with pages of no new keys."""

LIST_TIMEOUT_S = 120.0
"""Maximum time for one page of the list, in seconds."""

MAX_LIST_PAGE_BYTES = 32 * 1024 * 1024
"""Maximum size of one page of the list, in bytes. A page has up to a thousand keys of up to a thousand characters."""


class BucketSource:
    """A bucket as a `portico_server.features.sources.source.StoreSource`.

    The name of a file is the key of its object. If a store follows a prefix, the names omit the prefix.
    """

    def __init__(
        self,
        spec: SourceSpec,
        endpoint: BucketEndpoint,
        fetcher: Fetcher,
        files: FileStorage,
        notes: ETagCache,
        limits: SourceLimits,
    ) -> None:
        self._address = spec.addresses[0]
        self._bucket, _, self._prefix = self._address.removeprefix("s3://").partition("/")
        self._endpoint = endpoint
        self._fetcher = fetcher
        self._files = files
        self._notes = notes
        self._limits = limits
        self._digests: dict[str, str] = {}
        """Digests of the stored contents of this bucket, by entity tag."""
        self._tags: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"bucket {self._address}"

    async def scan(self) -> Walk:
        await self._notes.load()
        walk = Walk()
        self._digests = self._notes.digests()
        self._tags.clear()
        token = ""
        try:
            async with (
                asyncio.timeout(SCAN_TIMEOUT_S),
                self._fetcher.session(self._endpoint.trusted) as session,
            ):
                while True:
                    objects, token = await self._page(session, token)
                    for item in objects:
                        self._see(walk, item)
                    if len(self._tags) > self._limits.files:
                        raise fetch.source_too_large(
                            f"{self._address} contains more than {self._limits.files:,} files. Follow a prefix "
                            "of the bucket, or raise the setting source_max_files.",
                        )
                    if not token:
                        break
        except TimeoutError as error:
            raise fetch.unreadable(
                self.address, f"its listings took more than {SCAN_TIMEOUT_S:g} s"
            ) from error
        self._notes.keep(self._tags)
        return walk

    async def digest(self, source_entry: SourceEntry) -> str | None:
        return self._digests.get(self._tags.get(source_entry.at, ""))

    async def take(self, entries: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        async with self._fetcher.session(self._endpoint.trusted) as session:

            async def take_entry(source_entry: SourceEntry, old: StoreFileRow | None) -> FetchResult:
                return await self._take(session, source_entry)

            fetched_files = await fetch.fetch_all(self._files, entries, take_entry)
        await self._notes.save()
        return fetched_files

    async def _take(self, session: FetchSession, source_entry: SourceEntry) -> FetchResult:
        path = f"/{self._bucket}/{source_entry.at}"
        async with self._endpoint.open(session, path, {}, self._limits.seconds) as response:
            if response.status == 404:
                return FetchFailure("removed during the scan")
            if response.status != 200:
                code = await _refusal(response)
                return FetchFailure(
                    is_answer(response.status),
                    detail=f"{is_answer(response.status)} ({code})" if code else "",
                )
            fetched_file = await fetch.receive_document(
                self._files, response, source_entry.name, self._limits.bytes
            )
            tag = response.headers.get("etag", self._tags.get(source_entry.at, ""))
        if isinstance(fetched_file, FetchFailure):
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, tag, refused=fetched_file.reason))
        else:
            self._notes.note(source_entry.at, ETagEntry(source_entry.name, tag, sha256=fetched_file.sha256))
        return fetched_file

    async def _page(self, session: FetchSession, token: str) -> tuple[list[dict[str, str]], str]:
        from portico_server.features.sources import listing

        query = {"list-type": "2", "encoding-type": "url"}
        if self._prefix:
            query["prefix"] = self._prefix
        if token:
            query["continuation-token"] = token
        async with self._endpoint.open(session, f"/{self._bucket}", query, LIST_TIMEOUT_S) as response:
            if response.status != 200:
                raise self._refusal(response, await _refusal(response))
            data = await fetch.read_body(response.body, MAX_LIST_PAGE_BYTES)
        try:
            return await pools.DOCUMENTS.run(listing.objects, data)
        except ValueError as error:
            raise Unavailable(
                f"{self._endpoint.endpoint} did not return a valid S3 listing: {error}. Check s3_endpoint.",
                code="source_unreadable",
            ) from error

    def _refusal(self, response: FetchedResponse, code: str) -> Unavailable:
        todo = {
            "NoSuchBucket": "The bucket does not exist.",
            "SignatureDoesNotMatch": "The secret key does not match the access key: check s3_secret_key.",
            "InvalidAccessKeyId": "The access key is unknown to the server: check s3_access_key.",
            "AccessDenied": "Set s3_access_key and s3_secret_key of a user who may list the bucket.",
            "PermanentRedirect": "The bucket is in another region: check s3_region and s3_endpoint.",
            "AuthorizationHeaderMalformed": "The bucket is in another region: check s3_region.",
            "RequestTimeTooSkewed": "The clock of this machine is wrong.",
        }.get(code, "The files indexed so far are kept; sync again when the server is available.")
        problem = is_answer(response.status) + (f" ({code})" if code else "")
        return Unavailable(f"The bucket {self._address} {problem}. {todo}", code="source_unreadable")

    def _see(self, walk: Walk, item: Mapping[str, str]) -> None:
        key = unquote_plus(item.get("Key", ""))
        path = key.removeprefix(self._prefix)
        if not path or path.endswith("/") or any(part.startswith(".") for part in path.split("/")):
            return  # a folder marker, or a name that the rules for folders hide
        name = to_filename(path)
        size = whole_number(item.get("Size", "")) or 0
        tag = item.get("ETag", "")
        self._tags[key] = tag
        note = self._notes.of(key)
        reason = unfit_reason(
            name,
            size,
            max_bytes=self._limits.bytes,
            pictures=self._limits.pictures,
            recordings=self._limits.recordings,
        )
        if not reason and name in walk.files:
            reason = "unusable name"
        if not reason and note.refused and tag and note.tag == tag:
            reason = note.refused
        if reason:
            walk.skip(name, reason)
        else:
            walk.files[name] = SourceEntry(name, key, size, _state(item.get("LastModified", ""), tag))


def _state(modified_at: str, tag: str) -> int:
    """Return the time of an object's last change.

    Servers often report times in whole seconds, so the entity tag distinguishes changes within one second.
    """
    try:
        seconds = int(datetime.fromisoformat(modified_at).timestamp())
    except (ValueError, OverflowError):
        seconds = 0
    return change_time(seconds, tag)


async def _refusal(response: FetchedResponse) -> str:
    from portico_server.features.sources import listing

    return listing.refusal(await anext(response.body, b""))
