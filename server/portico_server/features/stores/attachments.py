"""Converts documents attached to a question to text, for models that read only text."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import mimetypes
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import IO, Any, Final

from portico_server.core import pools
from portico_server.core.errors import InvalidRequest
from portico_server.core.filenames import to_filename
from portico_server.core.media import holds_files, is_file
from portico_server.core.principal import Principal
from portico_server.core.request import Message
from portico_server.features.chunkers.document import Part, Unreadable
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.readers.formats import format_of
from portico_server.features.readers.pool import ReaderPool
from portico_server.settings import MB_BYTES

MAX_FILE_BYTES: Final = 64 * MB_BYTES
"""Maximum size of a file that a message references by id, in bytes."""

MAX_TEXT_CHARS: Final = 4_000_000
"""Maximum number of characters of all files in one call."""

MAX_TOKEN_CHARS: Final = 10
"""Maximum average number of characters per token. A text with more characters than the model's context could hold at
this ratio is rejected.
"""

MAX_KEPT_CHARS: Final = 8_000_000
"""Maximum number of characters in the cache of texts, which exists because clients send the files of a conversation
again with each turn.
"""

READ_TIMEOUT_S: Final = 60.0
"""Maximum time for reading one file, in seconds, because a client is waiting."""


class AttachmentReader:
    """Reads attachments with the worker processes that read files for stores, within the same limits."""

    def __init__(self, readers: ReaderPool, uploads: UploadedFiles) -> None:
        self._readers = readers
        self._uploads = uploads
        self._texts: OrderedDict[tuple[str, bytes], str] = OrderedDict()
        self._kept_chars = 0

    async def as_text(
        self, messages: Iterable[Message], caller: Principal, *, context_length: int | None = None
    ) -> Sequence[Message]:
        """Return the messages with each ``file`` part replaced by the text of the file.

        Raises `InvalidRequest` if a file cannot be read or the files do not fit into ``context_length`` tokens, and
        `NotFound` for an id that is not a file of the caller.
        """
        room = (
            MAX_TEXT_CHARS
            if context_length is None
            else min(MAX_TEXT_CHARS, context_length * MAX_TOKEN_CHARS)
        )
        new_messages: list[Message] = []
        for index, message in enumerate(messages):
            if not holds_files([message]):
                new_messages.append(message)
                continue
            parts: list[Any] = []
            for number, part in enumerate(message["content"]):
                if is_file(part):
                    text = await self._text(part, f"messages[{index}].content[{number}].file", caller, room)
                    room -= len(text)
                    part = {"type": "text", "text": text}
                parts.append(part)
            new_messages.append({**message, "content": parts})
        return new_messages

    async def _text(self, part: Mapping[str, Any], param: str, caller: Principal, room: int) -> str:
        file = part.get("file")
        name, data = await self._content(file if isinstance(file, Mapping) else {}, param, caller)
        shown_name = to_filename(name)[:200]
        digest = await pools.FILES.run(_digest, data)
        text = self._texts.get((name, digest))
        if text is None:
            text = await self._read(name, shown_name, data, param, room)
            self._keep((name, digest), text)
        elif len(text) > room:
            raise _too_long(shown_name, param)
        else:
            self._texts.move_to_end((name, digest))
        return f"\n\n[File: {shown_name}]\n{text}\n[End of file: {shown_name}]\n\n"

    async def _content(self, file: Mapping[str, Any], param: str, caller: Principal) -> tuple[str, bytes]:
        """Return the name and bytes of a file."""
        if file_id := file.get("file_id"):
            return await self._uploads.read(file_id, caller, limit=MAX_FILE_BYTES, param=f"{param}.file_id")
        encoded_data = str(file.get("file_data") or "")
        head, comma, payload = encoded_data.partition(",")
        media_type = head.removeprefix("data:").partition(";")[0] if comma else ""
        try:
            data = await pools.FILES.run(_decode, payload if comma else encoded_data)
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(
                "The bytes of a file must be base64, or a URL of the form data:TYPE;base64,BYTES.",
                code="invalid_file",
                param=f"{param}.file_data",
            ) from error
        if not data:
            raise InvalidRequest("The file is empty.", code="empty_file", param=f"{param}.file_data")
        name = str(file.get("filename") or "file")
        if format_of(name) is None and media_type:
            name += mimetypes.guess_extension(media_type) or ""
        return name, data

    async def _read(self, name: str, shown_name: str, data: bytes, param: str, room: int) -> str:
        texts: list[str] = []
        size, page = 0, None
        try:
            with tempfile.NamedTemporaryFile(prefix="portico-") as file:
                await pools.FILES.run(_write, file, data)
                async with (
                    asyncio.timeout(READ_TIMEOUT_S),
                    aclosing(self._readers.read(Path(file.name), name)) as runs,
                ):
                    async for run in runs:
                        for part in run:
                            text, page = _paged(part, page)
                            size += len(text) + 1
                            if size > room:
                                raise _too_long(shown_name, param)
                            texts.append(text)
        except Unreadable as error:
            raise InvalidRequest(f"'{shown_name}' {error.message}", code=error.code, param=param) from error
        except TimeoutError as error:
            raise InvalidRequest(
                f"'{shown_name}' could not be read within {READ_TIMEOUT_S:g} s. Add it to a vector store, "
                "which has no such time limit, and search the store.",
                code="file_too_slow",
                param=param,
            ) from error
        if not any(map(str.strip, texts)):
            raise InvalidRequest(f"'{shown_name}' contains no text.", code="invalid_file", param=param)
        return "\n".join(texts)

    def _keep(self, key: tuple[str, bytes], text: str) -> None:
        self._kept_chars += len(text) - len(self._texts.pop(key, ""))
        self._texts[key] = text
        while self._kept_chars > MAX_KEPT_CHARS:
            self._kept_chars -= len(self._texts.popitem(last=False)[1])


def _paged(part: Part, before: int | None) -> tuple[str, int | None]:
    """Return the text of a part, after its page number if a new page begins, and the current page."""
    page = part.place.page
    if page is None or page == before:
        return part.text, before
    return f"[Page {page}]\n{part.text}", page


def _too_long(shown_name: str, param: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{shown_name}' contains more text than fits into the model's context. Add it to a vector store and "
        "let the model search it ('file_search'), or send a part of the file.",
        code="context_length_exceeded",
        param=param,
    )


def _decode(encoded_data: str) -> bytes:
    return base64.b64decode(encoded_data, validate=True)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _write(file: IO[bytes], data: bytes) -> None:
    file.write(data)
    file.flush()
