"""Vectors: the graph and exact search give the same answers, survive restarts, and are reloaded when damaged."""

import json
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from portico_server.core.errors import Conflict
from portico_server.db.changes import LogEntry
from portico_server.features.stores.index import nearest, vector
from portico_server.features.stores.index.nearest import ExactVectors
from portico_server.features.stores.index.offset import DamagedIndex, LogOffset
from portico_server.features.stores.index.vector import VECTOR_INDEX_VERSION, VectorIndex

SIZE = 16

needs_hnswlib = pytest.mark.skipif(find_spec("hnswlib") is None, reason="hnswlib is not installed")


def some(number: int, size: int = SIZE, seed: int = 0) -> np.ndarray:
    data = np.random.default_rng(seed).standard_normal((number, size)).astype(np.float32)
    return data / np.linalg.norm(data, axis=1, keepdims=True)


def rows(data: np.ndarray, first: int = 1) -> list[tuple[int, bytes]]:
    return [(first + i, item.astype("<f4").tobytes()) for i, item in enumerate(data)]


def mark(seq: int) -> LogOffset:
    return LogOffset(VECTOR_INDEX_VERSION).at(LogEntry(seq, "put", "f1", 1, 1), 1)


@pytest.fixture(params=["voyager", pytest.param("hnswlib", marks=needs_hnswlib)])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use graphs from 100 vectors on, with either library."""
    monkeypatch.setattr(vector, "MIN_GRAPH_VECTORS", 100)
    if request.param == "voyager":
        monkeypatch.setattr(nearest, "hnswlib", None)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[VectorIndex]:
    index = VectorIndex(tmp_path / "vector")
    yield index
    index.close()


def test_the_nearest_come_first_with_their_cosines(index: VectorIndex) -> None:
    data = some(50)
    index.put(rows(data))
    results = index.search(data[7].tobytes(), 5)
    assert results[0] == (8, pytest.approx(1.0, abs=1e-5))
    truth = sorted(((float(data[i] @ data[7]), i + 1) for i in range(50)), reverse=True)[:5]
    assert results == [(chunk, pytest.approx(score, abs=1e-5)) for score, chunk in truth]


def test_an_empty_index_returns_no_hits(index: VectorIndex) -> None:
    assert index.search(some(1)[0].tobytes(), 5) == []


def test_deleted_and_replaced_vectors_are_gone(index: VectorIndex) -> None:
    data = some(2_000)
    index.put(rows(data))
    index.delete(1, 1_500)
    index.put(rows(data[:1], first=2_000))
    scores = dict(index.search(data[0].tobytes(), 2_000))
    assert sorted(scores) == list(range(1_501, 2_001))
    assert scores[2_000] == pytest.approx(1.0, abs=1e-5)
    index.delete(1, 1_500)  # again, as after a crash
    assert len(index) == 500


def test_only_allowed_chunks_are_found(index: VectorIndex) -> None:
    data = some(50)
    index.put(rows(data))
    results = index.search(data[0].tobytes(), 5, [(10, 12), (40, 40), (900, 999)])
    assert sorted(chunk for chunk, _ in results) == [10, 11, 12, 40]
    assert index.search(data[0].tobytes(), 5, []) == []


def test_a_query_vector_of_another_length_is_refused(index: VectorIndex) -> None:
    index.put(rows(some(3)))
    with pytest.raises(Conflict, match=r"32 numbers.*16"):
        index.search(some(1, 32)[0].tobytes(), 5)


def test_vectors_of_a_new_length_replace_the_old_ones(
    index: VectorIndex, caplog: pytest.LogCaptureFixture
) -> None:
    index.put(rows(some(3)))
    index.put(rows(some(2, 32), first=4))
    assert sorted(chunk for chunk, _ in index.search(some(1, 32)[0].tobytes(), 5)) == [4, 5]
    assert "replacing vectors of 16 numbers with new vectors of 32" in caplog.text


@pytest.mark.usefixtures("small")
def test_a_graph_answers_as_exact_search_does(index: VectorIndex) -> None:
    data = some(500)
    index.put(rows(data))
    assert index.wants_graph
    exact = ExactVectors(SIZE)
    exact.put(range(1, 501), data)
    index.build()
    assert not index.wants_graph
    for query in some(20, seed=1):
        for ranges in (None, [(1, 60)], [(1, 400)]):
            truth = dict(exact.search(query, 10, ranges))
            results = dict(index.search(query.tobytes(), 10, ranges))
            assert len(truth.keys() & results.keys()) >= 9
            assert all(results[i] == pytest.approx(truth[i], abs=2e-3) for i in truth.keys() & results.keys())


@pytest.mark.usefixtures("small")
def test_a_graph_accepts_changes_and_is_reloaded_from_disk(index: VectorIndex, tmp_path: Path) -> None:
    data = some(300)
    index.put(rows(data[:200]))
    index.build()
    index.put(rows(data[200:], first=201))
    index.delete(1, 50)
    index.commit(mark(7))
    index.close()

    again = VectorIndex(tmp_path / "vector")
    assert again.mark == mark(7)
    assert len(again) == 250
    assert again.search(data[250].tobytes(), 1) == [(251, pytest.approx(1.0, abs=1e-3))]
    assert 1 not in dict(again.search(data[0].tobytes(), 250))
    assert sorted(dict(again.search(data[0].tobytes(), 250))) == list(range(51, 301))
    again.close()


@pytest.mark.usefixtures("small")
def test_changes_during_a_graph_build_are_included(
    index: VectorIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = some(200)
    index.put(rows(data[:150]))
    build_start, go_on = threading.Event(), threading.Event()
    fill = nearest.HnswGraph.fill

    def slow(self: nearest.HnswGraph, *arguments: object) -> bool:
        build_start.set()
        assert go_on.wait(60)
        return fill(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(nearest.HnswGraph, "fill", slow)
    thread = threading.Thread(target=index.build)
    thread.start()
    assert build_start.wait(60)
    index.put(rows(data[150:], first=151))
    index.delete(1, 10)
    assert len(index.search(data[0].tobytes(), 200)) == 190
    go_on.set()
    thread.join()
    assert not index.wants_graph
    assert sorted(dict(index.search(data[0].tobytes(), 200))) == list(range(11, 201))


@pytest.mark.usefixtures("small")
def test_a_stopped_build_leaves_no_graph_files(index: VectorIndex, tmp_path: Path) -> None:
    index.put(rows(some(200)))
    index.stop()
    index.build()
    assert index.wants_graph
    assert not list((tmp_path / "vector").glob("graph*"))


@pytest.mark.usefixtures("small")
def test_a_graph_of_mostly_deleted_vectors_is_due_for_a_rebuild(index: VectorIndex) -> None:
    data = some(2_500)
    index.put(rows(data))
    index.build()
    index.delete(1, 1_500)
    assert index.wants_graph
    index.build()
    assert not index.wants_graph
    assert sorted(dict(index.search(data[0].tobytes(), 1_000))) == list(range(1_501, 2_501))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", [".bin", ".ids", ".vectors", ".json"])
@pytest.mark.parametrize("how", ["cut", "flip", "lose"])
def test_a_damaged_graph_is_detected_on_opening(tmp_path: Path, suffix: str, how: str) -> None:
    folder = tmp_path / "vector"
    index = VectorIndex(folder)
    index.put(rows(some(200)))
    index.commit(mark(1))
    index.build()
    index.close()
    path = next(folder.glob(f"graph*{suffix}"))
    data = bytearray(path.read_bytes())
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "flip":
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    else:
        path.unlink()
    if (suffix, how) == (".json", "lose"):
        assert VectorIndex(folder).mark.seq == -1
        return
    with pytest.raises(DamagedIndex):
        VectorIndex(folder)


@pytest.mark.parametrize(("name", "value"), [("library", "another"), ("mark", LogOffset(1, seq=1).to_json())])
@pytest.mark.usefixtures("small")
def test_a_graph_of_another_library_or_version_is_not_read(tmp_path: Path, name: str, value: str) -> None:
    folder = tmp_path / "vector"
    index = VectorIndex(folder)
    index.put(rows(some(200)))
    index.commit(mark(1))
    index.build()
    index.close()
    path = folder / "graph.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    if name == "mark":
        with pytest.raises(DamagedIndex, match="version 1"):
            VectorIndex(folder)
    else:
        assert VectorIndex(folder).mark.seq == -1
