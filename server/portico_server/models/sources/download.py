"""Downloads one file over HTTP. Imports aiohttp.

An interrupted download is resumed, and the file gets its name only after verification.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp

from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, Unavailable, retry_after_s

_CHUNK_BYTES = 1024 * 1024
_CHECKED_CHUNKS_COUNT = 64
_MAX_ATTEMPTS = 5
_FIRST_PAUSE_S = 0.5
"""Seconds before the first retry. The pause doubles before each further retry."""
_MAX_PAUSE_S = 30.0
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_MAX_LISTING = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """The properties that a file must have.

    They are its size in bytes, and its SHA-256 or git blob id in hex if the hub provides one.
    """

    size: int
    sha256: str = ""
    blob: str = ""

    @property
    def known(self) -> str:
        return self.sha256 or self.blob


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file at a URL: the request headers, and the errors to raise for a refusal and for an unreachable network."""

    session: aiohttp.ClientSession
    url: str
    headers: Mapping[str, str]
    refused: Callable[[int, Mapping[str, str]], PorticoError]
    unreachable: Callable[[str], PorticoError]


class _Mismatch(Exception):
    """The file is complete, but its contents are not the expected ones."""


class _Passing(Exception):
    """The hub asks the client to retry later; ``pause`` is the wait in seconds, if the hub specifies it."""

    def __init__(self, status: int, pause: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.pause = pause


async def get_json(remote: RemoteFile) -> Any:
    """GET a JSON document, with one retry. Raise the error of ``remote``, or `Unavailable` for invalid JSON."""
    attempt = 0
    while True:
        try:
            async with _get(remote) as response:
                body = bytearray()
                async for chunk in response.content.iter_any():
                    body += chunk
                    if len(body) > _MAX_LISTING:
                        break  # a listing above the limit is truncated, so parsing reports invalid JSON
                return _parse(bytes(body), remote)
        except (aiohttp.ClientError, TimeoutError, _Passing) as error:
            if attempt:
                raise remote.unreachable(_describe(error)) from error
            await asyncio.sleep(_pause(error, attempt))
            attempt += 1


async def get_range(remote: RemoteFile, start: int, end: int) -> bytes:
    """Return the bytes of a file from ``start`` up to ``end``, or fewer if the file is shorter. Raise the error of
    ``remote``.
    """
    try:
        async with _get(remote, {"Range": f"bytes={start}-{end - 1}"}) as response:
            # Without support for ranges, the server sends the file from its beginning.
            skipped_bytes = 0 if response.status == 206 else start
            body = bytearray()
            async for chunk in response.content.iter_any():
                body += chunk
                if len(body) >= skipped_bytes + end - start:
                    break
            return bytes(body[skipped_bytes : skipped_bytes + end - start])
    except (aiohttp.ClientError, TimeoutError, _Passing) as error:
        raise remote.unreachable(_describe(error)) from error


def partial_files(target: Path, expected_file: ExpectedFile) -> int:
    """Return how many bytes of the file an earlier download left on the disk.

    A complete file without a receipt becomes a partial file again: its size does not show which version it is, and
    verifying the file costs less than fetching it again.
    """
    part = _part(target, expected_file)
    if target.is_file() and not part.exists() and target.stat().st_size == expected_file.size:
        os.replace(target, part)
    size = part.stat().st_size if part.exists() else 0
    return size if size <= expected_file.size else 0


async def download(
    remote: RemoteFile,
    target: Path,
    expected_file: ExpectedFile,
    source: object,
    report: Callable[[int], None],
) -> str:
    """Fetch a file to ``target`` and return its SHA-256.

    The bytes are collected in a partial file named after the expected hash, so that a download never continues a part
    of another version. Gives up after five consecutive attempts without progress.
    """
    part = _part(target, expected_file)
    fruitless, afresh = 0, False
    while True:
        before = partial_files(target, expected_file)
        try:
            digest = await _attempt(remote, part, expected_file, report)
            break
        except _Mismatch as error:
            await pools.MODELS.run(part.unlink)
            if before == 0 or afresh:  # another download would have the same contents
                raise InvalidRequest(
                    f"'{target.name}' of '{source}' does not match the file that its hub specified ({error}) "
                    "and was discarded. The file may have changed during the download: try again, or check "
                    "the endpoint.",
                    code="hash_mismatch",
                    param="source",
                ) from error
            afresh = True
        except (aiohttp.ClientError, TimeoutError, _Passing) as error:
            fruitless = fruitless + 1 if partial_files(target, expected_file) <= before else 1
            if fruitless == _MAX_ATTEMPTS:
                raise remote.unreachable(_describe(error)) from error
            await asyncio.sleep(_pause(error, fruitless - 1))
    await pools.MODELS.run(os.replace, part, target)
    return digest


async def _attempt(
    remote: RemoteFile, part: Path, expected_file: ExpectedFile, report: Callable[[int], None]
) -> str:
    """Continue the partial file on one connection, and verify the file once it is complete."""
    with contextlib.closing(_Part(part, expected_file)) as file:
        while await pools.MODELS.run(file.read_on):
            report(file.size)
        report(file.size)
        if file.size < expected_file.size:
            extra = {"Range": f"bytes={file.size}-"} if file.size else {}
            async with _get(remote, extra) as response:
                if response.status != 206 and file.size:
                    file.restart()  # without support for ranges, the server sends the whole file again
                # Data is written in large pieces in a thread: neither hashing nor a full disk cache may block
                # the daemon's event loop.
                pending = bytearray()
                async for chunk in response.content.iter_any():
                    pending += chunk
                    if len(pending) >= _CHUNK_BYTES:
                        await pools.MODELS.run(file.append, bytes(pending))
                        pending.clear()
                        report(file.size)
                await pools.MODELS.run(file.append, bytes(pending))
                report(file.size)
            if file.size < expected_file.size:
                raise aiohttp.ClientPayloadError(f"received {file.size:,} of {expected_file.size:,} bytes")
        return await pools.MODELS.run(file.verified)


class _Part:
    """A growing file and the hashes of its contents."""

    def __init__(self, path: Path, expected_file: ExpectedFile) -> None:
        self._expected_file = expected_file
        self._file: BinaryIO = path.open("ab+")
        self._file.seek(0)
        self._begin()

    def read_on(self) -> bool:
        """Hash a section of the data from an earlier download. Return whether more data may follow."""
        for _ in range(_CHECKED_CHUNKS_COUNT):
            chunk = self._file.read(_CHUNK_BYTES)
            if not chunk:
                return False
            self._add(chunk)
            if self.size > self._expected_file.size:
                self.restart()
        return True

    def _begin(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()
        # Git's id of a file. It is not our security measure, but the only hash that the hub provides for
        # small files.
        self._blob = hashlib.sha1(b"blob %d\0" % self._expected_file.size, usedforsecurity=False)

    def _add(self, data: bytes) -> None:
        self._sha256.update(data)
        self._blob.update(data)
        self.size += len(data)

    def restart(self) -> None:
        self._file.truncate(0)
        self._begin()

    def append(self, data: bytes) -> None:
        if self.size + len(data) > self._expected_file.size:
            raise _Mismatch(f"more than the expected {self._expected_file.size:,} bytes")
        self._file.write(data)
        self._add(data)

    def verified(self) -> str:
        """Write all data to the disk and return its SHA-256. Raise `_Mismatch` if the hash is not the expected one."""
        digest, expected_file = self._sha256.hexdigest(), self._expected_file
        if expected_file.sha256 and digest != expected_file.sha256:
            raise _Mismatch(f"SHA-256 {digest} instead of {expected_file.sha256}")
        if expected_file.blob and self._blob.hexdigest() != expected_file.blob:
            raise _Mismatch(f"git id {self._blob.hexdigest()} instead of {expected_file.blob}")
        self._file.flush()
        os.fsync(self._file.fileno())
        return digest

    def close(self) -> None:
        self._file.close()


@contextlib.asynccontextmanager
async def _get(
    remote: RemoteFile, extra: Mapping[str, str] | None = None
) -> AsyncIterator[aiohttp.ClientResponse]:
    # Compressed responses cannot be resumed. aiohttp drops Authorization when a redirect leaves the host.
    headers = {"Accept-Encoding": "identity", **remote.headers, **(extra or {})}
    async with remote.session.get(remote.url, headers=headers) as response:
        if response.status in _PASSING:
            raise _Passing(response.status, retry_after_s(response.headers.get("Retry-After")))
        if response.status not in (200, 206):
            raise remote.refused(response.status, response.headers)
        yield response


def _part(target: Path, expected_file: ExpectedFile) -> Path:
    return target.with_name(f".{target.name}.{expected_file.known[:12] or expected_file.size}.part")


def _parse(body: bytes, remote: RemoteFile) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Unavailable(
            f"{remote.url.split('?')[0]} did not return JSON. Check the endpoint's setting.",
            code="hub_failed",
        ) from error


def _pause(error: BaseException, attempt: int) -> float:
    requested_pause = error.pause if isinstance(error, _Passing) else None
    return min(_FIRST_PAUSE_S * 2**attempt if requested_pause is None else requested_pause, _MAX_PAUSE_S)


def _describe(error: BaseException) -> str:
    """Return a short reason for an error. It does not contain the request's headers."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return error.strerror or str(error.os_error)
    if isinstance(error, TimeoutError):
        return "no response in time"
    return str(error) or type(error).__name__
