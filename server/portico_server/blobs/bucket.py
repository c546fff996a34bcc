"""Storage of bytes in a bucket with the S3 protocol, with a cache on this machine.

``PutObject`` sends an object in one request. S3 accepts up to `MAX_OBJECT_BYTES` and checks the object against the
digest in the request's signature, so an interrupted request leaves nothing behind.

https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar
from uuid import uuid4

from portico_server.blobs.cache import BlobCache
from portico_server.blobs.place import (
    ABANDONED_S,
    BlobPlace,
    FolderBlobs,
    ReceivedFile,
    StorageUnavailable,
    append_hashed,
    sync_file,
    write_failure,
)
from portico_server.blobs.s3 import EMPTY_BODY_SHA256, BucketEndpoint, encode_path, sign_headers
from portico_server.core import pools
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.db import blob_marks as marks
from portico_server.db.blob_marks import BlobKind
from portico_server.db.database import Database
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    import aiohttp

T = TypeVar("T")

logger = logging.getLogger(__name__)

MAX_OBJECT_BYTES: Final = 5 * 1024 * MB_BYTES
"""Maximum size of an object sent in one request, in bytes."""

ATTEMPTS: Final = 3
"""Maximum number of attempts for a request that fails with a transient error."""

RETRY_S: Final = 0.25
"""Seconds before the second attempt; the delay doubles before each further attempt."""

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 30.0
"""Maximum seconds to wait for the next bytes."""

MIN_BYTES_PER_S: Final = 50_000
"""Minimum transfer rate of an object, in bytes per second; a slower request is cancelled."""

ANSWER_TIMEOUT_S: Final = 60.0
"""Maximum seconds for a request without a body, for each attempt."""

REMOVAL_TIMEOUT_S: Final = 20.0
"""Maximum seconds for removing an object. A sweep later removes objects whose removal failed."""

REMOVAL_LEASE_S: Final = 120.0
"""Seconds during which bytes that are being removed cannot be added again."""

REMOVAL_WAIT_S: Final = 10.0
"""Maximum seconds that an upload waits while the same bytes are being removed."""

REMOVAL_POLL_S: Final = 0.1

PROBE_S: Final = 10.0
"""Seconds after the bucket's last response during which its state is reported without asking it again."""

MAX_CONCURRENT_REQUESTS: Final = 8
MAX_MARKS_PER_STATEMENT: Final = 100
"""Maximum number of digests per transaction."""

SMALL_BYTES: Final = 256 * 1024
"""Maximum size, in bytes, of an object that is uploaded without checking first whether it exists."""

_BLOCK_BYTES: Final = 1024 * 1024
_MAX_ERROR_BYTES: Final = 16 * 1024
_CODE: Final = re.compile(rb"<Code>(\w{1,60})</Code>")
_MOMENTARY: Final = frozenset({408, 429, 500, 502, 503, 504})
_CLOCK: Final = "The clock of this machine is wrong."
_CREDENTIALS: Final = "The operator must renew its credentials."
_TODO: Final[Mapping[str, str]] = {
    "NoSuchBucket": "The operator must create it, or correct the setting 'files'.",
    "AccessDenied": "The credentials need permission to get, put, delete and list the bucket's objects.",
    "ExpiredToken": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": "The secret key does not belong to the access key: see the setting s3_secret_key.",
    "PermanentRedirect": "The bucket is in another region: see the settings s3_region and s3_endpoint.",
    "AuthorizationHeaderMalformed": "The bucket is in another region: see the setting s3_region.",
    "RequestTimeTooSkewed": _CLOCK,
}


