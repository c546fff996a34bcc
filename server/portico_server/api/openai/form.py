"""A multipart form in memory, for audio and images that are sent to a model. Larger files use `upload`.

Source: RFC 7578; lists and objects as OpenAI's clients write them (``name[]``, ``name[key]``).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from contextlib import closing
from pathlib import PurePosixPath
from typing import Any, Final

import orjson
from python_multipart.multipart import parse_options_header

from portico_server.api.exchange import ClientLeft, Exchange
from portico_server.api.openai.form_parser import FormParser
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, TooLarge
from portico_server.core.fields import RequestBody
from portico_server.core.filenames import to_filename
from portico_server.core.invalid import missing
from portico_server.core.media import Attachment
from portico_server.settings import MB_BYTES

MAX_FIELD_BYTES: Final = 256 * 1024
"""Maximum size of a field that is not a file, in bytes."""

MAX_PARTS: Final = 100
"""Maximum number of parts in one form."""

MAX_LARGE_FILES: Final = 4
"""Maximum total size of the files in one form, as a multiple of the maximum size of one file."""

_INDEXED: Final = re.compile(r"([^\[\]]+)\[([^\[\]]*)\]")
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9.+-]+/[A-Za-z0-9.+-]+")
_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f\"\\/]")


@dataclass(frozen=True, slots=True)
class MultipartForm:
    """The contents of a form. A field is a string; ``name[]`` fields become a list, ``name[key]`` fields an object.

    The ``field`` of a file is the name of its form field without brackets.
    """

    fields: dict[str, Any]
    files: tuple[Attachment, ...]

    def to_json(self, request_body: RequestBody) -> dict[str, Any]:
        """Return the fields as JSON values.

        A value that does not parse as the type of its field stays text, and `RequestBody.check` reports it. An empty
        field counts as absent unless its type is text.
        """
        fields = {}
        for name, value in self.fields.items():
            body_field = request_body.optional.get(name)
            kind = "string" if body_field is None else body_field.schema.get("type", "string")
            if kind == "array":
                fields[name] = value if isinstance(value, list) else [value]
            elif isinstance(value, str) and kind != "string":
                if value.strip():
                    fields[name] = _read(value.strip(), kind)
            else:
                fields[name] = value
        return fields


async def read(
    exchange: Exchange, *, files: Collection[str], limit: int, max_files: int = 1, folder: bool = False
) -> MultipartForm:
    """Return the form in the body of ``exchange``, with at most ``max_files`` files of ``limit`` bytes each in the
    fields ``files``.

    ``folder``: the form uploads a folder. All files together may have ``limit`` bytes, file names keep their folders,
    and files may be empty.

    Raise `InvalidRequest` if the body is not a form or has a file in another field, `TooLarge`, or `ClientLeft`.
    """
    kind, options = parse_options_header(exchange.header(b"content-type") or b"")
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise InvalidRequest(
            f"Send a form (multipart/form-data) with a file in '{next(iter(files))}'.",
            code="unsupported_content_type",
        )
    large = 1 if folder else min(max_files, MAX_LARGE_FILES)
    exchange.take_form(limit * large + MAX_LARGE_FILES * MB_BYTES)
    reader = _PartReader(boundary, files, limit, max_files, folder=folder)
    is_whole = False
    with closing(reader.parser) as parser:
        while not is_whole:
            message = await exchange.receive()
            if message["type"] != "http.request":
                raise ClientLeft
            parser.write(message.get("body", b""))
            is_whole = not message.get("more_body")
        return reader.finish()


def one_file(form: MultipartForm, field: str) -> Attachment:
    """Return the file in ``field``. If the file is missing or empty, raise `InvalidRequest` with the field as its
    ``param``.
    """
    file = next((file for file in form.files if file.field == field), None)
    if file is None:
        missing(field)
    return file


class _PartReader:
    """The parsing state of one form: the current part and the parsed parts."""

    def __init__(
        self, boundary: bytes, files: Collection[str], limit: int, max_files: int, *, folder: bool
    ) -> None:
        self._file_fields = files
        self._folder = folder
        self._limit = limit
        self._max_files = max_files
        self._fields: dict[str, Any] = {}
        self._files: list[Attachment] = []
        self._parts = 0
        self._field = ""
        self._filename: str | None = None
        self._media_type = ""
        self._data = bytearray()
        self.parser = FormParser(boundary, self._on_part, self._on_data, self._on_part_end)

    def finish(self) -> MultipartForm:
        self.parser.finish()
        return MultipartForm(self._fields, tuple(self._files))

    def _on_part(self, headers: Mapping[bytes, bytes]) -> None:
        self._parts += 1
        limit = MAX_PARTS + (self._max_files if self._folder else 0)
        if self._parts > limit:
            raise InvalidRequest(f"The form has more than {limit} parts.", code="invalid_form")
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        self._field = options.get(b"name", b"").decode("utf-8", "replace")
        if not self._field:
            raise InvalidRequest("A part of the form has no name.", code="invalid_form")
        name = options.get(b"filename")
        self._filename = None
        if name is not None:
            self._filename = (
                name.decode("utf-8", "replace") if self._folder else _plain(name.decode("utf-8", "replace"))
            )
        self._media_type = headers.get(b"content-type", b"").decode("latin-1").partition(";")[0].strip()
        self._data = bytearray()
        field = self._field.removesuffix("[]")
        if self._filename is None:
            if field in self._file_fields:
                raise InvalidRequest(f"'{field}' must be a file with a name, not text.", param=field)
            return
        if field not in self._file_fields:
            raise InvalidRequest(
                f"The form has a file in '{self._field}'; files are allowed in {' and '.join(self._file_fields)}.",
                param=self._field,
            )
        if len(self._files) >= self._max_files:
            limit_text = "one file" if self._max_files == 1 else f"{self._max_files} files"
            raise InvalidRequest(
                f"The form has more than {limit_text}, the maximum for this endpoint.", param=field
            )

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]
        if self._filename is None:
            if len(self._data) > MAX_FIELD_BYTES:
                raise TooLarge(
                    f"The field '{self._field}' is larger than {MAX_FIELD_BYTES // 1024} KB.",
                    param=self._field,
                )
        elif len(self._data) > self._limit:
            field = self._field.removesuffix("[]")
            raise TooLarge(
                f"The file in '{field}' is larger than {self._limit // MB_BYTES} MB, the maximum for this "
                "endpoint. Send a smaller or more strongly compressed file; the setting max_media_mb defines "
                "the limit.",
                param=field,
            )

    def _on_part_end(self) -> None:
        if self._filename is None:
            self._keep(self._field, bytes(self._data).decode("utf-8", "replace"))
            return
        field = self._field.removesuffix("[]")
        if not self._data and not self._folder:
            raise InvalidRequest(f"The file in '{field}' is empty.", code="empty_file", param=field)
        fit = _MEDIA_TYPE.fullmatch(self._media_type)
        kind = self._media_type if fit else "application/octet-stream"
        self._files.append(Attachment(field, self._filename or field, kind, bytes(self._data)))

    def _keep(self, name: str, value: str) -> None:
        match = _INDEXED.fullmatch(name)
        if match is None:
            if name in self._fields:
                raise InvalidRequest(f"The form has '{name}' twice.", param=name)
            self._fields[name] = value
            return
        name, key = match.groups()
        kind = list if not key or key.isdecimal() else dict
        field_value = self._fields.setdefault(name, kind())
        if not isinstance(field_value, kind):
            raise InvalidRequest(f"The form has '{name}' twice, in different notations.", param=name)
        if isinstance(field_value, list):
            field_value.append(value)
        else:
            field_value[key] = value


def _plain(name: str) -> str:
    """Return the last part of a file name, in a form that is safe in a header."""
    return _UNFIT.sub("_", to_filename(PurePosixPath(name.replace("\\", "/")).name))


def _read(value: str, kind: str) -> Any:
    if kind == "boolean":
        return {"true": True, "false": False, "1": True, "0": False}.get(value.lower(), value)
    try:
        if kind == "number":
            return float(value)
        if kind == "integer":
            return int(value)
        return orjson.loads(value)
    except ValueError:
        return value
