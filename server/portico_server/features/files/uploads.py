"""Files uploaded in parts: a client creates an upload, sends its parts in any order and in parallel, and then
completes it, which joins the parts into one file.

Source: https://platform.openai.com/docs/api-reference/uploads
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any, BinaryIO, Final

from portico_server.blobs.place import ReceivedFile
from portico_server.core import pools
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, TooLarge, TooMany
from portico_server.core.filenames import check_filename
from portico_server.core.ids import new_id
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.db import uploads as rows
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.uploads import PartRow, UploadBounds, UploadRow
from portico_server.features.files.files import FileStorage, check_purpose
from portico_server.settings import MB_BYTES

LIFETIME_S: Final = 3_600
"""Seconds after its creation within which an upload must be completed."""

KEEP_ENDED_S: Final = 86_400
"""Additional seconds for which an upload can be queried after it has ended."""

MAX_PART_BYTES: Final = 64 * MB_BYTES
"""Maximum size of a part, in bytes."""

MAX_PARTS: Final = 1_000
"""Maximum number of parts of an upload."""

MAX_REPEATED_RATIO: Final = 2
"""Maximum total size of all parts relative to the announced size. It exceeds 1 because a client sends a part again if
the response was lost.
"""

MAX_PENDING_UPLOADS: Final = 32
"""Maximum number of pending uploads of a key."""

MAX_PENDING_FILES: Final = 4
"""Maximum total size announced by the pending uploads of a key, as a multiple of the maximum file size."""

_EXPIRE_ROWS: Final = 50
_BLOCK_BYTES: Final = 1024 * 1024
_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:\s*;[ -~]{0,200})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class UploadState:
    """An upload and its received parts. After completion, it also contains the file, as long as the file exists."""

    row: UploadRow
    parts: Sequence[PartRow] = ()
    file: FileRow | None = None


class UploadStorage:
    """The uploads of callers. Each caller sees only its own. When `add_part` returns, the bytes and the row of the
    part are stored durably.

    ``max_bytes`` is the maximum size of a file.
    """

    def __init__(self, database: Database, files: FileStorage, *, max_bytes: int) -> None:
        self._database = database
        self._files = files
        self._max_bytes = max_bytes
        self._bounds = UploadBounds(MAX_PENDING_UPLOADS, MAX_PENDING_FILES * max_bytes)

    async def begin(
        self,
        filename: str,
        purpose: str,
        size: int,
        media_type: str,
        caller: Principal,
        *,
        file_keep_s: int | None = None,
    ) -> UploadState:
        """Start an upload of ``size`` bytes. The file is kept for ``file_keep_s`` seconds, or indefinitely if
        ``file_keep_s`` is ``None``.

        Raises `InvalidRequest`, `TooLarge`, and `TooMany` if the key has too many pending uploads.
        """
        check_filename(filename, "filename")
        check_purpose(purpose)
        if not _MEDIA_TYPE.fullmatch(media_type):
            wrong("mime_type", "is not a media type, such as 'application/pdf'")
        if size > self._max_bytes:
            raise TooLarge(
                f"The file would have {size:,} bytes; the limit is {self._max_bytes // MB_BYTES} MB. Split "
                "it, or raise the setting max_file_mb.",
                code="file_too_large",
                param="bytes",
            )
        await self._files.require_room(caller.id, size)
        now = time.time()
        row = UploadRow(
            new_id("upload_"), caller.id, filename, purpose, size, media_type, "pending", file_keep_s, None, now,
            now + LIFETIME_S,
        )  # fmt: skip
        if not await self._database.write(rows.add, row, self._bounds):
            raise TooMany(
                f"This key has too many pending uploads: the limit is {MAX_PENDING_UPLOADS} uploads, with "
                f"{self._bounds.bytes // MB_BYTES:,} MB in total. Complete or cancel an upload first.",
                code="too_many_uploads",
                retry_after=60.0,
            )
        return UploadState(row)

    async def get(self, upload_id: str, caller: Principal) -> UploadState:
        """Return an upload. Raises `NotFound`."""
        row = await self._row(upload_id, caller)
        if row.status != "completed" or row.file_id is None:
            return UploadState(row, await self._database.read(rows.parts, row.id))
        try:
            return UploadState(row, file=await self._files.get(row.file_id, caller))
        except NotFound:  # removed in the meantime
            return UploadState(row)

    async def require_pending(self, upload_id: str, caller: Principal) -> UploadRow:
        """Return an upload that accepts parts. Raise `Conflict` if it has ended."""
        row = await self._row(upload_id, caller)
        _require_pending(row)
        return row

    async def add_part(self, row: UploadRow, file: ReceivedFile) -> PartRow:
        """Store a received part. Raises `Conflict` if the upload has ended in the meantime, and `TooLarge` if the
        upload or the storage limit of its owner has no room for the part.
        """
        part = PartRow(new_id("part_"), row.id, file.bytes, file.sha256, time.time())
        if not part.bytes:
            await self._files.drop(file)
            wrong("data", "is empty")
        await self._files.hold(file, partial(self._write_part, row, part))
        return part

    def _write_part(self, row: UploadRow, part: PartRow, connection: Any) -> None:
        self._files.quota.require(connection, row.owner, part.bytes)  # `begin` has not counted other uploads
        if rows.add_part(connection, part, MAX_PARTS, row.bytes * MAX_REPEATED_RATIO):
            return
        _require_pending(rows.get(connection, row.id))
        raise TooLarge(
            f"The upload announced {row.bytes:,} bytes. It has reached the limit of {MAX_PARTS:,} parts, or "
            "its parts have more than twice as many bytes in total. Complete or cancel the upload.",
            code="too_many_parts",
            param="data",
        )

    async def complete(
        self, upload_id: str, part_ids: Sequence[str], md5: str | None, caller: Principal
    ) -> UploadState:
        """Create the file from the parts in the given order. If the upload is already complete, return it unchanged.

        Raises `InvalidRequest` if the parts do not have the announced number of bytes in total or ``md5`` does not
        match. The upload then stays unchanged.
        """
        row = await self._row(upload_id, caller)
        if row.status == "completed":
            return await self.get(upload_id, caller)
        _require_pending(row)
        if md5 is not None and not _MD5.fullmatch(md5):
            wrong("md5", "must be 32 hexadecimal digits")
        try:
            return await self._finish(row, await self._assemble(row, part_ids, md5), caller)
        except (Conflict, InvalidRequest, NotFound):
            # Another call may have ended the upload in the meantime, and then its parts are gone.
            upload_state = await self.get(row.id, caller)
            if upload_state.row.status == "completed":
                return upload_state
            _require_pending(upload_state.row)
            raise

    async def _assemble(self, row: UploadRow, part_ids: Sequence[str], md5: str | None) -> ReceivedFile:
        part_rows = self._choose(part_ids, await self._database.read(rows.parts, row.id), row)
        digest = hashlib.md5(usedforsecurity=False)
        file = await self._files.receive(self._join(part_rows, digest))
        if md5 is not None and digest.hexdigest() != md5.lower():
            await self._files.drop(file)
            wrong(
                "md5",
                f"is {md5.lower()}, but the parts in this order have {digest.hexdigest()}",
                code="checksum_mismatch",
            )
        return file

    async def cancel(self, upload_id: str, caller: Principal) -> UploadState:
        """Cancel an upload and remove its parts. Raise `Conflict` unless it is pending."""
        row = await self._row(upload_id, caller)
        digests = await self._database.write(rows.cancel, row.id)
        if digests is None:
            _require_pending(await self._row(upload_id, caller))
        else:
            await self._files.release(digests)
        return UploadState(await self._row(upload_id, caller))

    async def expire(self, *, dry_run: bool = False) -> int:
        """End uploads that have expired, and delete uploads that ended long ago. Return the number of uploads that
        were ended.
        """
        if dry_run:
            return await self._database.read(rows.count_expired)
        total = 0
        while True:
            count, digests = await self._database.write(rows.expire, _EXPIRE_ROWS)
            await self._files.release(digests)
            total += count
            if not count:
                break
        while await self._database.write(rows.forget_ended, time.time() - KEEP_ENDED_S, _EXPIRE_ROWS):
            pass
        return total

    async def _row(self, upload_id: str, caller: Principal) -> UploadRow:
        row = await self._database.read(rows.get, upload_id)
        if row is None or not caller.sees(row.owner):
            raise NotFound(
                f"Upload '{upload_id[:80]}' not found.", code="upload_not_found", param="upload_id"
            )
        return row

    def _choose(
        self, part_ids: Sequence[str], arrived_part_rows: Sequence[PartRow], row: UploadRow
    ) -> list[PartRow]:
        by_id = {part.id: part for part in arrived_part_rows}
        if len(set(part_ids)) < len(part_ids):
            wrong("part_ids", "lists a part twice")
        for number, part_id in enumerate(part_ids):
            if part_id not in by_id:
                wrong(
                    f"part_ids[{number}]",
                    f"is '{part_id[:80]}', which is not a part of this upload",
                    code="part_not_found",
                )
        part_rows = [by_id[part_id] for part_id in part_ids]
        total = sum(part.bytes for part in part_rows)
        if total != row.bytes:
            wrong(
                "part_ids",
                f"lists parts of {total:,} bytes in total, but {row.bytes:,} were announced",
                code="bytes_mismatch",
            )
        return part_rows

    async def _join(self, parts: Sequence[PartRow], digest: hashlib._Hash) -> AsyncIterator[bytes]:
        """Yield the bytes of all parts in order, and update ``digest`` with them."""
        for part in parts:
            try:
                async with self._files.open(part.sha256) as path:
                    with await pools.UPLOADS.run(path.open, "rb") as source:
                        while block := await pools.UPLOADS.run(_read_block, source, digest):
                            yield block
            except FileNotFoundError as error:
                raise NotFound(
                    "The bytes of a part are missing. Start another upload.",
                    code="file_content_missing",
                    param="part_ids",
                ) from error

    async def _finish(self, row: UploadRow, received_file: ReceivedFile, caller: Principal) -> UploadState:
        keep = row.file_keep_s
        digests: list[str] = []

        def complete(connection: Any, file: FileRow) -> None:
            digest_list = rows.complete(connection, row.id, file)
            if digest_list is None:
                _require_pending(rows.get(connection, row.id))
            digests.extend(digest_list or ())

        file = await self._files.keep(
            received_file,
            row.filename,
            row.purpose,
            caller,
            expires_at=None if keep is None else time.time() + keep,
            owner=row.owner,
            add=complete,
        )
        await self._files.release(digests)
        return UploadState(await self._row(row.id, caller), file=file)


def _require_pending(row: UploadRow | None) -> None:
    status = "removed" if row is None else row.status
    if status != "pending":
        raise Conflict(
            f"The upload is {status}. Start another upload.", code=f"upload_{status}", param="upload_id"
        )


def _read_block(source: BinaryIO, digest: hashlib._Hash) -> bytes:
    block = source.read(_BLOCK_BYTES)
    digest.update(block)
    return block
