"""A database of the time before names had owners: every store, app and prompt is there, under the names it had."""

from pathlib import Path

from alembic import command
from sqlalchemy import create_engine, text

from portico_server.db import apps, migrate, prompts, sessions, stores
from portico_server.db.database import Database

_STORE = (
    "insert into stores (id, name, description, owner, app, embedding_model, metadata, last_active_at, created_at,"
    " last_change) values ('{}', '{}', '', {}, 0, '', '{{}}', 0, 0, 1)"
)
_SESSION = "insert into sessions values ('{}', '{}', '{}', 'talk', '', '{{}}', 1, 1, 1)"
_ROWS = (
    _STORE.format("vs_1", "docs", "null"),
    _STORE.format("vs_2", "docs", "'key_1'"),
    _STORE.format("vs_3", "early", "'key_1'"),
    _STORE.format("vs_4", "early", "null"),
    _STORE.format("vs_5", "early", "'key_1'"),
    _STORE.format("vs_6", "a/title: this", "'key_1'"),
    "insert into apps values ('helper', null, 'flow', 2, '{\"concurrency\": 2}', 1, 2)",
    "insert into apps values ('mine', 'key_1', 'flow', 1, null, 1, 2)",
    "insert into app_versions values ('helper', 1, '{\"a\": 1}', 'd1', '', 'local', 1)",
    "insert into app_versions values ('helper', 2, '{\"a\": 2}', 'd2', 'note', 'local', 2)",
    "insert into app_versions values ('mine', 1, '{}', 'd3', '', 'key_1', 1)",
    _SESSION.format("conv_1", "helper", "key_1"),
    _SESSION.format("conv_2", "mine", "key_1"),
    _SESSION.format("conv_3", "mine", "key_2"),
    "insert into session_messages values ('conv_1', 1, '', null, '{}', 1)",
    "insert into prompts values ('a/b', 1, 'key_1', '{\"name\": \"a/b\"}', '', 1)",
    "insert into prompts values ('a/b', 2, 'key_1', '{\"name\": \"a/b\", \"title\": \"two\"}', 'file', 2)",
    "insert into prompts values ('shared', 1, null, '{\"name\": \"shared\"}', '', 1)",
)


async def test_what_had_a_name_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "portico.db"
    engine = create_engine(f"sqlite:///{path}")
    settings = migrate.config()
    with engine.begin() as connection:
        settings.attributes["connection"] = connection
        command.upgrade(settings, "0011")
        for statement in _ROWS:
            connection.exec_driver_sql(statement)
        assert connection.execute(text("select count(*) from stores")).scalar() == 6
    engine.dispose()
    database = Database.at(path)
    database.prepare()
    try:
        for name, owner, expected in (
            ("docs", None, "vs_1"),
            ("docs", "key_1", None),
            ("early", "key_1", "vs_3"),
            ("early", None, "vs_4"),
            ("a/title: this", "key_1", None),
        ):
            row = await database.read(stores.named, name, owner)
            assert (None if row is None else row.id) == expected, (name, owner)
        found = {row.name: (row, version) for row, version in await database.read(apps.all_of)}
        row, version = found["helper"]
        assert (row.owner, row.version, row.limits, version.spec) == (None, 2, {"concurrency": 2}, {"a": 2})
        assert row.id.startswith("app_")
        talks = {each.id: each for each in await database.read(sessions.newest, 10)}
        assert (talks["conv_1"].app, talks["conv_1"].app_id) == ("helper", row.id)
        assert talks["conv_2"].app_id == found["mine"][0].id
        assert (talks["conv_3"].app, talks["conv_3"].app_id) == ("mine", "mine"), (
            "no app of that name is this key's"
        )
        assert len(await database.read(sessions.messages, "conv_1")) == 1
        assert [each.version for each in await database.read(apps.versions, row.id)] == [2, 1]
        assert found["mine"][0].owner == "key_1" and found["mine"][0].limits is None
        prompt = await database.read(prompts.named, "a/b", "key_1")
        assert prompt is not None and (prompt.version, prompt.origin) == (2, "file")
        assert [each.version for each in await database.read(prompts.versions, prompt.id)] == [2, 1]
        assert await database.read(prompts.named, "a/b", None) is None
        assert await database.read(prompts.named, "shared", None) is not None
    finally:
        database.close()
