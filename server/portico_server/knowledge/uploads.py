"""Files that come in parts: begun, filled in any order and in parallel, then made into one file.

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
from portico_server.core.errors import Conflict, NotFound, TooLarge, TooMany
from portico_server.core.ids import new_id
from portico_server.core.invalid import wrong
from portico_server.core.principal import Principal
from portico_server.db import uploads as rows
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.db.uploads import PartRow, UploadBounds, UploadRow
from portico_server.knowledge.files import FileStorage, check_purpose
from portico_server.knowledge.names import check_filename
from portico_server.settings import MB_BYTES

LIFETIME_S: Final = 3_600
"""Seconds from the beginning of an upload in which it must be completed."""

KEEP_ENDED_S: Final = 86_400
"""Seconds after that for which an upload that has ended can still be looked at."""

MAX_PART_BYTES: Final = 64 * MB_BYTES
"""Bytes of one part, at most."""

MAX_PARTS: Final = 1_000
"""Parts of one upload, at most."""

MAX_REPEATED_RATIO: Final = 2
"""Bytes of all parts to those announced, at most: a part whose answer was lost is sent again."""

MAX_PENDING_UPLOADS: Final = 32
"""Uploads that one key may have under way."""

MAX_PENDING_FILES: Final = 4
"""How many files of the largest size the uploads that one key has under way may announce together."""

_EXPIRE_ROWS: Final = 50
_BLOCK_BYTES: Final = 1024 * 1024
_MD5: Final = re.compile(r"[0-9a-fA-F]{32}")
_MEDIA_TYPE: Final = re.compile(r"[\w.+-]{1,100}/[\w.+-]{1,100}(?:\s*;[ -~]{0,200})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class UploadState:
    """An upload, what of it has arrived, and its file once it is complete and as long as that is there."""

    row: UploadRow
    parts: Sequence[PartRow] = ()
    file: FileRow | None = None


class UploadStorage:
    """Callers see their own. A part is on disk, bytes and row, once `add_part` has returned it.

    ``max_bytes`` is the largest file.
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
        """Begin the upload of ``size`` bytes; the file is kept for ``file_keep_s`` seconds, ``None`` for ever.

        Raises `InvalidRequest`, `TooLarge`, and `TooMany` for a key that has too much under way.
        """
        check_filename(filename, "filename")
        check_purpose(purpose)
        if not _MEDIA_TYPE.fullmatch(media_type):
            wrong("mime_type", "is not a media type, such as 'application/pdf'")
        if size > self._max_bytes:
            raise TooLarge(
                f"The file would have {size:,} bytes; at most {self._max_bytes // MB_BYTES} MB are taken here. "
                "Split it, or raise the setting max_file_mb.",
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
                f"This key has too many uploads under way: {MAX_PENDING_UPLOADS} are taken, which may announce "
                f"{self._bounds.bytes // MB_BYTES:,} MB together. Complete or cancel one first.",
                code="too_many_uploads",
                retry_after=60.0,
            )
        return UploadState(row)

    async def get(self, upload_id: str, caller: Principal) -> UploadState:
        """One of them. Raises `NotFound`."""
        row = await self._row(upload_id, caller)
        if row.status != "completed" or row.file_id is None:
            return UploadState(row, await self._database.read(rows.parts, row.id))
        try:
            return UploadState(row, file=await self._files.get(row.file_id, caller))
        except NotFound:  # it was removed meanwhile
            return UploadState(row)

    async def require_pending(self, upload_id: str, caller: Principal) -> UploadRow:
        """One that takes parts. Raises `Conflict` if it has ended."""
        row = await self._row(upload_id, caller)
        _require_pending(row)
        return row

    async def add_part(self, row: UploadRow, file: ReceivedFile) -> PartRow:
        """Keep a part that has arrived. Raises `Conflict` if the upload has ended meanwhile, `TooLarge`."""
        part = PartRow(new_id("part_"), row.id, file.bytes, file.sha256, time.time())
        if not part.bytes:
            await self._files.drop(file)
            wrong("data", "is empty")
        await self._files.hold(file, partial(self._write_part, row, part))
        return part

    def _write_part(self, row: UploadRow, part: PartRow, connection: Any) -> None:
        if rows.add_part(connection, part, MAX_PARTS, row.bytes * MAX_REPEATED_RATIO):
            return
        _require_pending(rows.get(connection, row.id))
        raise TooLarge(
            f"The upload announced {row.bytes:,} bytes. It takes {MAX_PARTS:,} parts with twice as many bytes "
            "together, and has them. Complete it, or cancel it.",
            code="too_many_parts",
            param="data",
        )

    async def complete(
        self, upload_id: str, part_ids: Sequence[str], md5: str | None, caller: Principal
    ) -> UploadState:
        """Make the file of the parts in this order. One that is complete already is answered as it is.

        Raises `InvalidRequest` unless the parts have as many bytes as were announced and ``md5`` fits; the upload is
        then as it was.
        """
        row = await self._row(upload_id, caller)
        if row.status == "completed":
            return await self.get(upload_id, caller)
        _require_pending(row)
        if md5 is not None and not _MD5.fullmatch(md5):
            wrong("md5", "must be 32 hexadecimal digits")
        part_rows = self._chosen(part_ids, await self._database.read(rows.parts, row.id), row)
        digest = hashlib.md5(usedforsecurity=False)
        file = await self._files.receive(self._joined(part_rows, digest))
        if md5 is not None and digest.hexdigest() != md5.lower():
            await self._files.drop(file)
            wrong(
                "md5",
                f"is {md5.lower()}, but the parts in this order have {digest.hexdigest()}",
                code="checksum_mismatch",
            )
        return await self._finish(row, file, caller)

    async def cancel(self, upload_id: str, caller: Principal) -> UploadState:
        """End one; its parts are removed. Raises `Conflict` unless it is pending."""
        row = await self._row(upload_id, caller)
        digests = await self._database.write(rows.cancel, row.id)
        if digests is None:
            _require_pending(await self._row(upload_id, caller))
        else:
            await self._files.release(digests)
        return UploadState(await self._row(upload_id, caller))

    async def expire(self, *, dry_run: bool = False) -> int:
        """End the uploads whose time has run out, and forget those that ended long ago; how many ended."""
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
                f"There is no upload '{upload_id[:80]}'.", code="upload_not_found", param="upload_id"
            )
        return row

    def _chosen(
        self, part_ids: Sequence[str], arrived_part_rows: Sequence[PartRow], row: UploadRow
    ) -> list[PartRow]:
        by_id = {part.id: part for part in arrived_part_rows}
        if len(set(part_ids)) < len(part_ids):
            wrong("part_ids", "names a part twice")
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
                f"names parts of {total:,} bytes together; {row.bytes:,} were announced",
                code="bytes_mismatch",
            )
        return part_rows

    async def _joined(self, parts: Sequence[PartRow], digest: hashlib._Hash) -> AsyncIterator[bytes]:
        """The bytes of all of them in order, which ``digest`` takes too."""
        for part in parts:
            try:
                async with self._files.open(part.sha256) as path:
                    with await pools.UPLOADS.run(path.open, "rb") as source:
                        while block := await pools.UPLOADS.run(_read_block, source, digest):
                            yield block
            except FileNotFoundError as error:
                raise NotFound(
                    "The bytes of a part are gone. Begin another upload.",
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

        try:
            file = await self._files.keep(
                received_file,
                row.filename,
                row.purpose,
                caller,
                expires_at=None if keep is None else time.time() + keep,
                owner=row.owner,
                add=complete,
            )
        except Conflict:
            upload_state = await self.get(row.id, caller)
            if upload_state.row.status != "completed":
                raise
            return upload_state  # by another call meanwhile
        await self._files.release(digests)
        return UploadState(await self._row(row.id, caller), file=file)


def _require_pending(row: UploadRow | None) -> None:
    status = "removed" if row is None else row.status
    if status != "pending":
        raise Conflict(
            f"The upload is {status}. Begin another one.", code=f"upload_{status}", param="upload_id"
        )


def _read_block(source: BinaryIO, digest: hashlib._Hash) -> bytes:
    block = source.read(_BLOCK_BYTES)
    digest.update(block)
    return block
