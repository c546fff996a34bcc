"""A bucket that speaks S3's protocol as a source: ``ListObjectsV2`` and ``GetObject``.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
"""

from __future__ import annotations

import hashlib
import hmac
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote_plus, urlsplit

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.core.interfaces import FetchedResponse, Fetcher, FetchSession
from portico_server.db.stores import StoreFileRow
from portico_server.knowledge.files import FileStorage
from portico_server.knowledge.names import name_on_disk
from portico_server.knowledge.sources import fetch
from portico_server.knowledge.sources.fetch import ETagCache, ETagEntry
from portico_server.knowledge.sources.pages import is_answer
from portico_server.knowledge.sources.source import FetchFailure, FetchResult, SourceLimits
from portico_server.knowledge.sources.spec import SourceSpec
from portico_server.knowledge.walk import SourceEntry, Walk, unfit_reason
from portico_server.settings import Settings

# AWS Signature Version 4, for requests without a body: who asks, as an ``Authorization`` header.
#
# https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html


EMPTY_BODY_SHA256 = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class BucketCredentials:
    """A key pair and, for temporary ones, its token. Never shown."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)


def encode_path(text: str, *, slashes: bool = False) -> str:
    """Percent-encoded as the signature counts it: everything but letters, digits and ``-._~``."""
    return quote(text, safe="-._~/" if slashes else "-._~")


def encode_query(values: Mapping[str, str]) -> str:
    """A query in the order and encoding in which it is signed."""
    return "&".join(f"{encode_path(name)}={encode_path(value)}" for name, value in sorted(values.items()))


def sign_headers(
    who: BucketCredentials,
    region: str,
    host: str,
    path: str,
    query_string: str,
    now: datetime,
    headers: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The headers of a GET request. ``path`` and ``query_string`` are encoded, ``now`` is in UTC."""
    stamp = now.strftime("%Y%m%dT%H%M%SZ")
    sent = {
        **{name.lower(): value for name, value in (headers or {}).items()},
        "x-amz-content-sha256": EMPTY_BODY_SHA256,
        "x-amz-date": stamp,
    }
    if who.token:
        sent["x-amz-security-token"] = who.token
    counted = {**sent, "host": host}
    names = ";".join(sorted(counted))
    canonical = "\n".join(
        [
            "GET",
            path,
            query_string,
            *(f"{name}:{counted[name].strip()}" for name in sorted(counted)),
            "",
            names,
            EMPTY_BODY_SHA256,
        ]
    )
    scope = f"{stamp[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    key = f"AWS4{who.secret_key}".encode()
    for part in (stamp[:8], region, "s3", "aws4_request", text):
        key = hmac.digest(key, part.encode(), "sha256")
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={who.access_key}/{scope},SignedHeaders={names},Signature={key.hex()}"
    )
    return sent


LIST_TIMEOUT_S = 120.0
"""Seconds that one page of the list may take."""

MAX_LIST_PAGE_BYTES = 32 * 1024 * 1024
"""Bytes of one page of the list: a thousand keys of a thousand characters."""


