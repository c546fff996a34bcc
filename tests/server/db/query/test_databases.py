"""Databases as tools: a real PostgreSQL and DuckDB, read and never written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import pytest
from tests.registry_fixture import RegistryFixture, open_registry
from tests.server.db.query import cluster

from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.database import Database
from portico_server.db.query.source import (
    MAX_CELL_CHARS,
    MAX_QUERY_CHARS,
    DuckDBSource,
    PostgresSource,
    QuerySource,
    open_source,
    without_password,
)
from portico_server.features.tools.builtin import outward
from portico_server.features.tools.sources.function_packages import FunctionPackages
from portico_server.features.tools.sources.sources import AddedTools
from portico_server.features.tools.sources.spec import parse
from portico_server.features.tools.toolbox import Toolbox
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.settings import Settings

SETUP = (
    "create table items (id integer primary key, name varchar, price decimal(6,2), made date)",
    "insert into items values (1, 'bread', 3.50, '2026-11-01'), (2, 'milk', 1.20, null)",
    "create view cheap as select name from items where price < 2",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL with the tables; yield the URL of a reader with a password and limited rights."""
    program_folder = cluster.programs()
    if program_folder is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")

    async def prepare(url: str) -> None:
        connection = await asyncpg.connect(url)
        for statement in (
            *SETUP,
            "create table secrets (word text)",
            "create role reader login password 'hidden'",
            "grant select, insert, update, delete on items, cheap to reader",
        ):
            await connection.execute(statement)
        await connection.close()

    with cluster.running(program_folder) as url:
        asyncio.run(prepare(url))
        yield url.replace("admin@", "reader:hidden@")


@pytest.fixture(scope="module")
def duck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("duck") / "shop.duckdb"
    with duckdb.connect(str(path)) as connection:
        for statement in SETUP:
            connection.execute(statement)
    return path


@pytest.fixture(params=["postgres", "duckdb"])
def source(request: pytest.FixtureRequest) -> QuerySource:
    """A database of each kind, with the same tables."""
    if request.param == "postgres":
        return PostgresSource(request.getfixturevalue("server"))
    return DuckDBSource(request.getfixturevalue("duck"))


async def names(source: QuerySource) -> list[str]:
    result = await source.read("select name from items order by id", (), limit=10, timeout=10)
    return [row[0] for row in result.rows]


async def test_rows_come_with_their_columns_and_exact_values(source: QuerySource) -> None:
    result = await source.read("select * from items order by id", (), limit=10, timeout=10)
    assert result.columns == ("id", "name", "price", "made")
    assert result.rows == ((1, "bread", "3.50", "2026-11-01"), (2, "milk", "1.20", None))
    assert not result.truncated


async def test_columns_may_share_a_name_and_a_query_may_end_in_a_comment(source: QuerySource) -> None:
    for query in ("select 1 as a, 2 as a -- done", "select 1 as a, 2 as a ;\n"):
        result = await source.read(query, (), limit=10, timeout=10)
        assert (result.columns, result.rows) == (("a", "a"), ((1, 2),))


async def test_values_are_bound_to_query_parameters(source: QuerySource) -> None:
    query = "select name from items where id = $1 and name <> $2"
    result = await source.read(query, [1, "'; drop table items"], limit=10, timeout=10)
    assert result.rows == (("bread",),)


async def test_readable_tables_and_views_are_listed(source: QuerySource) -> None:
    tables = {table.name: table for table in await source.tables()}
    assert list(tables) == ["cheap", "items"]  # 'secrets' is not readable
    assert (tables["cheap"].kind, tables["items"].kind) == ("view", "table")
    assert [name for name, _kind in tables["items"].columns] == ["id", "name", "price", "made"]


