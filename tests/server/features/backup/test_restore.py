"""Damaged or hostile archives change nothing; a restore cut off at any point is finished or undone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import struct
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.daemon import environment

from portico_server import home_replacement
from portico_server.core.errors import Conflict, PorticoError
from portico_server.db.database import Database
from portico_server.features.backup import layout, restore
from portico_server.home import Home

CONTENTS = {"portico.db": b"", "adapters/a/weights.bin": b"weights"}
BLOB = b"The harbour opens at six.\n"
DIGEST = hashlib.sha256(BLOB).hexdigest()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backup of a home with one file."""
    folder = tmp_path_factory.mktemp("source")
    home = folder / "home"
    home.mkdir()
    database = Database.at(home / "portico.db")
    database.prepare()
    database.close()
    with sqlite3.connect(home / "portico.db") as connection:
        connection.execute(
            "insert into files (id, filename, purpose, bytes, sha256, created_at) values ('file-1', 'a', 'x', 1, ?, 0)",
            [DIGEST],
        )
    connection.close()
    blob = home / layout.blob(DIGEST)
    blob.parent.mkdir(parents=True)
    blob.write_bytes(BLOB)
    (home / "adapters" / "a").mkdir(parents=True)
    (home / "adapters" / "a" / "weights.bin").write_bytes(b"weights")
    command = [sys.executable, "-m", "portico_server", "backup", str(folder / "b.zip"), "--home", str(home)]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    return folder / "b.zip"


def put_back(path: Path, home: Path, *, replace: bool = False) -> Path | None:
    """Restore in this process."""
    backup = restore.BackupArchive(path)
    try:
        with Home(home):
            return restore.restore(backup, home, replace=replace, report=lambda *_: None)
    finally:
        backup.close()


def test_the_origins_of_restored_facts_are_unknown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    database = Database.at(home / "portico.db")
    database.prepare()
    database.close()
    fact = {"fact": True, "owner": "key_1", "origins": "", "memory": 1}
    with sqlite3.connect(home / "portico.db") as connection:
        connection.execute("pragma foreign_keys = off")
        connection.execute(
            "insert into store_files (store_id, file_id, status, attributes, chunking, usage_bytes, created_at) "
            "values ('vs_1', 'file-1', 'completed', ?, '{}', 0, 0)",
            [json.dumps(fact)],
        )
    connection.close()
    command = [sys.executable, "-m", "portico_server", "backup", str(tmp_path / "b.zip"), "--home", str(home)]
    subprocess.run(command, check=True, capture_output=True, env=environment())
    put_back(tmp_path / "b.zip", tmp_path / "again")
    with sqlite3.connect(tmp_path / "again" / "portico.db") as connection:
        [(attributes,)] = connection.execute("select attributes from store_files")
    connection.close()
    assert json.loads(attributes) == {"fact": True, "owner": "key_1", "origins": ""}


def outcome(path: Path, home: Path) -> str:
    """Return the code of the error that ended a restore, or an empty string if none did."""
    try:
        put_back(path, home)
    except PorticoError as error:
        return error.code or error.message
    return ""


def tree(home: Path) -> dict[str, bytes]:
    """Return all files of a home except its locks."""
    return {
        str(path.relative_to(home)): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and path.name not in ("daemon.lock", "backup.lock")
    }


def rewritten(
    archive: Path,
    target: Path,
    change: Callable[[dict[str, bytes], dict[str, Any]], None],
    info: Callable[[str], zipfile.ZipInfo | str] = str,
) -> Path:
    """Return the archive with other entries or another manifest."""
    with zipfile.ZipFile(archive) as old:
        entries = {name: old.read(name) for name in old.namelist() if name != "manifest.json"}
        manifest = json.loads(old.read("manifest.json"))
    change(entries, manifest)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in entries.items():
            new.writestr(info(name), data)
        new.writestr("manifest.json", json.dumps(manifest))
    return target


