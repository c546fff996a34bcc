"""A home moves into a PostgreSQL and a bucket and back: nothing is lost at any kill, and the source is not changed."""

from __future__ import annotations

import json
import random
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests import postgres
from tests.client.cli.conftest import Command
from tests.daemon import Daemon, environment
from tests.kills import count_kills
from tests.server import daemons
from tests.server.features.backup.homes import content, fill, tree
from tests.server.features.backup.victim import Victim
from tests.server.features.sources.store import ACCESS, REGION, SECRET, ObjectStore

from portico_server.__main__ import main
from portico_server.db.database import Database
from portico_server.home import Home

KILLS = count_kills(2)

pytestmark = pytest.mark.timeout(600)

CONFIGURATION = 'models: [{name: echo, source: "fake://", aliases: [default]}]\n'


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    json: Any

    @property
    def error(self) -> str:
        return str(self.json["error"]["code"])


Migrate = Callable[..., Done]


@pytest.fixture
def migrate(capsys: pytest.CaptureFixture[str]) -> Migrate:
    """Run a migration in this process, and return its last line."""

    def call(source: object, target: object, *more: str) -> Done:
        capsys.readouterr()
        code = main(["migrate", *more, str(source), str(target)])
        return Done(code, json.loads(capsys.readouterr().out.splitlines()[-1]))

    return call


def digests(done: Done) -> dict[str, tuple[int, str]]:
    return {row["name"]: (row["rows"], row["sha256"]) for row in done.json["tables"]}


@pytest.mark.slow
def test_a_home_is_the_same_after_a_way_to_postgresql_and_a_bucket_and_back(
    home: Path, server: postgres.Server, store: ObjectStore, migrate: Migrate, tmp_path: Path
) -> None:
    fill(home, 1_000)
    tree_before, url, files = tree(home), server.new(), ("--files", "s3://shop/portico")
    planned = migrate(home, url, "--dry-run", *files)
    assert (planned.code, planned.json["status"], planned.json["files"]) == (0, "planned", 5)
    assert not server.execute("select 1 from pg_tables where schemaname = 'public'", url)
    outward = migrate(home, url, *files)
    assert (outward.code, outward.json["status"], outward.json["missing"]) == (0, "migrated", 0)
    assert outward.json["rows"] == planned.json["rows"] > 2_000
    assert tree(home) == tree_before, "the source is not changed"
    blobs = {name for name in tree_before if name.startswith("blobs/")}
    assert set(store.buckets["shop"]) == {f"portico/{name}" for name in blobs}
    assert migrate(home, url, *files).json["status"] == "equal", "nothing remains to be done"

    back = tmp_path / "back"
    planned = migrate(url, back, "--dry-run", *files)
    assert planned.json["rows"] == outward.json["rows"] and not back.exists()
    homeward = migrate(url, back, *files)
    assert homeward.code == 0 and digests(homeward) == digests(outward)
    assert content(back) == content(home)
    assert {name: tree(back)[name] for name in blobs} == {name: tree_before[name] for name in blobs}


@pytest.mark.slow
def test_migrated_tables_do_not_reuse_ids_of_removed_rows(
    home: Path, server: postgres.Server, migrate: Migrate, tmp_path: Path
) -> None:
    fill(home, 20)
    columns = "store_id, file_id, group_name, ordinal, text, place"
    insert = f"insert into chunks ({columns}) values ('a', 'b', 'c', 1, '', '{{}}')"
    with closing(sqlite3.connect(home / "portico.db")) as database:
        last = database.execute("select seq from sqlite_sequence where name = 'chunks'").fetchone()[0]
    url = server.new()
    assert migrate(home, url).code == 0
    assert server.execute(f"{insert} returning id", url)[0]["id"] == last + 1
    server.execute(f"delete from chunks where id > {last}", url)
    assert migrate(url, tmp_path / "back", "--files", str(home)).code == 0
    with closing(sqlite3.connect(tmp_path / "back" / "portico.db")) as database:
        assert database.execute(f"{insert} returning id").fetchone()[0] == last + 2


