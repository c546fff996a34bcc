"""Reading of a zip archive that may be damaged or malicious: the structure is checked before any content is used."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Final

import orjson

from portico_server.archives.stream import BLOCK_BYTES
from portico_server.core.errors import InvalidRequest, PorticoError

MAX_ENTRIES: Final = 1_000_000

MAX_MANIFEST_BYTES: Final = 256 * 1024 * 1024

ENTRY_BYTES: Final = 128
"""Maximum average size, in bytes, of an entry in an archive's central directory, which is read in one piece."""

MAX_JSON_PARTS: Final = 2_000_000
"""Maximum number of objects, lists and values in a JSON part, which is parsed in one piece. Each takes up to a hundred
bytes of memory.
"""

MANIFEST: Final = "manifest.json"

_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Methods of entries. An entry in the format of LZMA can make its reader allocate 4 GB."""

_SMALL_JSON_BYTES: Final = 64 * 1024
_TEXT: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)

_DAMAGED: Final = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    zipfile.BadZipFile,
    RuntimeError,  # includes NotImplementedError
    struct.error,
    zlib.error,
    EOFError,
)
"""Exceptions raised when a damaged archive is read."""

Refusal = Callable[[str], InvalidRequest]
"""Creates the error for a rejected archive from a reason without a full stop."""


def refusal(problem: str, param: str = "file") -> Refusal:
    """Return a factory of errors that begin with ``The archive cannot be PROBLEM``."""

    def refuse(reason: str) -> InvalidRequest:
        return InvalidRequest(
            f"The archive cannot be {problem}: {reason}.", code="invalid_archive", param=param
        )

    return refuse


class _ArchiveFile(io.BufferedReader):
    """A file that refuses to read an entry list that would fill the memory, because `zipfile` reads the list in one
    piece.
    """

    def __init__(self, path: Path, max_entries: int) -> None:
        super().__init__(io.FileIO(path))
        self._max_entries = max_entries

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > ENTRY_BYTES * self._max_entries:
            raise zipfile.BadZipFile("the list of its entries is too long")
        data = super().read(size)
        if len(data) > self._max_entries and data.count(b"PK\x01\x02") > self._max_entries:
            raise zipfile.BadZipFile("it has too many entries")
        return data


def read_json(raw: bytes, parts: int = MAX_JSON_PARTS) -> Any:
    """Parse the JSON of an archive part. Raises `ValueError` if the JSON is invalid or has more than ``parts``
    objects, lists and values.
    """
    # Brackets and commas inside strings do not count, but nearly all documents are below the limit even with
    # them.
    if (
        len(raw) > _SMALL_JSON_BYTES
        and _count_parts(raw) > parts
        and _count_parts(_TEXT.sub(b"", raw)) > parts
    ):
        raise ValueError(f"it has more than {parts:,} objects, lists and values")
    return orjson.loads(raw)


def _count_parts(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{") + raw.count(b",")


class ArchiveReader:
    """An archive on disk whose structure has been checked: entry names with ``belongs``, the unpacked size with
    ``ratio``.

    ``ratio`` limits the unpacked size as a multiple of the archive size; ``max_entries`` limits the number of entries,
    each of which takes half a kilobyte of memory; ``folders`` allows folder entries, which do not count. Methods
    block, and raise the error that ``refused_refusal`` creates.
    """

    def __init__(
        self,
        path: Path,
        belongs: Callable[[str], bool],
        ratio: int,
        refused_refusal: Refusal,
        *,
        max_entries: int = MAX_ENTRIES,
        folders: bool = False,
    ) -> None:
        self._refuse = refused_refusal
        self._max_entries = max_entries
        with ExitStack() as exit_stack:
            try:
                file = exit_stack.enter_context(_ArchiveFile(path, max_entries))
                self._zip = exit_stack.enter_context(zipfile.ZipFile(file))
            except (OSError, *_DAMAGED) as error:
                raise refused_refusal(
                    "it is not a complete zip archive, or it has too many entries"
                ) from error
            self._check(path, belongs, ratio, folders=folders)
            self._open_resources = exit_stack.pop_all()

    def _check(self, path: Path, belongs: Callable[[str], bool], ratio: int, *, folders: bool) -> None:
        entries = [member for member in self._zip.infolist() if not (folders and member.is_dir())]
        self.sizes: Mapping[str, int] = {entry.filename: entry.file_size for entry in entries}
        """Unpacked size of each entry in bytes, as declared by the archive."""
        if len(entries) > self._max_entries or len(self.sizes) != len(entries):
            raise self._refuse(
                f"it has more than {self._max_entries:,} entries, or two entries with the same name"
            )
        size = path.stat().st_size
        for entry in entries:
            if not 0 <= entry.header_offset < size:
                raise self._refuse("one of its entries points outside the archive")
            if entry.compress_type not in _METHODS:
                raise self._refuse("one of its entries is compressed with a method other than deflate")
            mode = entry.external_attr >> 16
            plain = not stat.S_IFMT(mode) or stat.S_ISREG(mode)
            if not plain or (entry.filename != MANIFEST and not belongs(entry.filename)):
                raise self._refuse(f"it contains an unexpected entry ('{entry.filename[:80]!a}')")
        if sum(self.sizes.values()) > ratio * max(size, 1024 * 1024):
            raise self._refuse(f"it unpacks to more than {ratio} times its size")

    def close(self) -> None:
        """Close the file."""
        self._open_resources.close()

    def manifest(self, form: str, version: int, archive_name: str) -> dict[str, Any]:
        """Return the manifest of an archive whose format must be ``form``. Errors describe the expected archive as
        ``archive_name``.
        """
        if MANIFEST not in self.sizes:
            raise self._refuse(f"it contains no {MANIFEST}")
        if self.sizes[MANIFEST] > MAX_MANIFEST_BYTES:
            raise self._refuse(f"{MANIFEST} is too large")
        with self.naming(MANIFEST):
            value = read_json(self._zip.read(MANIFEST))
            if not isinstance(value, dict) or value.get("format") != form:
                raise self._refuse(f"it is a zip archive, but not {archive_name}")
            if value.get("version") != version:
                raise self._refuse(
                    f"it has version {str(value.get('version'))[:20]}, but this Portico reads version "
                    f"{version}: update Portico"
                )
        return value

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of an entry."""
        with self.naming(name), self._zip.open(name) as file:
            while block := file.read(BLOCK_BYTES):
                yield block

    def raw(self, name: str) -> IO[bytes]:
        """Open an entry as a file. The caller handles the exceptions of a damaged entry."""
        return self._zip.open(name)

    def digest(self, name: str) -> str:
        """Return the SHA-256 of an entry."""
        digest = hashlib.sha256()
        for block in self.blocks(name):
            digest.update(block)
        return digest.hexdigest()

    @contextmanager
    def naming(self, part: str) -> Iterator[None]:
        """Turn exceptions caused by a damaged part into an error that names the part."""
        try:
            yield
        except PorticoError as error:
            if error.code == "invalid_archive":
                raise
            raise self._refuse(f"{part} is wrong: {error.message}") from error
        except _DAMAGED as error:
            raise self._refuse(f"{part} is damaged ({str(error)[:100]})") from error
