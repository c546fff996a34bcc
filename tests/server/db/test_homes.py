"""Homes of earlier versions, opened by this version: nothing is lost, even if the first start is killed midway.

``homes/NUMBER.zip`` was created by the code whose newest migration was NUMBER (`homes/make.py`); this test includes
later migrations automatically.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from tests.daemon import environment, running
from tests.server.db import chain

from portico import Client
from portico_server.core.errors import Unavailable
from portico_server.db import database, migrate
from portico_server.db.database import Database
from portico_server.db.schema import HEAD

ROOT = Path(__file__).resolve().parents[3]

HOMES = sorted((Path(__file__).parent / "homes").glob("*.zip"))

CHANGED: dict[tuple[str, str], str] = {
    ("alembic_version", "version_num"): "it says where the database stands",
}
"""Columns whose old values a migration changes, and why."""

MODELS = 'models:\n  - {name: echo, source: "fake://", aliases: [default]}\n'

COMMITS = sorted((Path(__file__).parent / "homes" / "commits").glob("*.zip"))
"""Homes of commits between releases, whose schemas differ although some have the same number."""

every_home = pytest.mark.parametrize("home", HOMES, ids=lambda path: path.stem)


def unpacked(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack an old home in ``folder``, and return its daemon's own report."""
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(archive) as entries:
        for name in entries.namelist():
            if name.startswith("blobs/"):
                entries.extract(name, folder)
        with closing(sqlite3.connect(folder / "portico.db")) as database:
            database.execute("pragma journal_mode=wal")
            database.executescript(entries.read("portico.sql").decode())
        record: dict[str, Any] = json.loads(entries.read("known.json"))
        return record


