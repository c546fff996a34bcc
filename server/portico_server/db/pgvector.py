"""Vectors of stores in tables of PostgreSQL's extension pgvector: written with the chunks, searched by queries.

One table contains the vectors of one store, chunk group, model and length. The first transaction that writes such
vectors creates it. The tables contain nothing that the table ``vectors`` lacks.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    REAL,
    ColumnElement,
    Connection,
    Integer,
    TableClause,
    Text,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal,
    select,
    table,
    text,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import UserDefinedType

from portico_server.core.errors import Conflict, InvalidRequest
from portico_server.db.rows import portions
from portico_server.db.schema import chunks, stores, vectors

PGVECTOR: Final = "pgvector"
"""The index of a store whose vectors are in these tables, see `store_index`."""

MIN_VERSION: Final = "0.8"
"""The first version of pgvector whose filtered searches go on until they have enough results."""

MAX_GRAPH_DIMENSIONS: Final = 4_000
"""Maximum length of vectors in a graph of pgvector. Longer vectors are compared one by one."""

MAX_EXACT_CHUNKS: Final = 10_000
"""Maximum number of permitted chunks whose vectors a filtered search compares one by one. A graph search would visit
more vectors.
"""

GRAPH_NEIGHBOURS: Final = 16
BUILD_NEIGHBOURS: Final = 64
SEARCH_NEIGHBOURS: Final = 192


class PostgresType(UserDefinedType[Any]):
    """A type of PostgreSQL by its name. SQLAlchemy's own types would import the whole dialect before the first use."""

    cache_ok = True

    def __init__(self, name: str) -> None:
        self.name = name

    def get_col_spec(self, **_options: Any) -> str:
        return self.name


