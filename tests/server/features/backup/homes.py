"""Homes with many rows, and what they contain."""

from __future__ import annotations

import hashlib
import sqlite3
import struct
from contextlib import closing
from pathlib import Path

from tests.server.db.test_homes import rows

from portico_server import home_replacement

LOCKS = ("daemon.lock", home_replacement.LOCK)


def fill(home: Path, count: int) -> None:
    """Add chunks with vectors to a home."""
    chunks = [
        (10 + number, "vs", "file", "chunk", number, f"Text {number} 雪 \\ \" '", f'{{"line":  {number}}}')
        for number in range(count)
    ]
    vectors = [
        (10 + number, "model", struct.pack("<64f", *(number / (n + 1) for n in range(64))))
        for number in range(count)
    ]
    with closing(sqlite3.connect(home / "portico.db")) as database, database:
        database.executemany("insert into chunks values (?, ?, ?, ?, ?, ?, ?)", chunks)
        database.executemany("insert into vectors values (?, ?, ?)", vectors)
        database.execute("update sqlite_sequence set seq = seq + 100 where name = 'chunks'")  # deleted chunks


def tree(home: Path) -> dict[str, str]:
    """Return the digest of each file of a home, except for its locks."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and path.name not in LOCKS
    }


def content(home: Path) -> dict[str, list[str]]:
    """Return all rows of all tables, with rows and columns in an order of their own."""
    return {
        name: sorted(repr(sorted(row.items())) for row in table_rows)
        for name, table_rows in rows(home / "portico.db").items()
    }