@pytest.mark.parametrize(
    "statement",
    [
        "delete from items",
        "insert into items values (3, 'salt', 1, null)",
        "update items set name = 'stolen'",
        "with gone as (delete from items returning *) select * from gone",
        "drop table items",
        "create table x (y integer)",
        "create temp table x as select 1",
        "select 1; delete from items",
        "select 1) as asked(c0); delete from items; --",
        "commit",
        "rollback; delete from items",
        "set transaction read write",
        "set default_transaction_read_only = off",
        "select set_config('transaction_read_only', 'off', false)",
        "attach '/tmp/portico-elsewhere.duckdb' as other",
        "copy items to '/tmp/portico-copied.csv'",
        "copy items to program 'cat > /tmp/portico-copied.csv'",
        "select * from read_text('/etc/passwd')",
        "select pg_read_file('/etc/passwd')",
        "select * from read_csv('/etc/passwd')",
        "install httpfs",
        "set enable_external_access = true",
        "select * from secrets",
        "select * from nothing",
        "nonsense",
        "",
        "-- only a comment",
    ],
)
async def test_statements_other_than_reads_are_refused(
    source: QuerySource, statement: str, duck: Path
) -> None:
    bytes_before = duck.read_bytes()  # noqa: ASYNC240
    with pytest.raises(InvalidRequest) as error_info:
        await source.read(statement, (), limit=10, timeout=10)
    assert error_info.value.code == "query_failed" and "root:" not in error_info.value.message
    assert isinstance(source, DuckDBSource) or await names(source) == ["bread", "milk"]
    assert duck.read_bytes() == bytes_before  # noqa: ASYNC240
    assert not Path("/tmp/portico-copied.csv").exists()  # noqa: ASYNC240


async def test_a_query_without_end_is_stopped(source: QuerySource) -> None:
    endless = (
        "with recursive n(x) as (select 1 union all select x + 1 from n where x > 0) select count(*) from n"
    )
    with pytest.raises(InvalidRequest, match=r"stopped after 0\.5 s|more memory"):
        await source.read(endless, (), limit=1, timeout=0.5)
    assert await names(source) == ["bread", "milk"]


async def test_cancelling_a_caller_ends_its_query(source: QuerySource) -> None:
    endless = "select count(*) from generate_series(1, 100000000000) as a"
    task = asyncio.create_task(source.read(endless, (), limit=1, timeout=60))
    done, _pending = await asyncio.wait([task], timeout=0.5)
    assert not done
    task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait([task])
    assert task.cancelled() and await names(source) == ["bread", "milk"]


