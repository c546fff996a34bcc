"""A database of the time before groups: the same chunks, found as before, with the group that they always had."""

from pathlib import Path

from alembic import command
from sqlalchemy import create_engine, text

from portico_server.db import changes, chunks, groups, hits, migrate
from portico_server.db.database import Database


async def test_what_was_indexed_before_is_in_the_stores_own_group(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    engine = create_engine(f"sqlite:///{path}")
    settings = migrate.config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0002")
        for statement in (
            "insert into stores (id, name, description, app, embedding_model, metadata, last_active_at, created_at,"
            " last_change) values ('vs_1', 'old', '', 0, '', '{}', 0, 0, 1)",
            "insert into files values ('file-1', null, 'a.txt', 'assistants', 1, '0', 0, null)",
            "insert into store_files values ('vs_1', 'file-1', 'completed', null, null, '{}', '{}', 3, 5, null, null)",
            "insert into chunks values (7, 'vs_1', 'file-1', 'chunk', 0, 'one', '{\"line\": 1}')",
            "insert into changes values ('vs_1', 1, 'put', 'file-1', 7, 7)",
        ):
            connection.execute(text(statement))
    engine.dispose()
    database = Database.at(path)
    database.prepare()
    try:
        assert list(await database.read(chunks.ids, "vs_1")) == [7]
        [change] = await database.read(changes.after, "vs_1", 0, 10)
        assert (change.group_name, change.first_chunk) == ("chunk", 7)
        hit = (await database.read(hits.get, "vs_1", [7]))[7]
        assert (hit.text, hit.place.line, hit.group, hit.created_at) == ("one", 1, "chunk", 5)
        assert await database.read(groups.of_store, "vs_1") == []
    finally:
        database.close()
