"""Reads the archive of a store, and validates each part before the restore uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from portico.wire import place_from_json
from portico_server.archives.reader import ArchiveReader, read_json, refusal
from portico_server.core.attributes import check_attributes, check_metadata
from portico_server.core.dataclass import dataclass
from portico_server.core.filenames import check_filename, to_filename
from portico_server.db.archives import ArchivedChunk
from portico_server.db.groups import GroupRow
from portico_server.db.stores import StoreFileRow
from portico_server.features.chunkers.chunkers import check_chunking
from portico_server.features.stores.archive.layout import (
    ARCHIVE_FORMAT,
    ARCHIVE_VERSION,
    BLOB_NAME,
    CHUNKS_NAME,
    FILES_NAME,
    MAX_STORE_BLOBS,
    VECTORS_NAME,
)
from portico_server.features.stores.contents import check_unreserved
from portico_server.features.stores.store import ANSWERS, check_search

MAX_COMPRESSION_RATIO = 200
"""Maximum compression ratio of an archive."""

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Maximum length of a JSON line, in bytes."""

MAX_LINE_PARTS = 10_000
"""Maximum number of objects, lists and values in a JSON line."""

MAX_VECTOR_BYTES = 4 * 65_536
"""Maximum size of a vector, in bytes."""

FILE_STATUSES = ("completed", "failed", "in_progress", "cancelled")


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """The manifest of an archive."""

    name: str
    description: str
    app: bool
    answers: str
    embedding_model: str
    metadata: Mapping[str, str]
    expires_after_days: int | None
    vector_weight: float | None
    links: bool
    search: Mapping[str, Any] | None
    groups: tuple[GroupRow, ...]
    group_files: tuple[tuple[str, str, str | None], ...]
    chunks: int
    vectors: bool
    sums: Mapping[str, str]


class StoreArchiveReader:
    """An archive on disk with a validated structure. Its methods block and raise `InvalidRequest`."""

    def __init__(self, path: Path) -> None:
        self.read_bytes = 0
        """Number of bytes of all lines read so far."""
        self._archive = ArchiveReader(
            path, _belongs, MAX_COMPRESSION_RATIO, refused, max_entries=MAX_STORE_BLOBS + 4
        )
        try:
            value = self._archive.manifest(ARCHIVE_FORMAT, ARCHIVE_VERSION, "a store")
            with self._archive.naming("manifest.json"):
                self.manifest = _manifest(value)
        except BaseException:
            self._archive.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._archive.close()

    def files(self) -> Iterator[StoreFileRow]:
        """Yield the files in order, with the ids from the daemon that wrote the archive, and without a store id."""
        for number, value in self._lines(FILES_NAME):
            check_unreserved(_attributes(value))
            with self._archive.naming(f"line {number} of {FILES_NAME}"):
                file = StoreFileRow(
                    store_id="",
                    file_id=_text(value, "id"),
                    filename=check_filename(to_filename(_text(value, "filename"))),
                    bytes=_count(value, "bytes"),
                    sha256=_text(value, "sha256"),
                    status=_text(value, "status"),  # type: ignore[arg-type]  # checked below
                    error_code=_maybe(value, "error_code"),
                    error_message=_maybe(value, "error_message"),
                    attributes=check_attributes(value.get("attributes")),
                    chunking=check_chunking(value.get("chunking")),
                    usage_bytes=_count(value, "usage_bytes"),
                    created_at=0.0,
                    source_mtime_ns=None,
                    source_size=None,
                )
                if f"blobs/{file.sha256}" not in self._archive.sizes or file.status not in FILE_STATUSES:
                    raise ValueError("its bytes are missing, or its status is invalid")
            yield file

    def chunks(self) -> Iterator[ArchivedChunk]:
        """Yield the chunks in order, with their vectors if the archive contains vectors."""
        vectors = self._vectors() if self.manifest.vectors else None
        for number, value in self._lines(CHUNKS_NAME):
            with self._archive.naming(f"line {number} of {CHUNKS_NAME}"):
                place = value.get("place")
                if not isinstance(place, dict):
                    raise TypeError("'place' must be an object")
                place_from_json(place)  # raises if the place is invalid
                item = ArchivedChunk(
                    0,
                    _text(value, "file"),
                    _text(value, "group"),
                    _count(value, "ordinal"),
                    _text(value, "text"),
                    place,
                    (next(vectors, None) or None) if vectors is not None else None,
                )
            yield item

    def blob(self, sha256: str) -> IO[bytes]:
        """Open the bytes of a file. The caller must verify them against their SHA-256."""
        return self._archive.raw(f"blobs/{sha256}")

    def _vectors(self) -> Iterator[bytes]:
        with self._open(VECTORS_NAME) as file:
            while head := file.read(4):
                size = int.from_bytes(head, "little")
                if len(head) < 4 or size > MAX_VECTOR_BYTES or size % 4:
                    raise refused(f"{VECTORS_NAME} is damaged")
                data = file.read(size)
                if len(data) != size:
                    raise refused(f"{VECTORS_NAME} is truncated")
                yield data

    def _lines(self, name: str) -> Iterator[tuple[int, dict[str, Any]]]:
        with self._open(name) as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                self.read_bytes += len(line)
                if len(line) > MAX_LINE_BYTES:
                    raise refused(f"line {number} of {name} is longer than {MAX_LINE_BYTES // 2**20} MB")
                with self._archive.naming(f"line {number} of {name}"):
                    value = read_json(line, MAX_LINE_PARTS)
                    if not isinstance(value, dict):
                        raise ValueError("it must be an object")
                yield number, value

    def _open(self, name: str) -> IO[bytes]:
        """Open an entry, after reading it once to check that its bytes match the manifest."""
        if name not in self._archive.sizes or name not in self.manifest.sums:
            raise refused(f"{name} is missing")
        if self._archive.digest(name) != self.manifest.sums[name]:
            raise refused(f"{name} does not match the manifest")
        return self._archive.raw(name)


