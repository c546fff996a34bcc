"""Links: the names that occur in each chunk of a store. They are written and deleted with the chunks, and read in
limited portions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Connection, TextClause, text

from portico_server.db.schema import links

MAX_TERM_CHUNKS = 100
"""Maximum number of chunks that contain a term. A more frequent term links no chunks."""

MAX_LINKS_READ_ROWS = 4_000
"""Maximum number of links read by one statement."""


NAME, CODE, REFERENCE, FILE = 1, 2, 3, 4

KINDS = {NAME: "name", CODE: "code", REFERENCE: "reference", FILE: "file"}
"""Maps each kind of term to its name: a name or a quoted title, an identifier, a numbered part of the same file, a
file.
"""

WEAK_WEIGHT, NAME_WEIGHT, DEFINES_WEIGHT = 1, 2, 3
"""Weights of a phrase that may be a name, of a name, and of the subject of a chunk, such as its heading or caption."""


class NewLink(NamedTuple):
    """A name in a chunk: the hash of name and store, below 2**48; the kind of the name; its weight, see
    `NAME_WEIGHT`.
    """

    term: int
    kind: int
    weight: int


class LinkRow(NamedTuple):
    """A chunk that contains a term. ``file_id`` is empty unless requested."""

    term: int
    chunk_id: int
    kind: int
    weight: int
    file_id: str = ""


_INSERT = "INSERT OR IGNORE INTO links (term, chunk_id, kind, weight) VALUES (?, ?, ?, ?)"

_WANTED = {
    "sqlite": "(SELECT value FROM json_each(:wanted)) w",
    "postgresql": "(SELECT CAST(e AS bigint) AS value FROM jsonb_array_elements_text(CAST(:wanted AS jsonb)) e) w",
}
"""SQL for a list of numbers that is passed as one JSON text, so that the statement is the same for any number of
them.
"""


def _statements(template: str) -> Mapping[str, tuple[str, TextClause]]:
    """Return the query for each kind of database, as text. SQLAlchemy expressions would be compiled at each call,
    which takes longer than the query.
    """
    return {
        name: (sql := template.replace("WANTED", chunk_list), text(sql))
        for name, chunk_list in _WANTED.items()
    }


_OF_CHUNKS = _statements(
    "SELECT l.term, l.chunk_id, l.kind, l.weight FROM WANTED CROSS JOIN links l "
    "WHERE l.chunk_id = w.value LIMIT :most"
)
_NAMING = _statements(
    "SELECT l.term, l.chunk_id, l.kind, l.weight FROM WANTED CROSS JOIN links l WHERE l.term = w.value "
    "AND (SELECT y.chunk_id FROM links y WHERE y.term = w.value LIMIT 1 OFFSET :bound) IS NULL LIMIT :most"
)
_NAMING_IN_FILES = _statements(
    "SELECT l.term, l.chunk_id, l.kind, l.weight, c.file_id FROM WANTED CROSS JOIN links l CROSS JOIN chunks c "
    "WHERE l.term = w.value AND c.id = l.chunk_id "
    "AND (SELECT y.chunk_id FROM links y WHERE y.term = w.value LIMIT 1 OFFSET :bound) IS NULL LIMIT :most"
)


def _read(
    connection: Connection,
    statements: Mapping[str, tuple[str, TextClause]],
    chunk_ids: Sequence[int],
    **bounds: int,
) -> Sequence[Any]:
    parameters = {"wanted": orjson.dumps(list(chunk_ids)).decode(), **bounds}
    sql, clause = statements[connection.dialect.name]
    if (
        connection.dialect.name == "sqlite"
    ):  # without SQLAlchemy, because a search reads thousands of small rows
        driver: Any = connection.connection.driver_connection
        rows: list[Any] = driver.execute(sql, parameters).fetchall()
        return rows
    return connection.execute(clause, parameters).all()


def add(connection: Connection, named_links: Mapping[int, Sequence[NewLink]]) -> None:
    """Write the names in chunks, keyed by chunk id; existing links are kept."""
    # In the order of the table, so that each page of the table is written only once.
    rows = sorted(
        (link.term, chunk, link.kind, link.weight)
        for chunk, chunk_links in named_links.items()
        for link in chunk_links
    )
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.executemany(_INSERT, rows)
        return
    from sqlalchemy.dialects.postgresql import insert as insert_or_ignore

    columns = ("term", "chunk_id", "kind", "weight")
    values = [dict(zip(columns, row, strict=True)) for row in rows]
    connection.execute(insert_or_ignore(links).on_conflict_do_nothing(), values)


def of_chunks(connection: Connection, chunk_ids: Sequence[int]) -> list[LinkRow]:
    """Return at most `MAX_LINKS_READ_ROWS` links of chunks."""
    return [LinkRow(*row) for row in _read(connection, _OF_CHUNKS, chunk_ids, most=MAX_LINKS_READ_ROWS)]


def naming(
    connection: Connection,
    terms: Sequence[int],
    *,
    with_files: bool = False,
    limit: int = MAX_LINKS_READ_ROWS,
) -> list[LinkRow]:
    """Return at most ``limit`` links to terms; none for a term that occurs in more than `MAX_TERM_CHUNKS` chunks."""
    statements = _NAMING_IN_FILES if with_files else _NAMING
    rows = _read(connection, statements, terms, most=limit, bound=MAX_TERM_CHUNKS)
    return [LinkRow(*row) for row in rows]