def used(home: Path, server: postgres.Server, target: str) -> None:
    """Fill a target as a daemon does."""
    database = Database(target)
    database.prepare()
    database.close()
    server.execute("insert into aliases values ('a', 'b'), ('c', 'd')", target)


def older(home: Path, server: postgres.Server, target: str) -> None:
    with closing(sqlite3.connect(home / "portico.db")) as database, database:
        database.execute("update alembic_version set version_num = '0040'")


def unstorable(home: Path, server: postgres.Server, target: str) -> None:
    with closing(sqlite3.connect(home / "portico.db")) as database, database:
        database.execute("insert into aliases values ('a', 'x' || char(0))")


def begun_elsewhere(home: Path, server: postgres.Server, target: str) -> None:
    second_home = home.with_name("other")
    shutil.copytree(home, second_home)
    with Victim(environment()) as victim:
        assert victim.run(40, "migrate", str(second_home), target, events="transactions") is None


def without_database(home: Path, server: postgres.Server, target: str) -> None:
    (home / "portico.db").unlink()


@pytest.mark.parametrize(
    ("prepare", "code", "message"),
    [
        (used, "target_not_empty", "its table 'aliases' has 2 rows"),
        (older, "database_not_migrated", "has the schema 0040"),
        (unstorable, "row_not_storable", r"the row \('a',\) of the table 'aliases'"),
        (begun_elsewhere, "migration_interrupted", "from .*other into .* was interrupted"),
        (without_database, "home_not_found", "No Portico database"),
    ],
)
def test_an_impossible_migration_is_refused_with_the_reason(
    prepare: Callable[[Path, postgres.Server, str], None],
    code: str,
    message: str,
    home: Path,
    server: postgres.Server,
    migrate: Migrate,
) -> None:
    url = server.new()
    prepare(home, server, url)
    result = migrate(home, url)
    assert (result.code, result.error) == (1, code)
    assert re.search(message, result.json["error"]["message"])


@pytest.mark.parametrize(
    ("source", "target"), [("HOME", "HOME"), ("HOME", "other"), ("URL", "URL"), ("HOME", "mysql://a@b/c")]
)
def test_a_migration_between_two_places_of_the_same_kind_is_refused(
    source: str, target: str, home: Path, migrate: Migrate
) -> None:
    places = {"HOME": str(home), "URL": "postgresql://a@b/c"}
    result = migrate(places.get(source, source), places.get(target, target))
    assert result.error == "invalid_value" and "pg_dump" in result.json["error"]["message"]


def test_a_migration_into_a_folder_that_is_not_empty_is_refused(
    home: Path, server: postgres.Server, migrate: Migrate, tmp_path: Path
) -> None:
    url, target = server.new(), tmp_path / "target"
    target.mkdir()
    (target / "photos").mkdir()
    assert migrate(home, url).code == 0
    assert migrate(url, target).error == "target_not_empty"


def test_migrating_a_home_or_database_in_use_by_a_daemon_is_refused(
    home: Path, server: postgres.Server, migrate: Migrate
) -> None:
    url = server.new()
    with Home(home) as locked:
        locked.serving("http://127.0.0.1:1")
        assert migrate(home, url).error == "home_in_use"
    daemon = Database(url)
    daemon.prepare()
    try:
        assert migrate(home, url).error == "database_in_use"
        assert migrate(url, home.with_name("back"), "--dry-run").error == "database_in_use"
    finally:
        daemon.close()
    assert migrate(home, "postgresql://nobody@127.0.0.1:1/none").error == "database_unavailable"