def test_a_valid_archive_is_restored_to_a_home_readable_only_by_its_user(
    archive: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    assert put_back(archive, home) is None
    assert tree(home)[layout.blob(DIGEST)] == BLOB
    assert tree(home)["adapters/a/weights.bin"] == b"weights"
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in home.rglob("*") if path.is_file()} == {0}
    with pytest.raises(Conflict, match="not empty"):
        put_back(archive, home)
    aside = put_back(archive, home, replace=True)
    assert aside is not None and tree(aside).keys() == {*CONTENTS, layout.blob(DIGEST)}


def test_an_archive_with_any_changed_byte_is_refused_or_restored_completely(
    archive: Path, tmp_path: Path
) -> None:
    data = archive.read_bytes()
    put_back(archive, tmp_path / "sound")
    sound = tree(tmp_path / "sound")
    refusal_count = 0
    for number, at in enumerate(range(0, len(data), max(1, len(data) // 120))):
        damaged_archive = tmp_path / "broken.zip"
        damaged_archive.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        home = tmp_path / str(number)
        code = outcome(damaged_archive, home)
        assert code in ("", "invalid_archive")
        refusal_count += bool(code)
        # A byte without meaning, such as part of a date, may have any value.
        assert (tree(home) if home.exists() else {}) == ({} if code else sound)
    assert refusal_count > 60


def test_a_changed_byte_in_the_zip_directory_is_refused_or_harmless(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    damaged_archive = tmp_path / "broken.zip"
    error_counts: Counter[str | None] = Counter()
    for at in range(data.index(b"PK\x01\x02"), len(data)):
        for change in (0x55, 0xFF):
            damaged_archive.write_bytes(data[:at] + bytes([data[at] ^ change]) + data[at + 1 :])
            try:
                restore.BackupArchive(damaged_archive).close()
            except PorticoError as error:
                error_counts[error.code] += 1
    assert error_counts.keys() == {"invalid_archive"}
    assert error_counts["invalid_archive"] > 60


def test_an_archive_with_a_wrong_bit_leaves_no_folder_behind(archive: Path, tmp_path: Path) -> None:
    def change(entries: dict[str, bytes], _manifest: dict[str, Any]) -> None:
        entries["adapters/a/weights.bin"] = b"veights"

    damaged_archive = rewritten(archive, tmp_path / "broken.zip", change)
    (tmp_path / "kept").mkdir()
    for home in (tmp_path / "new" / "inner" / "home", tmp_path / "kept"):
        command = [
            sys.executable,
            "-m",
            "portico_server",
            "restore",
            str(damaged_archive),
            "--home",
            str(home),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
        assert done.returncode != 0 and "differs from what was written" in done.stdout + done.stderr
    assert not (tmp_path / "new").exists()
    assert not tree(tmp_path / "kept")


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_an_archive_that_was_cut_off_is_refused(archive: Path, tmp_path: Path, part: float) -> None:
    data = archive.read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(data[: int(len(data) * part)])
    home = tmp_path / "home"
    home.mkdir()
    (home / "portico.db").write_bytes(b"what is there")
    with pytest.raises(PorticoError, match="archive cannot be restored"):
        put_back(cut, home, replace=True)
    assert tree(home) == {"portico.db": b"what is there"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "../evil",
            "/etc/evil",
            "adapters/../../evil",
            "adapters//evil",
            "adapters/./evil",
            "adapters/a\\..\\b",
        ),
        *("daemon.lock", "indexes/x", "blobs/ab/short", "portico.db-wal", "adapters/", "adapters", "logs/x"),
        *("adapters/a\nb", f"adapters/{'d/' * 40}x", ".restoring.json", "before-restore-1/portico.db"),
    ],
)
def test_an_archive_with_an_unexpected_entry_name_is_refused(
    archive: Path, tmp_path: Path, name: str
) -> None:
    def change(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        entries[name] = b"evil"
        manifest["sha256"][name] = hashlib.sha256(b"evil").hexdigest()

    home = tmp_path / "home"
    with pytest.raises(PorticoError, match="contains an unexpected entry"):
        put_back(rewritten(archive, tmp_path / "evil.zip", change), home)
    assert not home.exists()
    assert sorted(os.listdir(tmp_path)) == ["evil.zip"]


def test_a_link_is_refused(archive: Path, tmp_path: Path) -> None:
    def linked(name: str) -> zipfile.ZipInfo | str:
        if not name.startswith("adapters/"):
            return name
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        return info

    with pytest.raises(PorticoError, match="contains an unexpected entry"):
        put_back(rewritten(archive, tmp_path / "l.zip", lambda *_: None, linked), tmp_path / "home")


def test_an_archive_with_an_impossible_unpacked_size_is_refused(archive: Path, tmp_path: Path) -> None:
    data = bytearray(rewritten(archive, tmp_path / "big.zip", lambda *_: None).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    struct.pack_into("<I", data, at + 24, 0xF0000000)  # the size claimed in the table of contents
    (tmp_path / "big.zip").write_bytes(data)
    with pytest.raises(PorticoError, match="unpacks to more than"):
        put_back(tmp_path / "big.zip", tmp_path / "home")


def _other_format(_entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["format"] = "portico-store"


def _newer_version(_entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    manifest["version"] = 2


def _without_database(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    del entries["portico.db"], manifest["sha256"]["portico.db"]


def _lacking(entries: dict[str, bytes], _manifest: dict[str, Any]) -> None:
    del entries["adapters/a/weights.bin"]


def _unnamed(entries: dict[str, bytes], _manifest: dict[str, Any]) -> None:
    entries["adapters/b"] = b"x"


def _another_blob(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    entries[layout.blob(DIGEST)] = b"other"
    manifest["sha256"][layout.blob(DIGEST)] = hashlib.sha256(b"other").hexdigest()


def _no_database(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
    entries["portico.db"] = b"not a database" * 1000
    manifest["sha256"]["portico.db"] = hashlib.sha256(entries["portico.db"]).hexdigest()


def _of(statement: str) -> Callable[[dict[str, bytes], dict[str, Any]], None]:
    def change(entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(entries["portico.db"])
        connection.execute(statement)
        connection.commit()
        entries["portico.db"] = connection.serialize()
        connection.close()
        manifest["sha256"]["portico.db"] = hashlib.sha256(entries["portico.db"]).hexdigest()

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other_format, "not a backup"),
        (_newer_version, "update Portico"),
        (_without_database, "contains no portico.db"),
        (_lacking, "lacks adapters/a/weights.bin"),
        (_unnamed, "does not list"),
        (_another_blob, "does not match the digest in its name"),
        (_no_database, "database is damaged"),
        (_of("update alembic_version set version_num = '9999'"), "newer version of Portico"),
        (
            _of("update alembic_version set version_num = '0018'"),
            "schema 0018, from before the first release",
        ),
        (_of("drop table alembic_version"), "not a Portico database"),
        (lambda _entries, manifest: manifest.pop("sha256"), "manifest.json is damaged"),
        (lambda _entries, manifest: manifest.update(missing=3), "manifest.json is damaged"),
    ],
)
def test_an_invalid_backup_is_refused_with_the_reason_and_changes_nothing(
    archive: Path, tmp_path: Path, change: Any, told: str
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "portico.db").write_bytes(b"what is there")
    with pytest.raises(PorticoError, match=told) as caught:
        put_back(rewritten(archive, tmp_path / "x.zip", change), home, replace=True)
    assert caught.value.code == "invalid_archive"
    assert tree(home) == {"portico.db": b"what is there"}


def test_a_missing_file_or_a_file_that_is_not_a_zip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PorticoError, match=r"The file .* does not exist"):
        restore.BackupArchive(tmp_path / "none.zip")
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(PorticoError, match="not a complete zip archive"):
        restore.BackupArchive(tmp_path / "text.zip")


KILLED = """
import os, sys
from pathlib import Path
from portico_server.features.backup import restore
from portico_server.db import migrate
from portico_server.home import Home

left = 0

def counted(function):
    def call(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)  # as kill -9 does: nothing is tidied
        return function(*arguments, **named)
    return call

os.rename, os.fsync, Path.replace = counted(os.rename), counted(os.fsync), counted(Path.replace)
Path.unlink, os.mkdir = counted(Path.unlink), counted(os.mkdir)
for line in sys.stdin:  # each in a process of its own, which need not import all this again
    child = os.fork()
    if not child:
        step, home = line.split()
        left = int(step)
        found = restore.BackupArchive(Path(sys.argv[1]))
        with Home(Path(home)):
            restore.restore(found, Path(home), replace=True, report=lambda *_: None)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_step_a_restore_is_undone_or_finished_by_the_next_start(
    archive: Path, tmp_path: Path
) -> None:
    old = {"portico.db": b"old", "blobs/aa/bb": b"old blob"}
    put_back(archive, tmp_path / "sound")
    new = tree(tmp_path / "sound")
    outcomes = []
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(archive)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as killed:
        assert killed.stdin is not None and killed.stdout is not None
        for step in range(200):
            home = tmp_path / f"home{step}"
            for name, data in old.items():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                (home / name).write_bytes(data)
            killed.stdin.write(f"{step} {home}\n")
            killed.stdin.flush()
            code = int(killed.stdout.readline())
            assert code in (0, 9)
            with Home(home):  # as the next daemon does
                all_files = tree(home)
            own_files = {
                name: data
                for name, data in all_files.items()
                if not name.startswith(home_replacement.ASIDE_PREFIX)
            }
            aside = {
                name.split("/", 1)[1]: data
                for name, data in all_files.items()
                if name.startswith(home_replacement.ASIDE_PREFIX)
            }
            assert (own_files, aside) in ((old, {}), (new, old)), f"killed at step {step}"
            outcomes.append(own_files == new)
            shutil.rmtree(home)
            if code == 0:
                break
    assert outcomes == sorted(outcomes), "first undone, from some step on finished"
    assert outcomes[0] is False and outcomes[-1] is True and outcomes.count(True) > 3


@pytest.mark.parametrize(("is_same", "code"), [(True, ""), (False, "home_not_empty")])
def test_repeating_an_interrupted_restore_with_the_same_archive_completes_it(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_same: bool, code: str
) -> None:
    def interrupt(_home: Path) -> None:
        raise KeyboardInterrupt

    def change(_entries: dict[str, bytes], manifest: dict[str, Any]) -> None:
        manifest["created_at"] += 1

    home = tmp_path / "home"
    with monkeypatch.context() as patch:
        patch.setattr(home_replacement, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            put_back(archive, home)
    assert (home / home_replacement.PLAN).exists()
    repeated = archive if is_same else rewritten(archive, tmp_path / "other.zip", change)
    command = [sys.executable, "-m", "portico_server", "restore", str(repeated), "--home", str(home)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    result = json.loads(done.stdout.splitlines()[-1])
    assert result.get("error", {}).get("code", "") == code
    assert tree(home)[layout.blob(DIGEST)] == BLOB
    assert sorted(os.listdir(home)) == ["adapters", "blobs", "daemon.lock", "portico.db"]


def test_an_interrupted_restore_that_cannot_be_finished_is_reported(tmp_path: Path) -> None:
    (tmp_path / home_replacement.PLAN).write_text("not JSON")
    with pytest.raises(PorticoError, match="cannot be finished") as caught:
        Home(tmp_path).__enter__()
    assert caught.value.code == "home_unusable"
    (tmp_path / home_replacement.PLAN).unlink()
    with Home(tmp_path):
        assert home_replacement.holds(tmp_path) == []
