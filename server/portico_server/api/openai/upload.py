"""An uploaded form, read as it arrives: the file is written to disk in pieces, so memory never contains the whole
file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import closing
from typing import Any, Final, Protocol

from fastapi import Request
from python_multipart.multipart import parse_options_header

from portico_server.api.exchange import Exchange
from portico_server.api.openai.form_parser import FormParser
from portico_server.blobs.place import ReceivedFile
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, TooLarge
from portico_server.core.filenames import check_filename
from portico_server.settings import MB_BYTES

MAX_FIELD_BYTES = 64 * 1024
"""Maximum size of a field that is not a file, in bytes."""

MAX_FIELDS = 50
"""Maximum number of parts in one form."""


FILE: Final = {"type": "string", "format": "binary"}
"""The schema of a file field."""


def declare_form(
    required_fields: Sequence[str], properties: Mapping[str, Any], **other_schemas: Any
) -> dict[str, Any]:
    """Return the ``openapi_extra`` of an operation that reads a form with these fields.

    ``other_schemas`` are schemas of other body types, such as ``json``, that the operation also reads.
    """
    form = {"type": "object", "required": list(required_fields), "properties": dict(properties)}
    content = {f"application/{name}": {"schema": schema} for name, schema in other_schemas.items()}
    return {
        "requestBody": {
            "required": True,
            "content": {**content, "multipart/form-data": {"schema": form}},
        }
    }


class FileReceiver(Protocol):
    """Writes the bytes of uploaded files to disk: `portico_server.features.files.files.FileStorage`."""

    async def receive(self, chunks: AsyncIterator[bytes]) -> ReceivedFile:
        """Write incoming bytes to disk. Raise `TooLarge`, or `Unavailable` if the disk is full."""

    async def drop(self, file: ReceivedFile) -> None:
        """Discard received bytes that were not kept."""


@dataclass(frozen=True, slots=True)
class UploadForm:
    """One file and the other fields of a form. The caller must keep the file, or pass it to `FileReceiver.drop`."""

    received: ReceivedFile
    filename: str
    fields: Mapping[str, str]


async def read(
    request: Request, files: FileReceiver, field: str = "file", max_bytes: int | None = None
) -> UploadForm:
    """Read the form in the body of ``request``, and write the file in the form field ``field`` to disk.

    ``max_bytes`` limits the size of the file if it is below the limit of ``files``. Raise `InvalidRequest` if the
    body is not a form or has no file, `TooLarge`, or `Unavailable` if the disk is full.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest(
            f"Send a form (multipart/form-data) with the file in the field '{field}'.",
            code="unsupported_content_type",
        )
    form = _Form(boundary, field, max_bytes)
    exchange: Exchange = request.scope["portico.exchange"]
    exchange.take_form(to_disk=True)
    file = await files.receive(form.bytes_of_file(request.stream()))
    if form.filename is None:
        await files.drop(file)
        raise InvalidRequest(
            f"The form has no file. Send a file with a file name in the field '{field}'.",
            code="missing_required_parameter",
            param=field,
        )
    return UploadForm(file, form.filename, form.fields())


class _Form:
    """The parsing state of one form: the current part and the parsed parts."""

    def __init__(self, boundary: bytes, field: str, max_bytes: int | None) -> None:
        self._field = field
        self._max_bytes = max_bytes
        self._bytes = 0
        self.filename: str | None = None
        self._fields: dict[str, bytearray] = {}
        self._name = ""
        self._in_file = False
        self._pieces: list[bytes] = []
        self._parser = FormParser(boundary, self._on_part, self._on_data)

    def fields(self) -> dict[str, str]:
        return {name: value.decode("utf-8", "replace") for name, value in self._fields.items()}

    async def bytes_of_file(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Read the whole form. Yield the bytes of the file and store the other fields."""
        with closing(self._parser) as parser:
            async for chunk in body:
                parser.write(chunk)
                if self._pieces:
                    piece, self._pieces = b"".join(self._pieces), []
                    yield piece
            parser.finish()

    def _on_part(self, headers: Mapping[bytes, bytes]) -> None:
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._in_file = self._name == self._field and filename is not None
        if filename is not None and self._in_file:
            if self.filename is not None:
                raise InvalidRequest(
                    "The form has more than one file; send one at a time.", param=self._field
                )
            # The check reports invalid UTF-8 too.
            self.filename = check_filename(filename.decode("utf-8", "surrogateescape"), self._field)
        elif self._name in self._fields:
            raise InvalidRequest(f"The form has '{self._name}' twice.", param=self._name)
        else:
            if len(self._fields) >= MAX_FIELDS:
                raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.")
            self._fields[self._name] = bytearray()

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._in_file:
            self._bytes += end - start
            if self._max_bytes is not None and self._bytes > self._max_bytes:
                raise TooLarge(
                    f"The file in '{self._field}' is larger than {self._max_bytes // MB_BYTES} MB. Send a "
                    "smaller file.",
                    code="file_too_large",
                    param=self._field,
                )
            self._pieces.append(data[start:end])
            return
        field = self._fields[self._name]
        field += data[start:end]
        if len(field) > MAX_FIELD_BYTES:
            raise TooLarge(
                f"The field '{self._name}' is larger than {MAX_FIELD_BYTES // 1024} KB.", param=self._name
            )
