"""Vectors at scale: memory, recall and speed of the index, and of searches over HTTP: ``python bench/scale.py``.

``--vectors N`` measures the vector index alone, over clustered vectors like those of texts (uniform vectors have no
near neighbours to miss). With ``--index``, it measures another index than the embedded one; ``pgvector`` runs a
PostgreSQL of its own.
``--chunks N`` measures hybrid search over HTTP with ``--clients`` concurrent clients, on a store written straight into
the database.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import statistics
import tempfile
import threading
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpus
import numpy as np
import psutil
from harness import Report, call, daemon

if TYPE_CHECKING:
    from tests import postgres

    from portico_server.db.database import Database

DIMENSIONS = 256
MODEL = "wordllama-256"
ASKED = 500
DEPTH = 10


def main() -> None:
    """Run the requested measurements, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vectors", type=int, default=1_000_000)
    parser.add_argument("--index", choices=("embedded", "qdrant", "pgvector"), default="embedded")
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    columns = (
        "what",
        "GB",
        "recall@10",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "a second",
        "CPU ms",
        "seconds",
        "errors",
    )
    report = Report(f"Scale, {DIMENSIONS} dimensions", columns)
    if options.vectors and options.index == "pgvector":
        in_postgres(report, options.vectors)
    elif options.vectors:
        vectors(report, options.vectors, options.index)
    if options.chunks:
        with tempfile.TemporaryDirectory() as temporary:
            over_http(report, Path(temporary) / "home", options.chunks, options.clients)
    report.show(options.json)