async def test_cancelling_a_caller_ends_its_query_on_the_postgresql_server(server: str) -> None:
    source = PostgresSource(server)
    task = asyncio.create_task(source.read("select pg_sleep(60)", (), limit=1, timeout=60))
    count_query = (
        "select count(*) from pg_stat_activity where query like '%pg_sleep%' and pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(60):
        while (await source.read(count_query, (), limit=1, timeout=10)).rows != ((1,),):
            pass
        task.cancel()
        await asyncio.wait([task])
        while (await source.read(count_query, (), limit=1, timeout=10)).rows != ((0,),):
            pass


async def test_long_query_results_are_truncated(source: QuerySource) -> None:
    result = await source.read("select n from generate_series(1, 1000000) as s(n)", (), limit=3, timeout=20)
    assert result.truncated and result.rows == ((1,), (2,), (3,))
    long = "select repeat('x', 3000) as a from generate_series(1, 1000)"
    result = await source.read(long, (), limit=1_000, timeout=20)
    assert result.truncated and sum(len(row[0]) for row in result.rows) <= MAX_QUERY_CHARS
    result = await source.read("select repeat('x', 100000) as a", (), limit=1, timeout=20)
    assert result.rows[0][0] == "x" * MAX_CELL_CHARS + "… (100000 characters)"


@asynccontextmanager
async def added(folder: Path) -> AsyncIterator[tuple[RegistryFixture, AddedTools]]:
    database = Database.at(folder / "tools.db")
    database.prepare()
    async with open_registry(folder) as daemon:
        yield (
            daemon,
            AddedTools(Toolbox(daemon.registry), database, AddressPolicy(), FunctionPackages(folder)),
        )
    database.close()


async def use(daemon: RegistryFixture, name: str, **arguments: Any) -> ToolResult:
    result, _events = await daemon.call(f"tool/{name}", ToolCall(arguments))
    assert isinstance(result, ToolResult)
    return result


async def test_a_declared_server_becomes_two_tools_and_its_password_is_hidden(
    server: str, tmp_path: Path
) -> None:
    async with added(tmp_path) as (daemon, tools):
        info = await tools.add(
            parse({"name": "shop", "database": server, "description": "What we sell."}), None
        )
        assert info.kind == "database" and info.tools == ("shop", "shop_schema")
        assert "hidden" not in info.what and "reader@" in info.what
        assert (await use(daemon, "shop_schema")).text.startswith("view cheap (name character varying)")
        result = await use(
            daemon, "shop", query="select name from items where price > $1::text::numeric", parameters=["2"]
        )
        assert result.text == "name\nbread"
        wrong = await use(
            daemon, "shop", query="select name from items where made > $1", parameters=["yesterday"]
        )
        assert wrong.is_error and "$1::text::date" in wrong.text
        refusal = await use(daemon, "shop", query="delete from items")
        assert refusal.is_error


async def test_a_declared_file_is_found_from_the_folder_of_its_entry(duck: Path, tmp_path: Path) -> None:
    async with added(tmp_path) as (daemon, tools):
        await tools.add(parse({"name": "shop", "database": duck.name, "folder": str(duck.parent)}), None)
        assert (await use(daemon, "shop", query="select count(*) from items")).structured == {
            "columns": ["count_star()"],
            "rows": [[2]],
            "truncated": False,
        }


async def test_the_built_in_tool_reads_duckdb_files_too(duck: Path, tmp_path: Path) -> None:
    async with open_registry(tmp_path) as daemon:
        for tool in outward(Settings(tool_folders=str(duck.parent))):
            Toolbox(daemon.registry).add(tool)
        path = f"{duck.parent.name}/shop.duckdb"
        assert "view cheap" in (await use(daemon, "sql_schema", database=path)).text
        assert (await use(daemon, "sql", database=path, query="select name from cheap")).text == "name\nmilk"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("mysql://root:hidden@localhost/shop", "is not a database"),
        ("postgresql://reader:hidden@127.0.0.1:1/shop", "cannot be reached"),
        ("nowhere.db", "cannot be read"),
        (__file__, "neither a SQLite nor a DuckDB file"),
    ],
)
async def test_an_unusable_database_is_refused_when_it_is_added(
    tmp_path: Path, address: str, told: str
) -> None:
    async with added(tmp_path) as (_house, tools):
        with pytest.raises(PorticoError, match=told) as error_info:
            await tools.add(parse({"name": "shop", "database": address}), None)
        assert "hidden" not in error_info.value.message and tools.every() == []


async def test_connecting_as_a_superuser_causes_a_warning(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    admin = server.replace("reader:hidden@", "admin@")
    async with added(tmp_path) as (daemon, tools):
        tool = await tools.add(parse({"name": "shop", "database": admin}), None)
        assert tool.state == "ready" and "'admin'" in tool.warning and "superuser" in tool.warning
        assert tool.warning in caplog.text and tools.get("shop").warning == tool.warning
        assert not (await use(daemon, "shop", query="select 1 as one")).is_error
        assert (await tools.add(parse({"name": "less", "database": server}), None)).warning == ""


async def test_a_role_that_may_read_server_files_causes_a_warning(server: str, tmp_path: Path) -> None:
    connection = await asyncpg.connect(server.replace("reader:hidden@", "admin@"))
    for statement in ("create role files login", "grant pg_read_server_files to files"):
        await connection.execute(statement)
    await connection.close()
    async with added(tmp_path) as (_house, tools):
        tool = await tools.add(
            parse({"name": "shop", "database": server.replace("reader:hidden@", "files@")}), None
        )
        assert "pg_read_server_files" in tool.warning


async def test_a_wrong_password_is_reported_without_revealing_it(server: str) -> None:
    source = open_source(server.replace("reader:hidden", "nobody-here:hidden"))
    with pytest.raises(PorticoError, match="refuses us") as error_info:
        await source.tables()
    assert "hidden" not in error_info.value.message


def test_an_address_is_shown_without_its_password() -> None:
    assert (
        without_password("postgresql://me:p%40ss@host:5432/db?sslmode=require&password=x")
        == "postgresql://me@host:5432/db"
    )
    assert without_password("/data/shop.db") == "/data/shop.db"