def test_files_that_are_damaged_or_gone_are_named(
    home: Path, server: postgres.Server, store: ObjectStore, migrate: Migrate
) -> None:
    absent_path, damaged = sorted((home / "blobs").glob("??/*"))[:2]
    absent_path.unlink()
    damaged.write_bytes(b"other bytes")
    done = migrate(home, server.new(), "--files", "s3://shop/portico")
    assert done.json["missing"] == 2
    assert done.json["missing_names"] == [str(path.relative_to(home)) for path in (absent_path, damaged)]
    assert len(store.buckets["shop"]) == 3


def test_a_bucket_that_fails_interrupts_a_migration_which_continues(
    home: Path, server: postgres.Server, store: ObjectStore, migrate: Migrate
) -> None:
    url, objects = server.new(), store.buckets.pop("shop")
    assert migrate(home, url, "--files", "s3://shop/portico").error == "storage_unavailable"
    store.buckets["shop"] = objects
    done = migrate(home, url, "--files", "s3://shop/portico")
    assert (done.code, done.json["continued"], len(objects)) == (0, True, 5)


@pytest.mark.slow
def test_adapters_move_with_a_shared_folder(
    home: Path, server: postgres.Server, migrate: Migrate, tmp_path: Path
) -> None:
    weights = home / "adapters" / "abc" / "weights.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    url, files = server.new(), tmp_path / "files"
    assert migrate(home, url, "--files", str(files)).code == 0
    assert (files / "adapters" / "abc" / "weights.bin").read_bytes() == b"weights"
    assert migrate(url, tmp_path / "back", "--files", str(files)).code == 0
    assert (tmp_path / "back" / "adapters" / "abc" / "weights.bin").read_bytes() == b"weights"


@pytest.mark.slow
@pytest.mark.process
def test_a_daemon_on_the_target_serves_what_the_home_has(
    home: Path, server: postgres.Server, store: ObjectStore, command: Command, tmp_path: Path
) -> None:
    url, files = server.new(), "s3://shop/portico"
    assert "Would begin" in command("migrate", str(home), url, "--files", files, "--dry-run").out
    done = command("migrate", str(home), url, "--files", files)
    assert done.code == 0 and "The digests of all rows are equal" in done.out
    assert "already contains everything" in command("migrate", str(home), url, "--files", files).out
    settings = {
        "PORTICO_S3_ENDPOINT": store.url,
        "PORTICO_S3_REGION": REGION,
        "PORTICO_S3_ACCESS_KEY": ACCESS,
        "PORTICO_S3_SECRET_KEY": SECRET,
    }
    daemon: Daemon = daemons.start(
        tmp_path, "new", url, CONFIGURATION, **{**settings, "PORTICO_FILES": files}
    )
    try:
        for file in daemons.answered(daemon, "GET", "/v1/files")["data"]:
            answer = daemons.call(daemon, "GET", f"/v1/files/{file['id']}/content")
            assert answer.is_success and len(answer.content) == file["bytes"]
        question = {"query": "which port does the lighthouse listen on", "stores": ["handbook"]}
        [first, *_] = daemons.answered(daemon, "POST", "/api/search", json=question)["data"]
        assert "7419" in first["text"]
    finally:
        daemons.end(daemon)


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.timeout(600 + 60 * KILLS)
def test_a_hundred_thousand_chunks_have_equal_digests_after_kills(
    home: Path, server: postgres.Server, migrate: Migrate, victim: Victim, tmp_path: Path
) -> None:
    fill(home, 100_000)
    url, back, files = server.new(), tmp_path / "back", ("--files", str(tmp_path / "files"))
    points = random.Random(48).choices(range(60, 280), k=KILLS)
    for point in points:
        victim.run(point, "migrate", *files, str(home), url, events="transactions")
    outward = migrate(home, url, *files)
    for point in points:
        victim.run(point, "migrate", *files, url, str(back), events="transactions")
    homeward = migrate(url, back, *files)
    assert digests(homeward) == digests(outward)
    assert digests(outward)["chunks"][0] > 100_000
    assert content(back) == content(home)