class _Refused(Exception):
    """The bucket returned an error status."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code


class Bucket:
    """The objects of a bucket under an address ``s3://BUCKET/PREFIX``; errors call the objects ``content``.

    Raises `Unavailable` if the bucket fails, with a message that reveals neither the location nor the credentials.
    """

    def __init__(self, address: str, endpoint: BucketEndpoint, content: str = "files") -> None:
        self._content = content
        bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self._prefix = f"/{bucket}/{prefix.strip('/')}".rstrip("/")
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None
        self._problem: StorageUnavailable | None = None
        self._answered_at = -PROBE_S
        self.slots = asyncio.Semaphore(MAX_CONCURRENT_REQUESTS)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def problem(self) -> PorticoError | None:
        """Return the error that prevents the use of the bucket, or ``None``."""
        if time.monotonic() - self._answered_at > PROBE_S:
            with suppress(PorticoError, FileNotFoundError):
                await self._try(1, self._check, REMOVAL_TIMEOUT_S)
        return self._problem

    async def put(self, path: Path, name: str, sha256: str, size: int, *, start: int = 0) -> None:
        """Upload ``size`` bytes of a file, from ``start``, as the object ``name``; the server checks their digest."""
        async with self.slots:
            if size > SMALL_BYTES and await self.size(name) == size:
                return
            await self._try(ATTEMPTS, partial(self._put, path, name, sha256, size, start), _patience(size))

    async def download(
        self, name: str, sha256: str, to: Path, *, start: int | None = None, size: int | None = None
    ) -> None:
        """Download an object of at most ``size`` bytes to a new file, or into an existing file at ``start``, and sync
        it to disk.

        Raises `FileNotFoundError` if the object does not exist.
        """
        size = MAX_OBJECT_BYTES if size is None else size
        async with self.slots:
            actual_sha256 = await self._try(
                ATTEMPTS, partial(self._get, name, to, start, size), _patience(size)
            )
        if actual_sha256 != sha256:
            raise self._damaged()

    async def read(self, name: str, max_bytes: int) -> bytes:
        """Return an object's bytes. Raises `FileNotFoundError` if the object does not exist."""

        async def get() -> bytes:
            async with self._request("GET", name) as answer:
                data = bytearray()
                async for block in answer.content.iter_chunked(_BLOCK_BYTES):
                    data += block
                    if len(data) > max_bytes:
                        raise self._damaged()
                return bytes(data)

        async with self.slots:
            return await self._try(ATTEMPTS, get, _patience(max_bytes))

    async def remove(self, name: str) -> None:
        """Delete an object in a single attempt. A missing object is not an error."""
        async with self.slots:
            with suppress(FileNotFoundError):
                await self._try(1, partial(self._delete, name), REMOVAL_TIMEOUT_S)

    async def _put(self, path: Path, name: str, sha256: str, size: int, start: int) -> None:
        with await pools.UPLOADS.run(path.open, "rb") as source:
            source.seek(start)
            async with self._request("PUT", name, sha256, size, _blocks(source, size)):
                pass

    async def _get(self, name: str, to: Path, start: int | None, max_bytes: int) -> str:
        digest, size, began_at = hashlib.sha256(), 0, time.monotonic()
        with await _open_file(to, start) as out:
            async with self._request("GET", name) as answer:
                async for block in answer.content.iter_chunked(_BLOCK_BYTES):
                    size += len(block)
                    if size > max_bytes:
                        raise self._damaged()
                    if time.monotonic() - began_at > _patience(size):
                        raise TimeoutError
                    await _on_disk(append_hashed, out, digest, block)
            await _on_disk(sync_file, out)
        return digest.hexdigest()

    async def _delete(self, name: str) -> None:
        async with self._request("DELETE", name):
            pass

    async def size(self, name: str) -> int | None:
        """Return the size of an object in bytes, or ``None`` if it does not exist."""

        async def head() -> int | None:
            async with self._request("HEAD", name) as answer:
                return answer.content_length

        try:
            return await self._try(ATTEMPTS, head, ANSWER_TIMEOUT_S)
        except FileNotFoundError:
            return None

    async def _check(self) -> None:
        async with self._request("GET", "blobs/00/probe"):
            pass

    async def _try(self, attempts: int, work: Callable[[], Awaitable[T]], seconds: float) -> T:
        """Return the result of ``work``, limited to ``seconds`` per attempt and repeated after transient errors."""
        import aiohttp

        for attempt in range(attempts):
            if attempt:
                await asyncio.sleep(RETRY_S * 2 ** (attempt - 1))
            try:
                async with asyncio.timeout(seconds):
                    result = await work()
            except _Refused as error:
                self._note(self._explain(error))
                if error.status not in _MOMENTARY:
                    break
            except FileNotFoundError:
                self._note(None)
                raise
            except (aiohttp.ClientError, ConnectionError, TimeoutError) as error:
                late = isinstance(error, TimeoutError)
                wrong = "is too slow" if late else "cannot be reached"
                self._note(
                    StorageUnavailable(
                        f"The bucket of the {self._content} {wrong}. Nothing was lost; try again.",
                        retry_after=PROBE_S,
                    )
                )
            else:
                self._note(None)
                return result
        assert self._problem is not None
        raise self._problem

    def _note(self, problem: StorageUnavailable | None) -> None:
        self._answered_at = time.monotonic()
        if problem is not None and (self._problem is None or self._problem.message != problem.message):
            logger.error("%s", problem.message)
        elif problem is None and self._problem is not None:
            logger.info("the bucket of the %s responds again", self._content)
        self._problem = problem

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        name: str,
        sha256: str = EMPTY_BODY_SHA256,
        size: int = 0,
        body: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield a successful response. Raises `_Refused` for an error, and `FileNotFoundError` if the object does not
        exist.
        """
        from yarl import URL

        path = encode_path(f"{self._prefix}/{name}", slashes=True)
        place, who = self._endpoint, self._endpoint.credentials
        assert who is not None
        headers = sign_headers(
            who, place.region, place.host, path, "", datetime.now(UTC), method=method, body_sha256=sha256
        )
        if body is not None:
            headers["content-length"] = str(size)
        url = URL(f"{place.endpoint}{path}", encoded=True)
        async with self._open_session().request(
            method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            if answer.status >= 300:
                match = _CODE.search(await answer.content.read(_MAX_ERROR_BYTES))
                code = match[1].decode() if match else ""
                if answer.status == 404 and code in ("", "NoSuchKey"):
                    raise FileNotFoundError(name)
                raise _Refused(answer.status, code)
            yield answer

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            from portico_server.http.client import open_session

            timeout = aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
            )
            self._session = open_session(timeout, auto_decompress=False)
        return self._session

    def _explain(self, error: _Refused) -> StorageUnavailable:
        code = f" ({error.code})" if error.code else ""
        if error.status in _MOMENTARY:
            text = f"returned {error.status}{code}. Nothing was lost; try again."
        elif error.code == "NoSuchBucket":
            text = f"does not exist{code}. {_TODO[error.code]}"
        else:
            text = (
                f"rejects this daemon: {error.status}{code}. {_TODO.get(error.code, _TODO['AccessDenied'])}"
            )
        return StorageUnavailable(f"The bucket of the {self._content} {text}", retry_after=PROBE_S)

    def _damaged(self) -> StorageUnavailable:
        return StorageUnavailable(
            f"The bucket of the {self._content} contains other bytes under the name of this file than were "
            "uploaded. Delete the file and upload it again.",
            code="file_content_damaged",
        )


def _patience(size: int) -> float:
    return ANSWER_TIMEOUT_S + size / MIN_BYTES_PER_S


async def _blocks(source: BinaryIO, remaining_bytes: int) -> AsyncIterator[bytes]:
    while remaining_bytes and (
        block := await pools.UPLOADS.run(source.read, min(_BLOCK_BYTES, remaining_bytes))
    ):
        remaining_bytes -= len(block)
        yield block


async def _on_disk(work: Callable[..., T], *args: Any) -> T:
    try:
        return await pools.UPLOADS.run(work, *args)
    except OSError as error:
        raise write_failure(error) from error


async def _open_file(path: Path, start: int | None) -> BinaryIO:
    """Open a file with `_create` in a thread. If the caller is cancelled meanwhile, close the file."""
    opening = asyncio.ensure_future(_on_disk(_create, path, start))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close)
        raise


def _close(opening: asyncio.Future[BinaryIO]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _create(path: Path, start: int | None) -> BinaryIO:
    """Create a file, or open an existing one at ``start``."""
    if start is None:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("wb")
    file = path.open("r+b")
    file.seek(start)
    return file


def writable_bucket(settings: Settings, address: str, content: str) -> Bucket:
    """Return the bucket at the ``address`` of a setting. Raises `InvalidRequest` if no credentials are configured."""
    endpoint = BucketEndpoint.of(settings)
    if endpoint.credentials is None:
        raise InvalidRequest(
            f"{content.capitalize()} in a bucket need credentials with write access: set s3_access_key and "
            "s3_secret_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
            code="invalid_setting",
            param="s3_access_key",
        )
    return Bucket(address, endpoint, content)


def open_bucket(settings: Settings) -> Bucket:
    """Return the bucket that the setting ``files`` names. Raises `InvalidRequest` for invalid settings."""
    bucket = writable_bucket(settings, settings.files, "files")
    if settings.max_file_mb * MB_BYTES > MAX_OBJECT_BYTES:
        raise InvalidRequest(
            f"Files in a bucket must not exceed {MAX_OBJECT_BYTES // MB_BYTES:,} MB: lower the setting "
            "max_file_mb.",
            code="invalid_setting",
            param="max_file_mb",
        )
    return bucket


class BlobPlaces:
    """The storage of all kinds of bytes, as configured by the setting ``files``. Raises the same errors as
    `open_bucket`.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._bucket = open_bucket(settings) if settings.files_in_bucket else None
        self._cache = BlobCache(settings.cache, settings.files_cache_mb * MB_BYTES)

    def of(self, kind: BlobKind) -> BlobPlace:
        """Return the storage for one kind of bytes."""
        if self._bucket is not None:
            return BucketBlobs(self._database, self._bucket, self._cache, kind)
        return FolderBlobs(self._database, self._settings.files_folder / kind.folder, kind)

    async def problem(self) -> PorticoError | None:
        """Return the error that prevents the use of the bucket, or ``None``."""
        return None if self._bucket is None else await self._bucket.problem()

    async def close(self) -> None:
        """Close the connections."""
        if self._bucket is not None:
            await self._bucket.close()


