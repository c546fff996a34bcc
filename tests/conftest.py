"""Shared fixtures: a daemon with scripted models for each test module."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import ssl
from collections.abc import Callable, Generator, Iterator
from functools import cache
from pathlib import Path

import httpx
import httpx2
import pytest

from portico_server.db import migrate
from portico_server.db.database import Database
from tests import daemon as daemons
from tests import postgres, template_db
from tests.daemon import Daemon

pytest_plugins = ["tests.lanes", "tests.skips"]

CONFIGURATION = """
models:
  - {name: echo, source: "fake://", aliases: [default]}
  - {name: fake-embedding, source: "fake://", task: embedding, parameters: {dimensions: 64}}
"""

DOCS = {
    "port.md": "# Ports\n\nThe Lighthouse daemon listens on port 7419.\n\n## History\n\nIt was 80 once.\n",
    "bread.txt": "Bread is baked at 230 degrees for forty minutes. Let the dough rest overnight.\n",
    "gaoshan.md": "# 高山植物\n\n雪莲花生长在海拔四千米以上的高山地带，花期在七月到八月。\n",
}


GC_OBJECTS_THRESHOLD = 10_000
"""New objects before Python scans for garbage, as in a daemon; with its default of 700, tests take 6 % longer."""


def pytest_configure() -> None:
    """Let Ctrl-C reach the processes that tests start, and show compared values in the contract suites.

    Ctrl-C works even if the tests themselves were started with signals ignored (by ``nohup``).
    """
    for kind in ("chunkers", "engines", "providers", "tools"):
        pytest.register_assert_rewrite(f"portico.testing.{kind}")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Import the test modules without scanning for garbage, and exclude what they import from later scans.

    A scan of a million objects takes 0.6 s, and a fifth of the collection were such scans.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(GC_OBJECTS_THRESHOLD, *gc.get_threshold()[1:])
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _copied() -> Iterator[None]:
    """Create new databases of this process as copies of a migrated one, except those in ``tests/server/db``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(migrate, "upgrade", template_db.copying())
        yield


@pytest.fixture(scope="session", autouse=True)
def _on_postgresql(_copied: None) -> Iterator[None]:
    """With ``PORTICO_TEST_POSTGRES=1``, databases that tests open as files are databases on a PostgreSQL instead."""
    if not os.environ.get("PORTICO_TEST_POSTGRES"):
        yield
        return
    with postgres.running() as server, pytest.MonkeyPatch.context() as patch:
        new_url = server.prepared()
        urls: dict[Path, str] = {}

        def at(path: Path) -> Database:
            if path not in urls:
                urls[path] = new_url()
            return Database(urls[path])

        patch.setattr(Database, "at", at)
        yield


@pytest.fixture(scope="session", autouse=True)
def _trusted() -> Iterator[None]:
    """Read the certificates of a file once: reading them for each client takes 25 milliseconds."""

    def read_once(create: Callable[..., ssl.SSLContext]) -> Callable[..., ssl.SSLContext]:
        cached = cache(lambda _file, *arguments, **options: create(*arguments, **options))
        return lambda *arguments, **options: cached(os.environ.get("SSL_CERT_FILE"), *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        for library in (httpx, httpx2):
            context = read_once(library.create_ssl_context)
            patch.setattr(library._transports.default, "create_ssl_context", context)
        yield


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """Let clients without an explicit limit wait for a minute: five seconds are too few when all cores are busy."""
    with pytest.MonkeyPatch.context() as patch:
        for library in (httpx, httpx2):
            for timeout_name in ("connect", "read", "write", "pool"):
                patch.setattr(library._config.DEFAULT_TIMEOUT_CONFIG, timeout_name, 60.0)
        yield


@pytest.fixture(scope="session")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder named ``handbook`` with three small documents in English and Chinese, which tests must not change."""
    folder = tmp_path_factory.mktemp("docs") / "handbook"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def settled(tmp_path_factory: pytest.TempPathFactory, docs: Path) -> Path:
    """A folder with ``test.yaml`` and ``data``, the home of a daemon that has indexed ``handbook`` and stopped."""
    home = tmp_path_factory.mktemp("settled")
    configuration = home / "test.yaml"
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    with daemons.running(home / "data", "--file", str(configuration), "--docs", str(docs)) as running:
        running.settle()
    return home


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, docs: Path, settled: Path) -> Iterator[Daemon]:
    """A daemon over the folder ``handbook``, with the scripted model ``echo`` as ``default``."""
    home = tmp_path_factory.mktemp("home") / "data"
    shutil.copytree(settled / "data", home)
    with daemons.running(home, "--file", str(settled / "test.yaml"), "--docs", str(docs)) as running:
        running.settle()
        yield running
