"""The tables in code, the migrations from scratch and a home of each earlier schema result in one schema."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from alembic import command
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, create_mock_engine
from sqlalchemy.schema import ExecutableDDLElement
from tests.server.db.query import cluster
from tests.server.db.test_homes import every_home, unpacked, upgraded

from portico_server.db import migrate
from portico_server.db.schema import metadata

COLUMNS = """
select table_name, column_name, data_type, is_nullable, column_default
from information_schema.columns where table_schema = 'public' order by 1, 2
"""
CONSTRAINTS = """
select conrelid::regclass::text, conname, pg_get_constraintdef(oid)
from pg_constraint where connamespace = 'public'::regnamespace order by 1, 2
"""
INDEXES = "select tablename, indexname, indexdef from pg_indexes where schemaname = 'public' order by 1, 2"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    program_folder = cluster.programs()
    if program_folder is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with cluster.running(program_folder) as url:
        yield url


def of_file(path: Path) -> dict[str, Any]:
    """Return the schema of a SQLite file: the columns, keys and indexes of each table, in any order."""
    tables: dict[str, Any] = {}
    with closing(sqlite3.connect(path)) as database:
        for name, sql in database.execute(
            "select name, sql from sqlite_master where type = 'table'"
        ).fetchall():
            if name.startswith("sqlite_") or name == "alembic_version":
                continue
            tables[name] = {
                "columns": {row[1:] for row in database.execute(f"pragma table_info({name})")},
                "refers": {
                    (frozenset(row[3:5] for row in rows), rows[0][2], rows[0][6])
                    for rows in _by_number(database.execute(f"pragma foreign_key_list({name})").fetchall())
                },
                "indexes": {
                    (
                        *row[1:4],
                        tuple(column[2] for column in database.execute(f"pragma index_info({row[1]})")),
                    )
                    for row in database.execute(f"pragma index_list({name})").fetchall()
                },
                "counts up": "AUTOINCREMENT" in sql,
            }
    return tables


def _by_number(rows: list[Any]) -> list[list[Any]]:
    return [[row for row in rows if row[0] == number] for number in sorted({row[0] for row in rows})]


@pytest.fixture
def described(tmp_path: Path) -> dict[str, Any]:
    """The schema of a SQLite file created from the tables in code."""
    engine = create_engine(f"sqlite:///{tmp_path / 'described.db'}")
    metadata.create_all(engine)
    engine.dispose()
    return of_file(tmp_path / "described.db")


def test_migrations_of_an_empty_database_yield_the_schema_in_code(
    tmp_path: Path, described: dict[str, Any]
) -> None:
    upgraded(tmp_path / "portico.db")
    assert len(described) == len(metadata.tables)
    assert of_file(tmp_path / "portico.db") == described


@every_home
def test_migrating_an_old_home_yields_the_schema_in_code(
    home: Path, tmp_path: Path, described: dict[str, Any]
) -> None:
    unpacked(home, tmp_path)
    upgraded(tmp_path / "portico.db")
    assert of_file(tmp_path / "portico.db") == described


@pytest.mark.slow
async def test_migrations_on_postgresql_yield_the_schema_in_code(server: str) -> None:
    migrated = await _on_postgresql(server, "migrated", _sql_of_migrations())
    described_schema = await _on_postgresql(server, "described", _sql_of_tables())
    assert len({row[0] for row in described_schema[0]}) == len(metadata.tables)
    assert migrated == described_schema


async def _on_postgresql(server: str, name: str, sql: str) -> list[list[tuple[Any, ...]]]:
    """Return columns, constraints and indexes of a new database after running ``sql``."""
    admin = await asyncpg.connect(server)
    await admin.execute(f"create database {name}")
    await admin.close()
    connection = await asyncpg.connect(server.rsplit("/", 1)[0] + f"/{name}")
    try:
        await connection.execute(sql)
        return [
            [tuple(row) for row in await connection.fetch(query)] for query in (COLUMNS, CONSTRAINTS, INDEXES)
        ]
    finally:
        await connection.close()


def _sql_of_migrations() -> str:
    out = StringIO()
    options = {"as_sql": True, "output_buffer": out, "target_metadata": metadata}
    context = MigrationContext.configure(dialect_name="postgresql", opts=options)
    scripts = list(ScriptDirectory.from_config(migrate.config()).walk_revisions())
    with Operations.context(context):
        for script in reversed(scripts):
            script.module.upgrade()
    return out.getvalue()


def _sql_of_tables() -> str:
    statements: list[str] = []

    def keep(statement: ExecutableDDLElement, *_arguments: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)))

    engine = create_mock_engine("postgresql://", keep)
    metadata.create_all(engine, checkfirst=False)
    return ";\n".join(statements)


def test_migrations_keep_existing_columns_and_add_only_optional_ones(tmp_path: Path) -> None:
    """Each table and column stays as it is; a new column of an existing table has a default, or may be empty."""
    settings = migrate.config()
    revisions = [script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()]
    engine = create_engine(f"sqlite:///{tmp_path / 'steps.db'}")
    tables_before: dict[str, Any] = {}
    for revision in reversed(revisions):
        with engine.begin() as connection:
            settings.attributes["connection"] = connection
            command.upgrade(settings, revision)
        tables_after = of_file(tmp_path / "steps.db")
        for table, shape in tables_before.items():
            assert table in tables_after, f"{revision} removes {table}"
            assert shape["columns"] <= tables_after[table]["columns"], (
                f"{revision} changes a column of {table}"
            )
            for name, _kind, is_required, default, _key in tables_after[table]["columns"] - shape["columns"]:
                assert not is_required or default is not None, f"{revision}: {table}.{name} needs a default"
            new_indexes = tables_after[table]["indexes"] - shape["indexes"]
            assert not any(unique for _name, unique, *_rest in new_indexes), f"{revision}: {table}"
            assert shape["refers"] == tables_after[table]["refers"], f"{revision}: {table}"
        tables_before = tables_after
    engine.dispose()