def clustered(count: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return unit vectors around a thousand centres, as far from them as texts on one subject are."""
    centres = np.random.default_rng(1).standard_normal((1_000, DIMENSIONS)).astype(np.float32)
    chance = np.random.default_rng(seed)
    data = centres[chance.integers(0, len(centres), count)]
    data += 0.8 * chance.standard_normal((count, DIMENSIONS), dtype=np.float32)
    data /= np.linalg.norm(data, axis=1, keepdims=True)
    return data


def vectors(report: Report, count: int, engine: str) -> None:
    """Measure the index of one store in this process, filled as a rebuild fills it: all vectors, and those of one file
    in ten.
    """
    from portico_server.features.stores.index.offset import LogOffset
    from portico_server.features.stores.index.opening import open_qdrant, open_vectors

    queries = clustered(ASKED, 99)
    parts: list[np.ndarray[Any, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "vectors" / "index"
        index = open_qdrant(folder) if engine == "qdrant" else open_vectors(folder)
        before = private_memory()
        begin = time.perf_counter()
        for i in range(0, count, 10_000):
            data = clustered(min(10_000, count - i), i + 100)
            parts.append((queries @ data.T).astype(np.float16))
            rows = [(i + n, row.tobytes()) for n, row in enumerate(data)]
            for n in range(0, len(rows), 500):
                index.put(rows[n : n + 500])
        filled = time.perf_counter() - begin
        index.build()
        index.commit(LogOffset(1, 1))
        report.add(
            what=f"{count:,} vectors in {engine}, peak while built, this process",
            GB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 2**30 - size_gb(parts),
            seconds=time.perf_counter() - begin,
            **{"a second": count / filled},
        )
        if engine == "qdrant":
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
            report.add(what="  the process that builds the graph", GB=peak / 2**20)
        index.close()
        files_gb = sum(path.stat().st_blocks for path in folder.rglob("*")) * 512 / 2**30
        report.add(what="  private memory, built", GB=(private_memory() - before) / 2**30 - size_gb(parts))
        report.add(what="  files", GB=files_gb)
        index = open_qdrant(folder) if engine == "qdrant" else open_vectors(folder)
        scores = np.concatenate(parts, axis=1)
        parts.clear()
        files = [(i, min(i + 499, count - 1)) for i in range(0, count, 5_000)]
        for what, ranges in (("all", None), ("one file in ten", files)):
            if ranges is not None:
                scores[:, np.arange(count) // 500 % 10 != 0] = -1
            searches = Searches(scores, np.arange(count))
            for vector in queries:
                begin = time.perf_counter()
                searches.note(index.search(vector.tobytes(), DEPTH, ranges), begin)
            report.add(what=f"  searches of {what}", **searches.figures())
        index.close()


class Searches:
    """Times of searches, and how many of the nearest chunks they return. ``scores`` has a row for each query, and
    ``ids`` the chunk of each column.
    """

    def __init__(self, scores: np.ndarray[Any, Any], ids: np.ndarray[Any, Any]) -> None:
        nearest = np.argpartition(scores, -DEPTH, axis=1)[:, -DEPTH:]
        self._expected = [set(ids[columns].tolist()) for columns in nearest]
        self._times_ms: list[float] = []
        self._hits = 0

    def note(self, ranking: Sequence[tuple[int, float]], begin: float) -> None:
        """Record the result of the next query, whose search began at ``begin``."""
        self._times_ms.append((time.perf_counter() - begin) * 1e3)
        self._hits += len({chunk for chunk, _ in ranking} & self._expected[len(self._times_ms) - 1])

    def figures(self) -> dict[str, float]:
        return {"recall@10": self._hits / (ASKED * DEPTH), **quantiles(self._times_ms)}


def private_memory() -> int:
    """Return the bytes of this process's memory that are not mapped files."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def size_gb(parts: Sequence[np.ndarray[Any, Any]]) -> float:
    return sum(part.nbytes for part in parts) / 2**30


def in_postgres(report: Report, count: int) -> None:
    """Measure a store with pgvector, in a PostgreSQL that runs meanwhile."""
    from tests import postgres

    with postgres.running_with_pgvector() as server:
        asyncio.run(pgvectors(report, count, server))


async def pgvectors(report: Report, count: int, server: postgres.Server) -> None:
    """Measure a store with pgvector, filled as ingest fills it: all vectors, and those of one file in ten."""
    from portico_server.db import pgvector
    from portico_server.db.chunks import ids as chunk_ids
    from portico_server.db.database import Database
    from portico_server.features.stores.index.pgvector import PgVectors

    url = server.new()
    database = Database(url)
    database.prepare()
    await database.write(pgvector.require)
    memory = psutil.Process().memory_info().rss
    postmaster = int(server.execute("select split_part(pg_read_file('postmaster.pid'), e'\\n', 1)")[0][0])
    processor, begin = time.process_time() + processor_s(postmaster), time.perf_counter()
    await fill(database, count, "pgvector")
    seconds = time.perf_counter() - begin
    processor = time.process_time() + processor_s(postmaster) - processor
    memory = psutil.Process().memory_info().rss - memory
    size = (
        "select sum(pg_total_relation_size(oid)) from pg_class where relname ~ '^nearest_' and relkind = 'r'"
    )
    report.add(
        what=f"{count:,} chunks into pgvector, {server.execute(size, url)[0][0] / 2**20:.0f} MB on disk",
        GB=memory / 2**30,
        seconds=seconds,
        **{"a second": count / seconds, "CPU ms": processor / count * 1e3},
    )
    ids = np.array(await database.read(chunk_ids, "vs_scale"))
    queries = clustered(ASKED, 99)
    parts = [(queries @ clustered(min(500, count - i), i).T).astype(np.float16) for i in range(0, count, 500)]
    scores = np.concatenate(parts, axis=1)
    files = [(int(ids[i]), int(ids[min(i + 499, count - 1)])) for i in range(0, count, 5_000)]
    engine = PgVectors(database, "vs_scale", "chunk", MODEL)
    for what, ranges in (("all", None), ("one file in ten", files)):
        if ranges is not None:
            scores[:, np.arange(count) // 500 % 10 != 0] = -1
        searches = Searches(scores, ids)
        for vector in queries:
            begin = time.perf_counter()
            searches.note(await engine.search(vector.tobytes(), DEPTH, ranges), begin)
        report.add(what=f"  searches of {what}", **searches.figures())
    database.close()


def quantiles(times: Sequence[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {
        "p50 ms": statistics.median(ordered),
        **{f"p{share} ms": ordered[int(len(ordered) * share / 100)] for share in (95, 99)},
    }


def over_http(report: Report, home: Path, chunks: int, clients: int) -> None:
    """Measure hybrid searches of one store, one at a time and by several clients."""
    home.mkdir()
    asyncio.run(write(home, chunks))
    writer = corpus.Writer(3)
    # Each question is sent once, so that cached results cannot answer the next.
    questions = [[writer.sentence(False)[:60] for _ in range(ASKED)] for _ in range(2)]
    with daemon(home) as portico:
        url = f"{portico.url}/api/stores/vs_scale/search"
        begin = time.perf_counter()
        first = ready(url, questions[0][0])
        settle(portico.pid)
        report.add(what=f"{chunks:,} chunks, first answer", seconds=first - begin)
        for number, ours in zip((1, clients), questions, strict=True):
            for question in ours[:20]:
                call(url, {"query": question})
            processor, begin = processor_s(portico.pid), time.perf_counter()
            times, errors = asked_by(url, ours[20:], number)
            seconds = time.perf_counter() - begin
            report.add(
                what=f"  {number} clients",
                GB=psutil.Process(portico.pid).memory_info().rss / 2**30,
                errors=errors,
                **{"a second": len(times) / seconds},
                **{"CPU ms": (processor_s(portico.pid) - processor) / len(times) * 1e3},
                **quantiles(times),
            )


def processor_s(pid: int) -> float:
    """Return the seconds of processor time that the daemon and its children have used."""
    daemon_process = psutil.Process(pid)
    times = [one.cpu_times() for one in (daemon_process, *daemon_process.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def ready(url: str, question: str) -> float:
    """Return the time at which a search is answered."""
    until = time.perf_counter() + 1_800
    while time.perf_counter() < until:
        try:
            call(url, {"query": question})
        except SystemExit:
            time.sleep(1)  # the index is being built: the response says when to retry
        else:
            return time.perf_counter()
    raise SystemExit("the index was not built in half an hour")


def settle(pid: int) -> None:
    """Wait until the graph has been built."""
    process = psutil.Process(pid)
    while process.cpu_percent(2.0) > 10:
        continue


def asked_by(url: str, questions: Sequence[str], clients: int) -> tuple[list[float], int]:
    """Return the milliseconds of each question, and the number of failures."""
    errors = 0
    lock = threading.Lock()

    def one(question: str) -> float:
        nonlocal errors
        begin = time.perf_counter()
        try:
            call(url, {"query": question})
        except (SystemExit, urllib.request.HTTPError):
            with lock:
                errors += 1
        return (time.perf_counter() - begin) * 1e3

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, questions)), errors


async def write(home: Path, count: int) -> None:
    """Write a store of ``count`` chunks into a home."""
    from portico_server.db.database import Database

    database = Database.at(home / "portico.db")
    database.prepare()
    try:
        await fill(database, count, "embedded")
    finally:
        database.close()


async def fill(database: Database, count: int, index: str) -> None:
    """Write a store of ``count`` chunks with arbitrary vectors."""
    from sqlalchemy import Connection, insert

    from portico.wire import Place
    from portico_server.db import chunks as rows
    from portico_server.db.chunks import FileChunks, NewChunk
    from portico_server.db.schema import files, store_files, stores

    writer, chance, now = corpus.Writer(), random.Random(5), time.time()
    sentences = [writer.sentence(number % 4 == 1) for number in range(20_000)]

    def store(connection: Connection) -> None:
        values = {
            "embedding_model": MODEL,
            "index": index,
            "metadata": {},
            "last_active_at": now,
            "created_at": now,
        }
        connection.execute(insert(stores).values(id="vs_scale", name="scale", **values))

    def put(connection: Connection, file: str, pieces: Sequence[FileChunks], size: int) -> None:
        about = {"purpose": "assistants", "bytes": size, "sha256": "0" * 64, "created_at": now}
        connection.execute(insert(files).values(id=file, filename=f"{file}.txt", **about))
        held = {"status": "completed", "attributes": {}, "chunking": {}, "created_at": now}
        connection.execute(insert(store_files).values(store_id="vs_scale", file_id=file, **held))
        rows.put(connection, "vs_scale", pieces, MODEL)

    await database.write(store)
    for i in range(0, count, 500):
        number = min(500, count - i)
        texts = ["".join(chance.choices(sentences, k=5)) for _ in range(number)]
        new = [NewChunk(text, Place(start=n)) for n, text in enumerate(texts)]
        data = [row.tobytes() for row in clustered(number, i)]
        file = f"file-{i:08d}"
        await database.write(put, file, [FileChunks(file, new, data)], sum(map(len, texts)))


if __name__ == "__main__":
    main()