class BucketBlobs:
    """A `portico_server.blobs.place.BlobPlace` in a bucket, which daemons on one PostgreSQL share.

    A daemon marks bytes in the database before it uploads them, and before it removes them. Therefore no daemon
    removes bytes while another daemon is writing a row for them, and the marks show what a killed daemon left in the
    bucket.
    """

    def __init__(self, database: Database, bucket: Bucket, cache: BlobCache, kind: BlobKind) -> None:
        self._database = database
        self._bucket = bucket
        self._cache = cache
        self._kind = kind
        self._early: dict[str, list[str]] = {}
        """Maps digests of files that were stored before their row to the holders of their marks."""

    @property
    def arrivals(self) -> Path:
        return self._cache.arrivals

    @property
    def absence(self) -> str:
        return "no longer in the bucket of the files."

    async def start(self) -> None:
        await self._cache.start()  # `sweep` removes what a daemon left in the bucket

    async def sweep(self) -> None:
        while expired_digests := await self._database.read(
            marks.expired_digests, self._kind, MAX_MARKS_PER_STATEMENT
        ):
            await self.release(expired_digests)
        names = await self._cache.names(self._kind.folder)
        for i in range(0, len(names), MAX_MARKS_PER_STATEMENT):
            for name in await self._database.read(self._unheld, names[i : i + MAX_MARKS_PER_STATEMENT]):
                await self._cache.drop(name)  # another daemon has removed the object

    async def place(
        self, files: Sequence[ReceivedFile], write: Callable[[Any], T], *, durable: bool = True
    ) -> T:
        holder, digests = uuid4().hex, sorted({item.sha256 for item in files})

        def place_row(connection: Any) -> T:
            marks.withdraw(connection, self._kind, digests, holder)
            return write(connection)

        try:
            if not digests:
                return await self._database.write(write)
            await self._announce(digests, holder)
            try:
                await self._put_all(files)
                result = await self._database.write(place_row)
            except BaseException:
                await asyncio.shield(self._abandon(digests, holder))
                raise
            for item in files:
                await self._adopt(item)
            return result
        finally:
            for item in files:
                item.path.unlink(missing_ok=True)  # also if this task is being cancelled

    async def place_early(self, file: ReceivedFile) -> None:
        holder = uuid4().hex
        await self._announce([file.sha256], holder)
        try:
            await self._put(file)
        except BaseException:
            await asyncio.shield(self._abandon([file.sha256], holder))
            raise
        self._early.setdefault(file.sha256, []).append(holder)
        await self._adopt(file)

    async def forget(self, digests: Collection[str]) -> None:
        for digest in digests:
            if holders := self._early.get(digest):
                holder = holders.pop()
                if not holders:
                    del self._early[digest]
                await self._abandon([digest], holder)  # keeps bytes that have a row or are being added again

    async def release(self, digests: Sequence[str]) -> None:
        for i in range(0, len(digests), MAX_MARKS_PER_STATEMENT):
            batch = digests[i : i + MAX_MARKS_PER_STATEMENT]
            going = await self._database.write(marks.begin_removal, self._kind, batch, REMOVAL_LEASE_S)
            if going:
                await self._remove_all(going)

    def holds(self, sha256: str, size: int) -> bool:
        return True  # rows are written only after the upload

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]:
        name = self._kind.name(sha256)
        return self._cache.open(name, partial(self._bucket.download, name, sha256))

    async def _announce(self, digests: Sequence[str], holder: str) -> None:
        until = time.monotonic() + REMOVAL_WAIT_S
        while not await self._database.write(marks.announce, self._kind, digests, holder, ABANDONED_S):
            if time.monotonic() > until:
                raise StorageUnavailable(
                    "The bucket of the files is still removing the same bytes. Nothing was stored; try again.",
                    retry_after=REMOVAL_LEASE_S,
                )
            await asyncio.sleep(REMOVAL_POLL_S)

    async def _put_all(self, files: Sequence[ReceivedFile]) -> None:
        if len(files) == 1:
            await self._put(files[0])
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                for item in files:
                    tasks.create_task(self._put(item))
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None

    async def _put(self, item: ReceivedFile) -> None:
        await self._bucket.put(item.path, self._kind.name(item.sha256), item.sha256, item.bytes)

    async def _adopt(self, item: ReceivedFile) -> None:
        with suppress(OSError):  # the file can be downloaded again
            await self._cache.adopt(item.path, self._kind.name(item.sha256))

    async def _abandon(self, digests: Sequence[str], holder: str) -> None:
        """Remove bytes that were uploaded but got no row; a sweep finds bytes that could not be removed."""
        try:
            await self._database.write(marks.withdraw, self._kind, digests, holder)
            await self.release(digests)
        except PorticoError as error:
            logger.warning("unused bytes in the bucket will be removed later: %s", error.message)

    async def _remove_all(self, digests: Sequence[str]) -> None:
        """Remove the bytes that are marked for removal; bytes that could not be removed stay marked until a sweep
        finds them.
        """

        async def remove(digest: str) -> bool:
            name = self._kind.name(digest)
            await self._cache.drop(name)
            try:
                await self._bucket.remove(name)
            except StorageUnavailable:
                return False
            return True

        removals = await asyncio.gather(*(remove(digest) for digest in digests))
        removed_digests = [digest for digest, has_done in zip(digests, removals, strict=True) if has_done]
        if removed_digests:
            await self._database.write(marks.withdraw, self._kind, removed_digests, marks.REMOVING)

    def _unheld(self, connection: Any, names: Sequence[str]) -> list[str]:
        return [name for name in names if not self._kind.is_held(connection, _digest(name))]


def _digest(name: str) -> str:
    """Return the digest of a blob, whose file name may omit the two digits that its folder already contains."""
    _folder, digits, file_name = name.split("/")
    return file_name if len(file_name) == 64 else digits + file_name