def require(connection: Connection) -> None:
    """Create the extension. Raises `InvalidRequest` if this database cannot have it."""
    if connection.dialect.name != "postgresql":
        raise InvalidRequest(
            "The index 'pgvector' needs PostgreSQL, but the database of this daemon is SQLite. Move it with "
            "'portico migrate' and set the setting 'database' to the URL, or use another index.",
            code="index_unavailable",
            param="index",
        )
    try:
        with connection.begin_nested():
            connection.execute(text("create extension if not exists vector"))
    except DBAPIError as error:
        raise InvalidRequest(
            "PostgreSQL cannot create the extension 'vector': install pgvector on the database server, and run "
            "'create extension vector' as its administrator.",
            code="index_unavailable",
            param="index",
        ) from error
    version = connection.execute(
        text("select extversion from pg_extension where extname = 'vector'")
    ).scalar_one()
    if _numbers(version) < _numbers(MIN_VERSION):
        raise InvalidRequest(
            f"PostgreSQL has pgvector {version}, but the index needs {MIN_VERSION}: install a newer version, and run "
            "'alter extension vector update'.",
            code="index_unavailable",
            param="index",
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def put(connection: Connection, chunk_ids: Sequence[int]) -> None:
    """Copy the vectors of chunks from the table ``vectors``, if their stores use pgvector or are moving to it."""
    if connection.dialect.name != "postgresql":
        return
    from sqlalchemy.dialects.postgresql import insert

    for part in portions(chunk_ids):
        query = (
            select(
                chunks.c.store_id, chunks.c.group_name, vectors.c.model, vectors.c.data, vectors.c.chunk_id
            )
            .select_from(vectors.join(chunks, chunks.c.id == vectors.c.chunk_id))
            .join(stores, stores.c.id == chunks.c.store_id)
            .where(vectors.c.chunk_id.in_(part))
            .where((stores.c.index == PGVECTOR) | (stores.c.next_index == PGVECTOR))
        )
        rows: defaultdict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
        for row in connection.execute(query):
            numbers = _floats(row.data)
            name = _table_name(row.store_id, row.group_name, row.model, len(numbers))
            rows[name, len(numbers)].append({"id": row.chunk_id, "numbers": numbers})
        for (name, dimensions), values in rows.items():
            _create(connection, name, dimensions)
            statement = insert(_table(name)).values(
                chunk_id=bindparam("id", type_=Integer), embedding=_vector(bindparam("numbers"), dimensions)
            )
            connection.execute(statement.on_conflict_do_nothing(), values)


def remove(connection: Connection, store_id: str, group: str, chunk_ids: range) -> None:
    """Delete the vectors of the chunks in a range of ids."""
    for name in _tables(connection, _prefix(store_id, group)):
        vector_table = _table(name)
        connection.execute(
            delete(vector_table).where(vector_table.c.chunk_id.between(chunk_ids[0], chunk_ids[-1]))
        )


def drop(connection: Connection, store_id: str, group: str | None = None, model: str | None = None) -> None:
    """Delete the tables of a store, or of one of its groups, or of one model in a group."""
    if connection.dialect.name != "postgresql":
        return
    for name in _tables(connection, _prefix(store_id, group, model)):
        connection.execute(text(f'drop table "{name}"'))


def has_table(connection: Connection, store_id: str, group: str, model: str) -> bool:
    """Return whether a group has vectors of ``model``."""
    return bool(_tables(connection, _prefix(store_id, group, model)))


def search(
    connection: Connection,
    store_id: str,
    group: str,
    model: str,
    vector: bytes,
    limit: int,
    ranges: Sequence[tuple[int, int]] | None,
) -> list[tuple[int, float]]:
    """Return the ``limit`` nearest chunks as (id, cosine), best first.

    ``vector`` contains float32 numbers, little-endian. ``ranges`` limits the search to ranges of ids, ends included.
    Raises `Conflict` if ``vector`` differs in length from the stored vectors.
    """
    numbers = _floats(vector)
    name = _table_name(store_id, group, model, len(numbers))
    exists = connection.execute(_PREPARE, {"name": name, "candidates": str(SEARCH_NEIGHBOURS)}).scalar_one()
    if not exists:
        if has_table(connection, store_id, group, model):
            raise Conflict(
                f"The embedding model returns {len(numbers)} numbers, but the vectors of the store have another "
                "length: they were computed with another model. Create the store again.",
                code="dimensions_differ",
            )
        return []
    vector_table = _table(name)
    distance: ColumnElement[Any] = vector_table.c.embedding.op("<=>", return_type=REAL())(
        _vector(literal(numbers, ARRAY(REAL)), len(numbers))
    )
    nearest = select(vector_table.c.chunk_id, distance.label("distance")).order_by(distance).limit(limit)
    if ranges is None:
        return _ranking(connection, nearest)
    if sum(last - first + 1 for first, last in ranges) > MAX_EXACT_CHUNKS:
        permitted = cast(literal(_multirange(ranges), Text), PostgresType("int4multirange"))
        hits = _ranking(
            connection, nearest.where(vector_table.c.chunk_id.op("<@", is_comparison=True)(permitted))
        )
        if len(hits) == limit:
            return hits
    # The graph may end before it has met enough permitted chunks, so all of them are compared.
    firsts, lasts = ([bounds[end] for bounds in ranges] for end in (0, 1))
    bounds = (
        func.unnest(literal(firsts, ARRAY(Integer)), literal(lasts, ARRAY(Integer)))
        .table_valued(column("first", Integer), column("last", Integer))
        .render_derived(name="bounds")
    )
    scores = (
        select(vector_table.c.chunk_id, distance.label("distance"))
        .join(bounds, vector_table.c.chunk_id.between(bounds.c.first, bounds.c.last))
        .cte("scores")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    return _ranking(connection, select(scores).order_by(scores.c.distance).limit(limit))


_PREPARE = text(
    "select to_regclass(:name) is not null, set_config('hnsw.iterative_scan', 'strict_order', true), "
    "set_config('hnsw.ef_search', :candidates, true)"
)
"""Returns whether a table exists, and makes filtered searches of this transaction go on until they have enough
results.
"""


def _ranking(connection: Connection, query: Any) -> list[tuple[int, float]]:
    hits = [(row.chunk_id, 1.0 - row.distance) for row in connection.execute(query)]
    return sorted(hits, key=lambda hit: (-hit[1], hit[0]))


def _multirange(ranges: Sequence[tuple[int, int]]) -> str:
    """Return ranges as PostgreSQL writes them."""
    return "{" + ",".join(f"[{first},{last}]" for first, last in ranges) + "}"


def _vector(numbers: ColumnElement[Any], dimensions: int) -> ColumnElement[Any]:
    return cast(cast(numbers, ARRAY(REAL)), PostgresType(f"halfvec({dimensions})"))


def _floats(data: bytes) -> list[float]:
    numbers = array("f")
    numbers.frombytes(data)
    return numbers.tolist()


def _create(connection: Connection, name: str, dimensions: int) -> None:
    """Create a table and its graph, unless they exist."""
    if connection.execute(select(func.to_regclass(name).is_not(None))).scalar_one():
        return
    connection.execute(
        text(
            f'create table "{name}" (chunk_id integer primary key, embedding halfvec({dimensions}) not null)'
        )
    )
    if dimensions <= MAX_GRAPH_DIMENSIONS:
        connection.execute(
            text(
                f'create index on "{name}" using hnsw (embedding halfvec_cosine_ops) '
                f"with (m = {GRAPH_NEIGHBOURS}, ef_construction = {BUILD_NEIGHBOURS})"
            )
        )


def _table(name: str) -> TableClause:
    return table(name, column("chunk_id", Integer), column("embedding"))


def _table_name(store_id: str, group: str, model: str, dimensions: int) -> str:
    """Return a name of at most 63 letters, which is PostgreSQL's limit."""
    return f"{_prefix(store_id, group, model)}{dimensions}"


def _prefix(store_id: str, group: str | None = None, model: str | None = None) -> str:
    """Return how the names of a store's tables begin, or of the tables of a group, or of a group and model."""
    parts = [_digest(part) for part in (group, model) if part is not None]
    return "_".join(["nearest", store_id, *parts, ""])


def _digest(name: str) -> str:
    return sha256(name.encode()).hexdigest()[:6]


def _tables(connection: Connection, prefix: str) -> list[str]:
    query = text("select tablename from pg_tables where starts_with(tablename, :prefix) order by tablename")
    return list(connection.execute(query, {"prefix": prefix}).scalars())
