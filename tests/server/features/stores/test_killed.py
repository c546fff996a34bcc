"""A daemon killed at any moment of an ingest finishes by itself, with exactly the right files and chunks."""

import asyncio
import random
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Connection, text
from tests.kills import count_kills
from tests.server.features.stores.ingesting import main

from portico_server.db.database import Database

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[4]

_ALL = """
    select files.filename, chunks.group_name, chunks.ordinal, chunks.text, length(vectors.data)
    from chunks join files on files.id = chunks.file_id left join vectors on vectors.chunk_id = chunks.id
    order by files.filename, chunks.group_name, chunks.ordinal
"""


def change(folder: Path, round_: int, dice: random.Random) -> None:
    """Add, rewrite, move and delete random files."""
    for number in range(6):
        words = " ".join(
            f"Sentence {i} of file {number} in round {round_} is here." for i in range(dice.randrange(1, 60))
        )
        (folder / f"{dice.randrange(20)}.txt").write_text(words)
    present = sorted(folder.glob("*.txt"))
    dice.choice(present).unlink()
    if (path := dice.choice(present)).exists():
        path.rename(folder / f"moved{round_}.txt")


def ingest(home: Path, folder: Path, *, lines: int | None) -> bool:
    """Ingest until that many lines were read, then kill; return whether it was done before."""
    command = [sys.executable, "-m", "tests.server.features.stores.ingesting", str(home), str(folder)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        for count, line in enumerate(child.stdout, start=1):
            if line.strip() == "done":
                return True
            if count == lines:
                child.kill()
                return False
        assert child.stderr is not None
        raise AssertionError(child.stderr.read())


def content(home: Path) -> list[tuple[object, ...]]:
    def read(connection: Connection) -> list[tuple[object, ...]]:
        return [tuple(row) for row in connection.execute(text(_ALL))]

    database = Database.at(home / "portico.db")
    try:
        with database._read_engine.connect() as connection:
            return read(connection)
    finally:
        database.close()


def kill_often(tmp_path: Path, times: int) -> None:
    dice = random.Random(4)
    home, folder = tmp_path / "home", tmp_path / "book"
    folder.mkdir()
    for round_ in range(times):
        change(folder, round_, dice)
        ingest(home, folder, lines=dice.randrange(1, 40))
    fresh = tmp_path / "fresh"
    for directory in (home, fresh):
        asyncio.run(main(directory, folder))
    assert content(home) == content(fresh)
    assert {row[0] for row in content(home)} == {path.name for path in folder.glob("*.txt")}
    assert {row[1] for row in content(home)} == {"chunk", "small"}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kills", [1, pytest.param(count_kills(6), marks=pytest.mark.slow)])
def test_kills_during_ingest_neither_lose_nor_duplicate_chunks(tmp_path: Path, kills: int) -> None:
    kill_often(tmp_path, kills)
