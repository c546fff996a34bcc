"""The index of vectors in Qdrant Edge: graphs that a child process builds, interrupted work, damaged files."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from portico_server.db.changes import LogEntry
from portico_server.features.stores.index.offset import DamagedIndex

pytest.importorskip("qdrant_edge", reason="pip install qdrant-edge-py")

from portico_server.features.stores.index import qdrant
from portico_server.features.stores.index.qdrant import QdrantIndex

SIZE = 8
Floats = NDArray[np.float32]


def some(number: int, seed: int = 0) -> Floats:
    data = np.random.default_rng(seed).standard_normal((number, SIZE)).astype(np.float32)
    return data / np.linalg.norm(data, axis=1, keepdims=True)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantIndex]:
    monkeypatch.setattr(qdrant, "MIN_GRAPH_VECTORS", 100)
    index = QdrantIndex(tmp_path / "index")
    yield index
    index.close()


def put(index: QdrantIndex, first: int, data: Floats) -> None:
    index.put([(first + n, row.tobytes()) for n, row in enumerate(data)])


def commit(index: QdrantIndex, seq: int) -> None:
    index.commit(index.mark.at(LogEntry(seq, "put", "f1", 1, 1), 1))


def nearest(index: QdrantIndex, vector: Floats) -> int:
    [(chunk, score)] = index.search(vector.tobytes(), 1)
    assert score == pytest.approx(1, abs=2e-3)
    return chunk


def shards(index: QdrantIndex, folder: Path) -> int:
    return len(list((folder / "index").glob("shard-*")))


def test_changes_during_a_build_are_in_the_graph(index: QdrantIndex, tmp_path: Path) -> None:
    data = some(400)
    put(index, 1, data[:300])
    assert index.wants_graph
    build = threading.Thread(target=index.build)
    build.start()
    for i in range(300, 400):
        put(index, i + 1, data[i : i + 1])
        index.delete(i - 299, i - 299)
        assert nearest(index, data[i]) == i + 1
    build.join()
    assert not index.wants_graph or len(index) == 300
    assert [nearest(index, data[i]) for i in range(100, 400, 7)] == list(range(101, 401, 7))
    assert len(index) == 300
    assert shards(index, tmp_path) == 1


@pytest.mark.parametrize("share", [2, 10, 50])
def test_filtered_graph_search_matches_exact_search(
    index: QdrantIndex, monkeypatch: pytest.MonkeyPatch, share: int
) -> None:
    monkeypatch.setattr(qdrant, "MAX_EXACT_KB", 1)
    data = some(3_000)
    put(index, 0, data)
    index.build()
    permitted = range(0, 3_000, share)
    for question in some(20, seed=1):
        results = index.search(question.tobytes(), 10, [(i, i) for i in permitted])
        expected_ids = sorted(permitted, key=lambda i: -float(data[i] @ question))[:10]
        assert len({i for i, _score in results} & set(expected_ids)) >= 9


def test_a_stopped_build_leaves_the_vectors(index: QdrantIndex, tmp_path: Path) -> None:
    data = some(300)
    put(index, 1, data)
    index.stop()
    index.build()
    assert nearest(index, data[7]) == 8
    assert shards(index, tmp_path) == 1


def test_a_build_ends_when_the_vectors_are_dropped(index: QdrantIndex) -> None:
    put(index, 1, some(300))
    build = threading.Thread(target=index.build)
    build.start()
    index.clear()
    put(index, 1, some(1, seed=5))
    build.join()
    assert nearest(index, some(1, seed=5)[0]) == 1
    assert len(index) == 1


def test_changes_after_the_last_save_are_applied_again(
    index: QdrantIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qdrant, "SAVE_INTERVAL_CHANGES", 50)
    data = some(120)
    put(index, 1, data[:100])
    commit(index, 7)
    put(index, 101, data[100:])
    index.delete(1, 20)
    commit(index, 8)  # too few changes to be saved
    shutil.copytree(tmp_path / "index", tmp_path / "killed")
    reopened = QdrantIndex(tmp_path / "killed")
    assert reopened.mark.seq == 7
    put(reopened, 101, data[100:])
    reopened.delete(1, 20)
    assert len(reopened) == 100
    assert nearest(reopened, data[110]) == 111
    reopened.close()
    again = QdrantIndex(tmp_path / "killed")
    assert (len(again), again.mark.seq) == (100, 7)
    again.close()


@pytest.mark.parametrize("damage", ["description", "shard"])
def test_damaged_files_are_reported(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "index"
    index = QdrantIndex(folder)
    put(index, 1, some(3))
    index.close()
    if damage == "description":
        (folder / "description.json").write_text("{")
    else:
        [shard] = folder.glob("shard-*")
        (shard / "edge_config.json").write_text("{")
    with pytest.raises(DamagedIndex):
        QdrantIndex(folder)
