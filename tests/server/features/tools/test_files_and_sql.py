"""The tools `files` and `sql` reach the contents of the declared folders, and nothing else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import RegistryFixture, open_registry

from portico_server.core.errors import InvalidRequest
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.query.source import MAX_QUERY_CHARS, SqliteSource
from portico_server.features.tools.builtin import outward
from portico_server.features.tools.folders import Folders
from portico_server.features.tools.toolbox import Toolbox
from portico_server.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a text, a database, links that lead out of it, and a secret beside it."""
    folder = tmp_path / "shared"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.txt").write_text("Grüße " * 10, encoding="utf-8")
    (folder / "deep" / "b.bin").write_bytes(b"\x00\x01")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    with closing(sqlite3.connect(folder / "shop.db")) as connection:
        connection.executescript(
            "create table items (name text, price real, picture blob);"
            "insert into items values ('bread', 3.5, x'0102'), ('milk', 1.2, null), ('salt', null, null);"
        )
    with closing(sqlite3.connect(tmp_path / "secret.db")) as connection:
        connection.executescript("create table s (x); insert into s values ('secret')")
    return folder


@pytest.fixture
async def daemon(tmp_path: Path, folder: Path) -> AsyncIterator[RegistryFixture]:
    async with open_registry(tmp_path) as registry_daemon:
        toolbox = Toolbox(registry_daemon.registry)
        for tool in outward(Settings(tool_folders=str(folder))):
            toolbox.add(tool)
        yield registry_daemon


async def use(daemon: RegistryFixture, name: str, caller: Principal = LOCAL, **arguments: Any) -> ToolResult:
    result, _events = await daemon.call(f"tool/{name}", ToolCall(arguments), caller)
    assert isinstance(result, ToolResult)
    return result


def test_file_and_sql_tools_are_not_offered_without_declared_folders() -> None:
    assert not {"files", "sql", "sql_schema"} & {tool.name for tool in outward(Settings())}


def test_folders_with_the_same_name_get_numbered_names(tmp_path: Path) -> None:
    for name in ("a/docs", "b/docs"):
        (tmp_path / name).mkdir(parents=True)
    roots = Folders.of(f"{tmp_path}/a/docs, {tmp_path}/b/docs,").roots
    assert roots == {"docs": tmp_path / "a" / "docs", "docs-2": tmp_path / "b" / "docs"}


async def test_folders_are_listed_and_files_are_read_in_parts(daemon: RegistryFixture, folder: Path) -> None:
    listing = await use(daemon, "files", path="shared")
    assert "shared/deep/" in listing.text and "shared/a.txt (80 bytes)" in listing.text
    first = await use(daemon, "files", path="shared/a.txt", max_chars=6)
    assert first.structured == {"path": "shared/a.txt", "text": "Grüße ", "next_start": 6, "total_chars": 60}
    assert (await use(daemon, "files", path=str(folder / "a.txt"), start=54)).text == "Grüße "
    assert (await use(daemon, "files", path="shared/deep/b.bin")).is_error


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/etc/passwd",
            "shared/../secret.txt",
            "../secret.txt",
            "shared/out.txt",
            "shared/up/secret.txt",
            "other",
        ),
        *("shared/nothing.txt", "/", ".", "~/x", "shared/\0", "shared/deep/../../secret.txt", "//etc/passwd"),
    ],
)
async def test_files_outside_the_declared_folders_cannot_be_read(daemon: RegistryFixture, path: str) -> None:
    result = await use(daemon, "files", path=path)
    assert result.is_error and "secret" not in result.text.replace("secret.txt", "")


async def test_a_database_schema_and_its_rows_are_queried(daemon: RegistryFixture) -> None:
    schema = await use(daemon, "sql_schema", database="shared/shop.db")
    assert schema.text == "table items (name TEXT, price REAL, picture BLOB)"
    assert schema.structured is not None and schema.structured["tables"][0]["columns"][1] == {
        "name": "price",
        "type": "REAL",
    }
    result = await use(
        daemon,
        "sql",
        database="shared/shop.db",
        query="select name, price, picture from items where price > ? or price is null order by name",
        parameters=[2],
    )
    assert result.structured == {
        "columns": ["name", "price", "picture"],
        "rows": [["bread", 3.5, "<2 bytes>"], ["salt", None, None]],
        "truncated": False,
    }
    cut = await use(daemon, "sql", database="shared/shop.db", query="select name from items", max_rows=1)
    assert cut.structured is not None and cut.structured["truncated"] and "more rows" in cut.text


@pytest.mark.parametrize(
    "statement",
    [
        "delete from items",
        "insert into items values (1, 2, 3)",
        "drop table items",
        "create table x (y)",
        "create temp table x (y)",
        "pragma query_only = off",
        "pragma database_list",
        "attach '{secret}' as s",
        "vacuum into '{copy}'",
        "select load_extension('x')",
        "select * from nothing",
        "select 1; select 2",
        "begin immediate",
        "nonsense",
        "select zeroblob(1000000000)",
    ],
)
async def test_sql_statements_other_than_valid_reads_are_refused(
    daemon: RegistryFixture, folder: Path, statement: str
) -> None:
    bytes_before = (folder / "shop.db").read_bytes()
    text = statement.format(secret=folder.parent / "secret.db", copy=folder / "copy.db")
    result = await use(daemon, "sql", database="shared/shop.db", query=text)
    assert result.is_error
    assert (folder / "shop.db").read_bytes() == bytes_before and not (folder / "copy.db").exists()


async def test_files_that_are_not_databases_cannot_be_queried(daemon: RegistryFixture) -> None:
    for database in ("shared/a.txt", "shared", "shared/up/secret.db"):
        assert (await use(daemon, "sql", database=database, query="select 1 from sqlite_schema")).is_error


async def test_a_query_without_end_is_stopped(folder: Path) -> None:
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"
    with pytest.raises(InvalidRequest, match=r"stopped after 0\.2 s"):
        await SqliteSource(folder / "shop.db").read(endless, (), limit=1, timeout=0.2)


@pytest.mark.parametrize(
    "step",
    [
        "select instr(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1')",
        "select replace(hex(zeroblob(4000000)), hex(zeroblob(2000000)) || '1', 'x')",
    ],
)
async def test_a_single_long_sqlite_operation_is_stopped_at_its_timeout(folder: Path, step: str) -> None:
    with pytest.raises(InvalidRequest, match="stopped after"):
        await SqliteSource(folder / "shop.db").read(step, (), limit=1, timeout=0.2)


async def test_endless_queries_of_one_key_leave_room_for_another_s(
    daemon: RegistryFixture, folder: Path
) -> None:
    endless = "with recursive n(x) as (select 1 union all select x + 1 from n) select count(*) from n"
    greedy = replace(LOCAL, id="key_greedy")
    tasks = [
        asyncio.create_task(use(daemon, "sql", caller=greedy, database="shared/shop.db", query=endless))
        for _number in range(8)
    ]
    await asyncio.sleep(0)
    result = await use(daemon, "sql", database="shared/shop.db", query="select count(*) as n from items")
    assert not result.is_error
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_answer_without_end_is_cut(folder: Path) -> None:
    endless = (
        "with recursive n(x) as (select 1 union all select x + 1 from n) select hex(randomblob(9000)) from n"
    )
    result = await SqliteSource(folder / "shop.db").read(endless, (), limit=1_000, timeout=30)
    assert result.truncated and sum(len(row[0]) for row in result.rows) <= MAX_QUERY_CHARS
