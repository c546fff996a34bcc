"""Archives (zip, tar, also compressed, and single compressed files): reads every document in an archive with the
reader for the document's format.

Nothing is written to disk. Limits apply before an archive is unpacked: to the number of files, to the size of each
file, and to their total size.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import IO

from portico_server.archives.tar import TooLong, Unpacked, is_tar, read_tar
from portico_server.features.chunkers.document import SourceDocument, Unreadable
from portico_server.features.readers.formats import format_of, is_document, looks_like_text
from portico_server.features.readers.text import legacy_encoding
from portico_server.features.readers.zip_size import limit_zip

MAX_UNPACKED_BYTES = 512 * 1024 * 1024
"""Maximum unpacked size of an archive, in bytes."""

MAX_FILE_BYTES = 64 * 1024 * 1024
"""Maximum size of a file in an archive, in bytes."""

MAX_ENTRIES = 10_000
"""Maximum number of files in an archive."""

_UTF8_MASK = 0x800
"""Flag of a zip member that marks its name as encoded in UTF-8."""

_DAMAGED = "is not a complete archive: it is damaged or truncated."
_TOO_LONG = (
    f"unpacks to more than {MAX_UNPACKED_BYTES // 2**20} MB or {MAX_ENTRIES:,} files. Split the archive, "
    "or unpack it and add its files."
)


def read(source: SourceDocument) -> Iterator[SourceDocument]:
    """Yield the documents in an archive, each named by its path in the archive. Raises `Unreadable`."""
    with source.open() as file:
        if not file.read(1):
            raise Unreadable("is empty: it contains nothing to index.")
        try:
            if is_tar(file):
                yield from _tar(file)
            elif zipfile.is_zipfile(file):
                yield from _zip(file)
            else:
                yield from _single(file, PurePosixPath(source.name).stem)
        except TooLong:
            raise Unreadable(_TOO_LONG) from None
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise Unreadable(_DAMAGED) from error


def _zip(file: IO[bytes]) -> Iterator[SourceDocument]:
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        limit_zip(archive, MAX_UNPACKED_BYTES, MAX_ENTRIES)
        names = _names(archive)
        for member in archive.infolist():
            name = _check_name(names[member.filename])
            mode = member.external_attr >> 16
            if member.is_dir() or stat.S_ISLNK(mode) or not _is_wanted(name):
                continue
            if member.flag_bits & 1:
                raise Unreadable("is protected by a password. Add a copy without a password.")
            with archive.open(member) as inner:
                yield from _member(name, member.file_size, inner)


def _names(archive: zipfile.ZipFile) -> Mapping[str, str]:
    """Return the intended name of each member, by the name that Python reports.

    A name not marked as UTF-8 has the encoding of the system that wrote it, but Python decodes it as CP437.
    """
    raw = {
        item.filename: item.filename.encode("cp437")
        for item in archive.infolist()
        if not item.flag_bits & _UTF8_MASK and not item.filename.isascii()
    }
    together = b"\n".join(raw.values())
    try:
        together.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        encoding = legacy_encoding(together)
    if encoding == "cp1252":
        # Western names in zip files use CP437, the encoding of the first PCs, so Python has decoded
        # them correctly
        raw = {}
    decoded_names = {name: data.decode(encoding, "replace") for name, data in raw.items()}
    return {item.filename: decoded_names.get(item.filename, item.filename) for item in archive.infolist()}


def _tar(file: IO[bytes]) -> Iterator[SourceDocument]:
    def is_wanted(name: str, size: int) -> bool:
        path = _check_name(name)
        if not _is_wanted(path):
            return False
        _check_size(path, size)
        return True

    for name, data in read_tar(file, MAX_UNPACKED_BYTES, _refusal, is_needed=is_wanted, lenient=True):
        yield from _document(_check_name(name), data)


def _single(file: IO[bytes], name: str) -> Iterator[SourceDocument]:
    """Yield the document in a single compressed file."""
    inner = Unpacked(file, MAX_UNPACKED_BYTES, _refusal)
    if not inner.is_compressed:
        raise Unreadable(_DAMAGED)
    data = inner.read(MAX_FILE_BYTES + 1)
    _check_size(name, len(data))
    yield SourceDocument(name, data, (name,))


def _refusal(reason: str) -> Unreadable:
    return Unreadable(f"cannot be read: {reason}.")


def _check_name(name: str) -> str:
    """Return the path of a member. Raise `Unreadable` for a path that leads out of the archive."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise Unreadable(
            f"contains a file whose path leads out of the archive ('{name[:100]}'). Do not trust this "
            "archive."
        )
    return str(path)


def _is_wanted(name: str) -> bool:
    """Return whether a file in an archive would also be accepted in a followed folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and is_document(name) and not any(part.startswith((".", "__MACOSX")) for part in parts)


def _member(name: str, size: int, file: IO[bytes]) -> Iterator[SourceDocument]:
    _check_size(name, size)
    data = file.read(MAX_FILE_BYTES + 1)
    _check_size(name, len(data))
    yield from _document(name, data)


def _document(name: str, data: bytes) -> Iterator[SourceDocument]:
    if data.strip() and (format_of(name) is not None or looks_like_text(data[:8192])):
        yield SourceDocument(name, data, (name,))


def _check_size(name: str, size: int) -> None:
    if size > MAX_FILE_BYTES:
        raise Unreadable(
            f"contains a file of more than {MAX_FILE_BYTES // 2**20} MB ('{name[:100]}'). Unpack the "
            "archive and add its files."
        )
