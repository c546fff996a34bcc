"""A migration that has landed is never edited or withdrawn, and a database of each landed migration can be opened."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, text
from tests import history, postgres
from tests.server.db.test_homes import upgraded
from tests.server.db.test_schema import COLUMNS, CONSTRAINTS, INDEXES, of_file

from portico_server.db import keys, migrate
from portico_server.db.database import Database
from portico_server.db.schema import HEAD

VERSIONS = Path(migrate.__file__).parent / "migrations" / "versions"

TABLE = Path(__file__).parent / "migrations.sha256"
"""The digests of the landed migrations. A new migration gets a line, which never changes after it has landed."""

LANDED = [
    ("b826a17b", "0041"),
    ("a35fcf57", "0041"),
    ("f48b337c", "0042"),
    ("273541aa", "0043"),
    ("da9c57be", "0044"),
    ("7f56b592", "0045"),
    ("6be17a80", "0044"),
    ("3243792a", "0044"),
    ("3eccf7e7", "0044"),
]
"""Each commit after which databases were created in another way, and their schema: 0044 changed three times, and the
first 0045 was withdrawn."""

every_landed_schema = pytest.mark.parametrize(("commit", "number"), LANDED)


def test_each_migration_has_the_digest_with_which_it_landed() -> None:
    digests = [
        f"{sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in sorted(VERSIONS.glob("*.py"))
    ]
    assert TABLE.read_text(encoding="utf-8").splitlines() == digests, (
        "Never edit a landed migration: write a new one. After adding one, run: "
        f"(cd {VERSIONS.relative_to(history.ROOT)} && sha256sum *.py) > {TABLE.relative_to(history.ROOT)}"
    )


def test_no_digest_of_a_landed_migration_has_changed() -> None:
    path = TABLE.relative_to(history.ROOT).as_posix()
    refs = history.git("for-each-ref", "--format=%(refname)", "refs/remotes/origin/main").decode().split()
    lines = set(TABLE.read_text(encoding="utf-8").splitlines())
    for commit in history.git("log", "--format=%H", *(refs or ["HEAD"]), "--", path).decode().split():
        landed_lines = set(history.git("show", f"{commit}:{path}").decode().splitlines())
        assert landed_lines <= lines, f"{commit} has landed with {sorted(landed_lines - lines)}"


def create(commit: str, folder: Path) -> Callable[[Connection], None]:
    """Return a function that creates the schema with the migrations of a commit, and a key."""
    history.unpack(commit, folder, "server/portico_server/db/migrations/versions")
    settings = migrate.config()
    settings.set_main_option(
        "version_locations", str(folder / "server" / "portico_server" / "db" / "migrations" / "versions")
    )
    settings.set_main_option("path_separator", "os")

    def work(connection: Connection) -> None:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.execute(
            text(
                "insert into keys (id, name, hash, hint, scopes, created_at) "
                "values ('key_1', 'website', 'hash', 'hint', '[]', 1)"
            )
        )

    return work


async def opened_keys(database: Database) -> list[tuple[str, tuple[str, ...]]]:
    """Open a database, and return the names and groups of its keys."""
    try:
        database.prepare()
        await database.check()
        return [(row.name, row.groups) for row in await database.read(keys.living)]
    finally:
        database.close()


@every_landed_schema
async def test_a_sqlite_home_of_each_landed_schema_is_upgraded(
    commit: str, number: str, tmp_path: Path
) -> None:
    path, reference_path = tmp_path / "portico.db", tmp_path / "described.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        create(commit, tmp_path)(connection)
        assert connection.scalar(text("select version_num from alembic_version")) == number
    engine.dispose()
    assert await opened_keys(Database.at(path)) == [("website", ())]
    upgraded(reference_path)
    assert of_file(path) == of_file(reference_path)


@every_landed_schema
async def test_a_postgresql_database_of_each_landed_schema_is_upgraded(
    commit: str, number: str, tmp_path: Path, server: postgres.Server
) -> None:
    url, reference_url = server.new(), server.prepared()()
    database = Database(url)
    assert database.postgres is not None
    database.postgres.wait_for_write(create(commit, tmp_path))
    assert _rows(server, url, "select version_num from alembic_version") == [(number,)]
    assert await opened_keys(database) == [("website", ())]
    assert _rows(server, url, "select version_num from alembic_version") == [(HEAD,)]
    for query in (COLUMNS, CONSTRAINTS, INDEXES):
        assert _rows(server, url, query) == _rows(server, reference_url, query)


def _rows(server: postgres.Server, url: str, query: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in server.execute(query, url)]