def rows(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table."""
    with closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        names = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
        return {name: [plain(row) for row in database.execute(f'select * from "{name}"')] for name in names}


def plain(row: sqlite3.Row) -> dict[str, Any]:
    """Return a row; NULL and JSON's null are equivalent."""
    return {name: None if row[name] == "null" else row[name] for name in row.keys()}  # noqa: SIM118  # not a mapping


def lost(old: dict[str, list[dict[str, Any]]], new: dict[str, list[dict[str, Any]]]) -> list[Any]:
    """Return the old rows that no new row contains, compared column by column."""
    lost_rows: list[Any] = []
    for table, old_rows in old.items():
        if table not in new:
            lost_rows += [(table, row) for row in old_rows]
            continue
        new_columns = {column for row in new[table] for column in row}
        for row in old_rows:
            unchanged_values = {name: value for name, value in row.items() if (table, name) not in CHANGED}
            if not unchanged_values.keys() <= new_columns:
                lost_rows.append((table, sorted(unchanged_values.keys() - new_columns)))
            elif not any(
                all(candidate[name] == value for name, value in unchanged_values.items())
                for candidate in new[table]
            ):
                lost_rows.append((table, row))
    return lost_rows


def upgraded(path: Path) -> tuple[str, str] | None:
    """Migrate a database. Return its schemas before and after."""
    database = Database.at(path)
    try:
        database.prepare()
        return database.upgrade
    finally:
        database.close()


def revision(path: Path) -> str:
    with closing(sqlite3.connect(path)) as database:
        return str(database.execute("select version_num from alembic_version").fetchone()[0])


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> str:
    """The newest migration, after which `chain` has added more."""
    monkeypatch.setattr(migrate, "config", chain.config)
    monkeypatch.setattr(database, "HEAD", chain.HEAD)
    return chain.HEAD


def test_a_recorded_home_exists_for_every_released_schema() -> None:
    revisions = {script.revision for script in ScriptDirectory.from_config(migrate.config()).walk_revisions()}
    homes = {path.stem for path in HOMES}
    assert revisions - homes <= {HEAD}, "the newest may not have been released yet"
    assert homes <= revisions


@every_home
def test_no_row_of_an_old_home_is_lost(home: Path, tmp_path: Path) -> None:
    unpacked(home, tmp_path)
    path = tmp_path / "portico.db"
    assert revision(path) == home.stem
    rows_before = rows(path)
    assert sum(map(len, rows_before.values())) > 20
    assert upgraded(path) == (None if home.stem == HEAD else (home.stem, HEAD))
    assert revision(path) == HEAD
    assert lost(rows_before, rows(path)) == []


@every_home
def test_later_migrations_lose_no_rows_of_an_old_home(home: Path, tmp_path: Path, later: str) -> None:
    unpacked(home, tmp_path)
    path = tmp_path / "portico.db"
    rows_before = rows(path)
    upgraded(path)
    assert revision(path) == later
    rows_after = rows(path)
    assert lost(rows_before, rows_after) == []
    for table in ("runs", "files", "stores"):
        assert sorted(row["rank"] for row in rows_after[table]) == list(range(1, len(rows_before[table]) + 1))
    assert {row["title"] for row in rows_after["store_titles"]} == {
        row["name"].upper() for row in rows_before["stores"]
    }
    assert {row["colour"] for row in rows_after["stores"]} == {"red", "blue"}


@pytest.mark.slow
@pytest.mark.parametrize("home", [*HOMES, *COMMITS], ids=lambda path: path.stem)
def test_a_current_daemon_serves_the_contents_of_an_old_home(home: Path, tmp_path: Path) -> None:
    record = unpacked(home, tmp_path / "home")
    (tmp_path / "models.yaml").write_text(MODELS)
    with (
        running(tmp_path / "home", "--file", str(tmp_path / "models.yaml")) as daemon,
        Client(daemon.url) as client,
    ):
        daemon.settle()
        stores = {store.name: store for store in client.stores.list()}
        assert stores["handbook"].file_counts.completed == 2
        assert stores["book"].id == record["store"]["id"]
        for store, question, answer in (
            ("handbook", "which port does the lighthouse listen on", "7419"),
            ("handbook", "雪莲花", "四千米"),
            ("book", "when does the harbour open", "six"),
        ):
            assert answer in client.search(store, question).passages[0].text
        assert client.files.content(record["file"]["id"]) == b"The harbour opens at six."
        assert {key.id for key in client.keys.list()} == {record["key"]["id"]}
        with Client(daemon.url, record["key"]["key"]) as website:
            assert website.search("handbook", "lighthouse").passages
        models = {row["model"] for row in client.usage() if row["name"] == "echo"}
        assert models == {"echo"}
        assert "hello" in "".join(client.chat("hello", model="speaker"))
        assert ("speaker", "echo") in {(row["name"], row["model"]) for row in client.usage()}
        assert {
            "handbook",
            *(record.get(name, {}).get("name", "handbook") for name in ("flow", "agent")),
        } <= {app.name for app in client.apps.list()}
        if "second prompt" in record:
            assert client.prompts.get("greet").version == 2
        if "flow" in record:
            assert client.apps.run("twice", "hello") is not None
        if record.get("sessions", {}).get("data"):
            assert [session.name for session in client.sessions.list()] == ["monday"]
        for name, path in (("response", "responses"), ("batch", "batches"), ("eval", "evals")):
            if record.get(name):
                response = client._transport._http.get(f"/v1/{path}/{record[name]['id']}")
                assert (name, response.status_code) == (name, 200)


KILLED = """
import os, shutil, sys
from pathlib import Path
from sqlalchemy import event
from sqlalchemy.engine import Engine
from portico_server.db import database, migrate
from portico_server.db.database import Database
from tests.server.db import chain

migrate.config, database.HEAD = chain.config, chain.HEAD
migrate.is_known(chain.HEAD)

# Each attempt is a fork that ends as under kill -9 before one statement, the next one later, until one comes through.
source, place, stride = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
for number in range(0, 100_000, stride):
    path = place / f"{number}.db"
    shutil.copyfile(source, path)
    child = os.fork()
    if not child:
        left = number

        def count(*_arguments):
            global left
            left -= 1
            if left < 0:
                os._exit(9)

        event.listen(Engine, "before_cursor_execute", count)
        event.listen(Engine, "commit", count)
        database = Database.at(path)
        database.prepare()
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code not in (0, 9):
        sys.exit(f"attempt {number} ended with {code}")
    if code == 0:
        break
print(number)
"""


STRIDE = 3
"""Statements between two kills: each attempt starts over, so killing at every statement would take minutes."""


def killed_everywhere(source: Path, place: Path) -> int:
    """Upgrade ``source`` until it succeeds, killed before every third of its statements.

    Return how many statements the upgrade needs. The database that a kill leaves is ``NUMBER.db`` in ``place``.
    """
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(source), str(place), str(STRIDE)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@every_home
def test_a_killed_upgrade_changes_nothing_and_is_completed_by_the_next_start(
    home: Path, tmp_path: Path, later: str
) -> None:
    unpacked(home, tmp_path / "home")
    source, place = tmp_path / "home" / "portico.db", tmp_path / "killed"
    rows_before = rows(source)
    kills = killed_everywhere(source, place)
    assert kills > 50
    for number in range(0, kills, STRIDE):
        path = place / f"{number}.db"
        assert rows(path) == rows_before, f"killed before statement {number}"
        if number % 20 == 0 or number > kills - STRIDE - 1:
            upgraded(path)
            assert (revision(path), lost(rows_before, rows(path))) == (later, [])


@pytest.mark.slow
def test_a_killed_first_start_creates_nothing_and_is_completed_by_the_next(
    tmp_path: Path, later: str
) -> None:
    source, place = tmp_path / "portico.db", tmp_path / "killed"
    source.touch()
    kills = killed_everywhere(source, place)
    assert kills > 50
    for number in range(0, kills, STRIDE):
        path = place / f"{number}.db"
        assert rows(path) == {}, f"killed before statement {number}"
        if number % 20 == 0 or number > kills - STRIDE - 1:
            upgraded(path)
            assert revision(path) == later


@pytest.mark.parametrize("newer", ["9999", "0012_of_another_branch"])
def test_a_home_of_a_newer_version_is_refused_and_stays_as_it_is(tmp_path: Path, newer: str) -> None:
    unpacked(HOMES[-1], tmp_path)
    path = tmp_path / "portico.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = ?", [newer])
        database.commit()
    rows_before = rows(path)
    with pytest.raises(Unavailable, match="cannot be downgraded") as caught:
        upgraded(path)
    assert caught.value.code == "database_newer"
    assert rows(path) == rows_before


@pytest.mark.parametrize("older", ["0001", "0039"])
def test_a_home_from_before_the_first_release_is_refused_and_stays_as_it_is(
    tmp_path: Path, older: str
) -> None:
    unpacked(HOMES[-1], tmp_path)
    path = tmp_path / "portico.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("update alembic_version set version_num = ?", [older])
        database.commit()
    rows_before = rows(path)
    with pytest.raises(Unavailable, match=f"schema {older}, from before the first release") as caught:
        upgraded(path)
    assert caught.value.code == "database_unreleased"
    assert "git checkout 26cc6b1d" in caught.value.message
    assert rows(path) == rows_before