def _belongs(name: str) -> bool:
    return name in (FILES_NAME, CHUNKS_NAME, VECTORS_NAME) or BLOB_NAME.fullmatch(name) is not None


def _manifest(value: dict[str, Any]) -> ArchiveManifest:
    store = value["store"]
    weight, days = store.get("vector_weight"), store.get("expires_after_days")
    groups = tuple(
        GroupRow(
            "",
            _text(item, "name"),
            _text(item, "parent"),
            check_chunking(item["chunking"]),
            _maybe(item, "embedding_model"),
            0.0,
        )
        for item in value["groups"]
    )
    states = tuple(
        (str(group), str(file), None if error is None else str(error))
        for group, file, error in value["group_files"]
    )
    return ArchiveManifest(
        name=_text(store, "name"),
        description=_text(store, "description")[:2_000],
        app=store.get("app") is True,
        answers=_answers(store),
        embedding_model=_text(store, "embedding_model"),
        metadata=check_metadata(store.get("metadata")),
        expires_after_days=None if days is None else min(365, max(1, int(days))),
        vector_weight=None if weight is None else min(1.0, max(0.0, float(weight))),
        links=store.get("links") is True,
        search=check_search(store.get("search", {}), app=store.get("app") is True) or None,
        groups=groups,
        group_files=states,
        chunks=_count(value, "chunks"),
        vectors=value.get("vectors") is True,
        sums={str(name): str(digest) for name, digest in value["sha256"].items()},
    )


refused = refusal("imported")
"""Return the error for a rejected archive."""


def _attributes(value: Mapping[str, Any]) -> Mapping[str, Any]:
    attributes = value.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _text(value: Mapping[str, Any], name: str) -> str:
    field_text = value[name]
    if not isinstance(field_text, str):
        raise TypeError(f"'{name}' must be a string")
    return field_text


def _answers(store: Mapping[str, Any]) -> str:
    """Return the value of ``answers``, or ``auto`` for older archives without one."""
    answers = store.get("answers", "auto")
    if answers not in ANSWERS:
        raise TypeError(f"'answers' must be one of {', '.join(ANSWERS)}")
    return str(answers)


def _maybe(value: Mapping[str, Any], name: str) -> str | None:
    return None if value.get(name) is None else _text(value, name)


def _count(value: Mapping[str, Any], name: str) -> int:
    count = value[name]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**62:
        raise TypeError(f"'{name}' must be an integer")
    return count
