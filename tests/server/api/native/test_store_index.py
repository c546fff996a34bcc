"""Where a store's vectors are: in the configuration, over HTTP, in the SDK and on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests import daemon as daemons
from tests import postgres
from tests.server.features.readers.documents import write_files
from typer.testing import CliRunner

from portico import Client
from portico.cli.root import app as cli

DOCUMENTS = {"lamp.md": "# The Orlix lamp\n\nIt shines.", "bread.md": "# Bread\n\nBread is baked hot."}


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[daemons.Daemon]:
    """A daemon on a PostgreSQL with pgvector, whose configuration puts a store there."""
    folder = tmp_path_factory.mktemp("index")
    docs = write_files(folder / "docs", DOCUMENTS)
    with postgres.running_with_pgvector() as server:
        file = folder / "portico.yaml"
        file.write_text(
            f"stores: [{{name: docs, folder: '{docs}', index: pgvector}}]\n"
            f"settings: {{database: '{server.new()}', files: '{folder / 'files'}'}}\n"
        )
        with daemons.running(folder / "home", "--file", str(file)) as running:
            running.settle()
            with Client(running.url) as client:
                client.stores.wait("docs")
            yield running


@pytest.mark.slow
def test_a_store_begins_on_pgvector_and_moves_away_and_back(daemon: daemons.Daemon) -> None:
    with Client(daemon.url) as client, httpx.Client(base_url=daemon.url, timeout=60) as http:
        assert client.stores.get("docs").index == "pgvector"
        for index in ("embedded", "pgvector"):
            run = http.patch("/api/stores/docs", json={"index": index}).json()["run"]
            assert '"finished"' in http.get(f"/api/runs/{run}/events").text
            assert client.stores.get("docs").index == index
            answer = client.search("docs", "Which bread is hot?", ranker="vector")
            assert answer.passages[0].filename == "bread.md"
        command = ["--url", daemon.url, "stores", "change", "docs", "--index", "pgvector"]
        assert "pgvector" in CliRunner().invoke(cli, command).output


def test_a_daemon_without_postgresql_refuses_pgvector(tmp_path: Path) -> None:
    with daemons.running(tmp_path / "home") as running, httpx.Client(base_url=running.url) as http:
        for index, status in (("pgvector", 400), ("elsewhere", 400), ("embedded", 200)):
            answer = http.post("/api/stores", json={"name": "docs", "index": index, "embedding_model": ""})
            assert answer.status_code == status, answer.text
        answer = http.patch("/api/stores/docs", json={"index": "pgvector"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "index_unavailable")
        assert "portico migrate" in answer.json()["error"]["message"]
        assert http.get("/api/stores/docs").json()["index"] == "embedded"


@pytest.mark.slow
def test_a_daemon_on_sqlite_moves_vectors_into_files_of_qdrant(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")
    docs = write_files(tmp_path / "docs", DOCUMENTS)
    file = tmp_path / "portico.yaml"
    file.write_text(f"stores: [{{name: docs, folder: '{docs}', index: qdrant}}]\n")
    home = tmp_path / "home"
    for _ in range(2):  # the second daemon opens the files of the first
        with daemons.running(home, "--file", str(file)) as running, Client(running.url) as client:
            running.settle()
            client.stores.wait("docs")
            assert client.stores.get("docs").index == "qdrant"
            answer = client.search("docs", "Which bread is hot?", ranker="vector")
            assert answer.passages[0].filename == "bread.md"
        assert list(home.glob("indexes/*/qdrant/*/shard-*"))
