"""Copies of a live SQLite database, the references in such a copy, and the release of a database's unused pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.facts import MEMORY
from portico_server.db.schema import metadata

COPY_PAGES: Final = 2_048
"""Number of pages copied in one step: 8 MB."""

FREED_PAGES: Final = 512
"""Number of pages released in one transaction. Other writers can run between two transactions."""

BUSY_TIMEOUT_S: Final = 30.0

INCREMENTAL_VACUUM_CODE: Final = 2
"""SQLite's code for a database that can release pages a few at a time."""


class SnapshotError(Exception):
    """A copy cannot be made or read; the message gives the reason."""


OnProgress = Callable[[int, int], None]
"""Progress callback: ``(done, total)``, in pages."""


@dataclass(frozen=True, slots=True)
class References:
    """SHA-256 digests of bytes that are stored outside the database: uploaded and mirrored files, and artifacts.

    ``others`` come from other tables. Their bytes may be stored with the files or with the artifacts, or may no longer
    be needed.
    """

    blobs: frozenset[str]
    artifacts: frozenset[str]
    others: frozenset[str]


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise SnapshotError(str(error)) from error


def copy(source: Path, target: Path, on_progress: OnProgress = lambda done_pages, total: None) -> None:
    """Copy the state of the database at one moment, while other connections read and write it. Raises `SnapshotError`.

    One read transaction spans all steps, so that writers neither wait for the copy nor make it start again.
    """
    with (
        _translated(),
        closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as old,
        closing(sqlite3.connect(target, isolation_level=None)) as new,
    ):
        old.isolation_level = None
        old.execute("BEGIN")
        old.execute("SELECT count(*) FROM sqlite_master").fetchone()  # the first read fixes the snapshot
        new.execute("PRAGMA synchronous=OFF")  # the caller flushes once
        old.backup(
            new,
            pages=COPY_PAGES,
            progress=lambda _state, remaining_pages, total: on_progress(total - remaining_pages, total),
            sleep=0,
        )
        old.execute("ROLLBACK")
        # The copy must be a single file, because a separate log would have to be copied with it.
        new.execute("PRAGMA journal_mode=DELETE").fetchone()


def references(path: Path) -> References:
    """Return all digests that a copy refers to, in any table."""
    with _translated(), closing(_open_read_only(path)) as connection:
        present = {
            row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }

        def digests(query: str, *tables: str) -> frozenset[str]:
            return (
                frozenset(row[0] for row in connection.execute(query))
                if {*tables} <= present
                else frozenset()
            )

        blobs = digests("SELECT sha256 FROM files", "files") | digests(
            "SELECT input_sha256 FROM batches WHERE finished_at IS NULL", "batches"
        )
        artifacts = digests("SELECT sha256 FROM artifacts", "artifacts")
        other_digests: set[str] = set()
        for table in metadata.tables.values():
            for column in table.columns:
                if column.name.endswith("sha256"):
                    column_digests = digests(f'SELECT "{column.name}" FROM "{table.name}"', table.name)  # noqa: S608
                    other_digests.update(digest for digest in column_digests if digest)
    return References(blobs, artifacts, frozenset(other_digests) - blobs - artifacts)


def revision(path: Path) -> str | None:
    """Return the number of a copy's last migration, or ``None``."""
    with _translated(), closing(_open_read_only(path)) as connection:
        try:
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
        except sqlite3.OperationalError:
            return None
    return None if row is None else str(row[0])


def problems(path: Path) -> Sequence[str]:
    """Return the problems that SQLite finds in a copy; empty if it is intact."""
    try:
        with _translated(), closing(_open_read_only(path)) as connection:
            found_problems = [str(row[0]) for row in connection.execute("PRAGMA quick_check(5)")]
    except SnapshotError as error:
        return [str(error)]
    return [] if found_problems == ["ok"] else found_problems


def distrust_facts(path: Path) -> None:
    """Make the origins of all facts in a copy unknown, because anybody may have written the copy.

    Raises `SnapshotError`. A copy without facts is not changed.
    """
    with _translated(), closing(sqlite3.connect(path)) as connection, connection:
        tables = {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}
        for table in {"store_files", "fact_versions"} & tables:
            condition = f"json_valid(attributes) and json_extract(attributes, '$.{MEMORY}') is not null"
            if connection.execute(f"select 1 from {table} where {condition} limit 1").fetchone():  # noqa: S608
                connection.execute(
                    f"update {table} set attributes = json_remove(attributes, '$.{MEMORY}') "  # noqa: S608
                    f"where {condition}"
                )


def _open_read_only(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)


def free_bytes(connection: sqlite3.Connection) -> int:
    """Return the total size of unused pages in bytes."""
    return _pragma(connection, "freelist_count") * _pragma(connection, "page_size")


def is_incremental(connection: sqlite3.Connection) -> bool:
    """Return whether the database can release pages a few at a time."""
    return _pragma(connection, "auto_vacuum") == INCREMENTAL_VACUUM_CODE


def give_back(connection: sqlite3.Connection) -> bool:
    """Release `FREED_PAGES` in one transaction; return whether more pages can be released."""
    # The result has a row for each page, and pages are released only while the rows are read.
    connection.execute(f"PRAGMA incremental_vacuum({FREED_PAGES})").fetchall()
    return _pragma(connection, "freelist_count") > 0


def convert(connection: sqlite3.Connection) -> None:
    """Rewrite the whole database without unused pages, so that later unused pages can be released a few at a time.

    Other connections can read meanwhile, but not write. Needs disk space for a second copy of the used pages.
    """
    connection.execute(f"PRAGMA auto_vacuum={INCREMENTAL_VACUUM_CODE}")
    connection.execute("VACUUM")


def shorten(connection: sqlite3.Connection) -> None:
    """Shorten the database file on disk to its logical size, as far as current readers allow."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
