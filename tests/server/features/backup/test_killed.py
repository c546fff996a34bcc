"""A backup, a restore and a migration change nothing but their target, and can be repeated wherever they are killed."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from tests import postgres
from tests.daemon import running
from tests.kills import count_kills
from tests.server.features.backup.homes import content, fill, tree
from tests.server.features.backup.victim import Victim
from tests.server.features.sources.store import ObjectStore

from portico import Client
from portico_server import home_replacement
from portico_server.core.errors import Unavailable
from portico_server.db.database import Database
from portico_server.features.backup import layout
from portico_server.features.backup.restore import BackupArchive

KILLS = count_kills(1)

pytestmark = [pytest.mark.process, pytest.mark.timeout(300 + 30 * KILLS)]


@pytest.fixture
def before(home: Path) -> dict[str, str]:
    """The digests of the files of the home, which has many rows."""
    fill(home, 300)
    return tree(home)


def points(total: int) -> Iterator[int]:
    """Yield random points of a command with ``total`` events."""
    dice = random.Random(48)
    while True:
        yield dice.randrange(1, total + 1)


def kill_often(victim: Victim, total: int, *arguments: str) -> Iterator[bool]:
    """Run a command again and again. Yield after each run whether it was killed, until there were enough kills."""
    kills = 0
    for point in points(total):
        is_killed = victim.run(point, *arguments) is None
        kills += is_killed
        yield is_killed
        if kills == KILLS:
            return


def is_whole(archive: Path) -> bool:
    """Return whether an archive exists, which must then be complete."""
    if not archive.exists():
        return False
    backup = BackupArchive(archive)
    try:
        backup.check(lambda *_: None)
    finally:
        backup.close()
    return True


@pytest.mark.parametrize("is_replacing", [False, True])
def test_a_backup_that_is_killed_leaves_no_half_archive_and_can_be_repeated(
    home: Path, before: dict[str, str], victim: Victim, tmp_path: Path, is_replacing: bool
) -> None:
    archive = tmp_path / "archives" / "b.zip"
    archive.parent.mkdir()
    command = ("backup", str(archive), "--home", str(home))
    total = victim.run(0, *command)
    assert total
    for _is_killed in kill_often(victim, total, *command):
        assert {name: tree(home)[name] for name in before} == before
        assert is_whole(archive) or not is_replacing
        if not is_replacing:
            archive.unlink(missing_ok=True)
    assert victim.run(0, *command)
    assert is_whole(archive) and os.listdir(archive.parent) == ["b.zip"]
    assert tree(home) == before, "no temporary file remains"
    assert victim.run(0, "restore", str(archive), "--home", str(tmp_path / "new"))
    assert content(tmp_path / "new") == content(home)


@pytest.mark.parametrize("is_replacing", [False, True])
def test_a_restore_that_is_killed_is_completed_by_the_same_command(
    home: Path, before: dict[str, str], victim: Victim, tmp_path: Path, is_replacing: bool
) -> None:
    archive, new = tmp_path / "b.zip", tmp_path / "new"
    assert victim.run(0, "backup", str(archive), "--home", str(home))
    command = ("restore", str(archive), "--home", str(new), *(["--replace"] if is_replacing else []))
    total = victim.run(0, *command)
    assert total
    restored, expected_content = tree(new), content(home)
    shutil.rmtree(new)
    old = {"portico.db": b"old", "adapters/a/weights.bin": b"old weights"} if is_replacing else {}

    def prepare() -> None:
        for name, data in old.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)

    prepare()
    for is_killed in kill_often(victim, total, *command):
        if is_killed and (not new.exists() or tree(new) != restored):
            assert victim.run(0, *command)
        [aside] = [*new.glob(f"{home_replacement.ASIDE_PREFIX}*")] if old else [None]
        if aside is not None:
            assert {name: (aside / name).read_bytes() for name in old} == old
            shutil.rmtree(aside)
        assert tree(new) == restored and content(new) == expected_content
        shutil.rmtree(new)
        prepare()


@pytest.mark.slow
def test_a_daemon_keeps_answering_when_the_command_that_fetches_its_backup_is_killed(
    home: Path, before: dict[str, str], victim: Victim, tmp_path: Path
) -> None:
    archive = tmp_path / "archives" / "b.zip"
    archive.parent.mkdir()
    command = ("portico", "backup", str(archive), "--home", str(home), "--overwrite")
    with running(home) as daemon, Client(daemon.url) as client:
        files = {file.id: file.bytes for file in client.files.list()}
        total = victim.run(0, *command)
        assert total and is_whole(archive)
        for _is_killed in kill_often(victim, total, *command):
            assert is_whole(archive)
            assert {file.id: file.bytes for file in client.files.list()} == files
            assert victim.run(0, *command), "the daemon has ended the backup that nobody receives"
        assert os.listdir(archive.parent) == ["b.zip"]
        assert not (home / home_replacement.STAGING).exists()
    assert victim.run(0, "restore", str(archive), "--home", str(tmp_path / "new"))
    names = {name for name in before if name.startswith(layout.BLOBS)}
    assert {name: tree(tmp_path / "new")[name] for name in names} == {name: before[name] for name in names}


Events = Literal["calls", "transactions"]


def check_refused(database: Database) -> None:
    """Check that no daemon serves a database that a migration has not completed."""
    try:
        with pytest.raises(Unavailable, match="portico migrate") as caught:
            database.prepare()
        assert caught.value.code == "migration_interrupted"
    finally:
        database.close()


EVENTS = pytest.mark.parametrize("events", [pytest.param("calls", marks=pytest.mark.slow), "transactions"])


@pytest.mark.slow
@EVENTS
def test_a_migration_that_is_killed_is_completed_by_the_same_command(
    home: Path,
    before: dict[str, str],
    server: postgres.Server,
    store: ObjectStore,
    victim: Victim,
    scratch: Path,
    events: Events,
) -> None:
    objects, files = store.buckets["shop"], ("--files", "s3://shop/portico")
    blobs = {name: digest for name, digest in before.items() if name.startswith(layout.BLOBS)}
    half, url = server.new(), server.new()

    def migrate(point: int, source: object, target: object) -> int | None:
        return victim.run(point, "migrate", *files, str(source), str(target), events=events)

    assert victim.run(40, "migrate", *files, str(home), half, events="transactions") is None
    check_refused(Database(half))
    total = migrate(0, home, url)
    assert total
    reached, kills = server.new(), 0
    objects.clear()
    for point in points(total):
        if migrate(point, home, reached) is None:
            kills += 1
            if kills == KILLS:
                break
        else:
            reached = server.new()
            objects.clear()
        assert tree(home) == before, "the source is not changed"
    assert migrate(0, home, reached) and tree(home) == before
    assert set(objects) == {f"portico/{name}" for name in blobs}
    assert os.listdir(scratch) == [], "no temporary file remains"


@pytest.mark.slow
@EVENTS
def test_a_migration_to_a_home_that_is_killed_is_completed_by_the_same_command(
    home: Path,
    before: dict[str, str],
    server: postgres.Server,
    victim: Victim,
    scratch: Path,
    tmp_path: Path,
    events: Events,
) -> None:
    files, back, url = ("--files", "s3://shop/portico"), tmp_path / "back", server.new()
    blobs = {name: digest for name, digest in before.items() if name.startswith(layout.BLOBS)}

    def migrate(point: int, source: object, target: object) -> int | None:
        return victim.run(point, "migrate", *files, str(source), str(target), events=events)

    total = migrate(0, home, url)
    assert total
    assert victim.run(40, "migrate", *files, url, str(tmp_path / "half"), events="transactions") is None
    check_refused(Database.at(tmp_path / "half" / "portico.db"))
    kills = 0
    for point in points(total):
        if migrate(point, url, back) is None:
            kills += 1
            if kills == KILLS:
                break
        else:
            shutil.rmtree(back)
    assert migrate(0, url, back)
    assert content(back) == content(home)
    assert tree(back).keys() == before.keys() and blobs.items() <= tree(back).items()
    assert os.listdir(scratch) == [], "no temporary file remains"