@dataclass(frozen=True, slots=True)
class BucketEndpoint:
    """Where the buckets are, and who asks. Without ``credentials`` requests are not signed: for public buckets."""

    endpoint: str
    region: str
    credentials: BucketCredentials | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings, environment: Mapping[str, str] | None = None) -> BucketEndpoint:
        """As the settings say, and where they say nothing the variables that AWS's own programs read.

        Raises `InvalidRequest` for an endpoint that is no ``http(s)://HOST[:PORT]`` and for half a key pair.
        """
        known = os.environ if environment is None else environment
        region = (
            settings.s3_region or known.get("AWS_REGION") or known.get("AWS_DEFAULT_REGION") or "us-east-1"
        )
        endpoint = settings.s3_endpoint or known.get("AWS_ENDPOINT_URL_S3") or known.get("AWS_ENDPOINT_URL")
        endpoint = (endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/")
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path or parts.query:
            raise InvalidRequest(
                "The setting s3_endpoint must be http://HOST:PORT or https://HOST, without a path.",
                code="invalid_setting",
                param="s3_endpoint",
            )
        if settings.s3_access_key or settings.s3_secret_key:
            key, secret, token = settings.s3_access_key, settings.s3_secret_key, ""
        else:
            key, secret = known.get("AWS_ACCESS_KEY_ID", ""), known.get("AWS_SECRET_ACCESS_KEY", "")
            token = known.get("AWS_SESSION_TOKEN", "")
        if bool(key) != bool(secret):
            raise InvalidRequest(
                "Of s3_access_key and s3_secret_key only one is set; set both, or none for public buckets.",
                code="invalid_setting",
                param="s3_access_key",
            )
        return cls(endpoint, region, BucketCredentials(key, secret, token) if key else None)

    @property
    def host(self) -> str:
        """As the header ``Host`` has it."""
        return urlsplit(self.endpoint).netloc

    @property
    def trusted(self) -> tuple[str, ...]:
        """The host and port that the operator has named by naming the endpoint."""
        parts = urlsplit(self.endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return (f"{parts.hostname}:{port}",)

    def open(
        self, session: FetchSession, path: str, query: Mapping[str, str], seconds: float
    ) -> AbstractAsyncContextManager[FetchedResponse]:
        """Ask for ``path`` (``/BUCKET/KEY``), signed if there are credentials."""
        at, wanted = encode_path(path, slashes=True), encode_query(query)
        headers: dict[str, str] = {}
        if self.credentials is not None:
            now = datetime.now(UTC)
            headers = sign_headers(self.credentials, self.region, self.host, at, wanted, now)
        url = f"{self.endpoint}{at}{f'?{wanted}' if wanted else ''}"
        return session.open(url, headers, seconds=seconds, signed=True)


class BucketSource:
    """A `portico_server.knowledge.sources.source.StoreSource`. Keys are names; what lies below a prefix is named
    without it.
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
        """What is kept of this bucket, by entity tag."""
        self._tags: dict[str, str] = {}

    @property
    def address(self) -> str:
        return f"bucket {self._address}"

    async def scan(self) -> Walk:
        await self._notes.load()
        found = Walk()
        self._digests = self._notes.digests()
        self._tags.clear()
        token = ""
        async with self._fetcher.session(self._endpoint.trusted) as session:
            while True:
                objects, token = await self._page(session, token)
                for item in objects:
                    self._see(found, item)
                if len(self._tags) > self._limits.files:
                    raise InvalidRequest(
                        f"{self._address} holds more than {self._limits.files:,} files. Follow a prefix of it, or "
                        "raise the setting source_max_files.",
                        code="source_too_large",
                        param="source",
                    )
                if not token:
                    break
        self._notes.keep(self._tags)
        return found

    async def digest(self, seen: SourceEntry) -> str | None:
        return self._digests.get(self._tags.get(seen.at, ""))

    async def take(self, wanted: Sequence[tuple[SourceEntry, StoreFileRow | None]]) -> list[FetchResult]:
        async with self._fetcher.session(self._endpoint.trusted) as session:

            async def one(seen: SourceEntry, old: StoreFileRow | None) -> FetchResult:
                return await self._take(session, seen)

            taken = await fetch.fetch_all(self._files, wanted, one)
        await self._notes.save()
        return taken

    async def _take(self, session: FetchSession, seen: SourceEntry) -> FetchResult:
        path = f"/{self._bucket}/{seen.at}"
        async with self._endpoint.open(session, path, {}, self._limits.seconds) as came:
            if came.status == 404:
                return FetchFailure("gone while looking")
            if came.status != 200:
                code = await _refusal(came)
                return FetchFailure(
                    is_answer(came.status), detail=f"{is_answer(came.status)} ({code})" if code else ""
                )
            taken = await fetch.receive_document(self._files, came, seen.name, self._limits.bytes)
            tag = came.headers.get("etag", self._tags.get(seen.at, ""))
        if isinstance(taken, FetchFailure):
            self._notes.note(seen.at, ETagEntry(seen.name, tag, refused=taken.reason))
        else:
            self._notes.note(seen.at, ETagEntry(seen.name, tag, sha256=taken.sha256))
        return taken

    async def _page(self, session: FetchSession, token: str) -> tuple[list[dict[str, str]], str]:
        from portico_server.knowledge.sources import listing  # lxml is not for the start of the daemon

        query = {"list-type": "2", "encoding-type": "url"}
        if self._prefix:
            query["prefix"] = self._prefix
        if token:
            query["continuation-token"] = token
        async with self._endpoint.open(session, f"/{self._bucket}", query, LIST_TIMEOUT_S) as came:
            if came.status != 200:
                raise self._refused(came, await _refusal(came))
            data = await fetch.read_body(came.body, MAX_LIST_PAGE_BYTES)
        try:
            return await pools.DOCUMENTS.run(listing.objects, data)
        except ValueError as error:
            raise Unavailable(
                f"{self._endpoint.endpoint} does not list the bucket as S3 does: {error}. Is s3_endpoint right?",
                code="source_unreadable",
            ) from error

    def _refused(self, came: FetchedResponse, code: str) -> Unavailable:
        todo = {
            "NoSuchBucket": "There is no such bucket there.",
            "SignatureDoesNotMatch": "The secret key is not that of the access key: see s3_secret_key.",
            "InvalidAccessKeyId": "The access key is not known there: see s3_access_key.",
            "AccessDenied": "Set s3_access_key and s3_secret_key of somebody who may list it.",
            "PermanentRedirect": "It lies in another region: see s3_region and s3_endpoint.",
            "AuthorizationHeaderMalformed": "It lies in another region: see s3_region.",
            "RequestTimeTooSkewed": "The clock of this machine is wrong.",
        }.get(code, "What was indexed is kept; sync again when it is back.")
        what = is_answer(came.status) + (f" ({code})" if code else "")
        return Unavailable(f"The bucket {self._address} {what}. {todo}", code="source_unreadable")

    def _see(self, found: Walk, item: Mapping[str, str]) -> None:
        key = unquote_plus(item.get("Key", ""))
        name = name_on_disk(key.removeprefix(self._prefix))
        if not name or name.endswith("/") or any(part.startswith(".") for part in name.split("/")):
            return  # the mark of a folder, or hidden as in a folder
        size = int(item.get("Size") or 0)
        tag = item.get("ETag", "")
        self._tags[key] = tag
        note = self._notes.of(key)
        why = unfit_reason(
            name,
            size,
            max_bytes=self._limits.bytes,
            pictures=self._limits.pictures,
            recordings=self._limits.recordings,
        )
        if not why and any(part in ("", "..") for part in name.split("/")):
            why = "unusable name"
        if not why and note.refused and tag and note.tag == tag:
            why = note.refused
        if why:
            found.skip(name, why)
        else:
            found.files[name] = SourceEntry(name, key, size, _state(item.get("LastModified", ""), tag))


def _state(modified: str, tag: str) -> int:
    """The time of an object's last change in nanoseconds. Such times are often whole seconds: within one, the entity
    tag distinguishes one state from another.
    """
    try:
        seconds = int(datetime.fromisoformat(modified).timestamp())
    except ValueError:
        seconds = 0
    return seconds * 1_000_000_000 + zlib.crc32(tag.encode()) % 1_000_000_000


async def _refusal(came: FetchedResponse) -> str:
    from portico_server.knowledge.sources import listing

    return listing.refusal(await anext(came.body, b""))
