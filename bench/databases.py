"""SQLite beside PostgreSQL: searches of small stores and chats with their apps: ``python bench/databases.py``.

One daemon uses SQLite, another one a PostgreSQL of its own. Both hold the same stores of small files. Each round
measures both alternately: hybrid searches of one client and of several clients, and chats with the store's app, whose
model is the fake engine with two short sentences.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import corpus
from harness import Report, daemon
from scale import MODEL, clustered, settle

if TYPE_CHECKING:
    from portico_server.db.database import Database

CHUNKS_PER_FILE = 4
SENTENCES_PER_CHUNK = 5
DATABASES = ("SQLite", "PostgreSQL")

SCRIPT = [
    {
        "match": "when did the (\\w+) harbour open",
        "content": "Ships first used the \\1 harbour in 1931. Altogether, three piers belong to it.",
    }
]


@dataclass
class Figures:
    """Measurements of one store on one database: milliseconds of each call, and searches per second of each round."""

    searches_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    chats_ms: list[float] = field(default_factory=list)

    def summary(self) -> dict[str, float]:
        return {
            "search p50 ms": statistics.median(self.searches_ms),
            "searches/s": statistics.median(self.per_second),
            "chat p50 ms": statistics.median(self.chats_ms),
        }


class Client:
    """One kept connection to a daemon."""

    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)

    def post(self, path: str, body: Any) -> tuple[float, Any]:
        """Return the milliseconds of a request, and its answer."""
        begin = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        data = response.read()
        elapsed_ms = (time.perf_counter() - begin) * 1e3
        if response.status != 200:
            raise SystemExit(f"{path}: HTTP {response.status}: {data[:500]!r}")
        return elapsed_ms, json.loads(data)

    def search(self, store: str, question: str) -> float:
        return self.post(f"/api/stores/{store}/search", {"query": question})[0]

    def chat(self, store: str, question: str) -> float:
        messages = [{"role": "user", "content": question}]
        elapsed_ms, answer = self.post("/v1/chat/completions", {"model": store, "messages": messages})
        content = answer["choices"][0]["message"]["content"]
        if "three piers" not in content:
            raise SystemExit(f"the app did not answer with its model: {content[:200]}")
        return elapsed_ms


def main() -> None:
    """Run the measurements, print and store the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", default="400,1300,4300", help="number of files of each store")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--searches", type=int, default=60, help="searches in a round, of one and of all clients"
    )
    parser.add_argument("--chats", type=int, default=20, help="chats in a round")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    sizes = [int(size) for size in options.files.split(",")]
    from tests import postgres

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(postgres.running()).new()
        config = folder / "portico.yaml"
        clerk = {
            "name": "clerk",
            "source": "fake://",
            "aliases": ["default"],
            "parameters": {"script": SCRIPT},
        }
        config.write_text(json.dumps({"models": [clerk]}))
        homes = {name: folder / name for name in DATABASES}
        for home in homes.values():
            home.mkdir()
        subjects = asyncio.run(fill(f"sqlite:///{homes['SQLite'] / 'portico.db'}", sizes))
        asyncio.run(fill(address, sizes))
        shared = ("--database", address, "--files", str(folder / "files"))
        urls = {
            name: stack.enter_context(
                daemon(home, "--file", str(config), *(() if name == "SQLite" else shared))
            )
            for name, home in homes.items()
        }
        report = measure({name: serving.url for name, serving in urls.items()}, subjects, options, urls)
    report.show(options.json)


def measure(
    urls: dict[str, str], subjects: dict[int, Sequence[str]], options: argparse.Namespace, daemons: Any
) -> Report:
    """Return the figures of all stores: the first round is a warm-up, and each question is sent once."""
    questions = {size: _questions(names) for size, names in subjects.items()}
    figures = {(size, name): Figures() for size in subjects for name in urls}
    for number in range(options.rounds + 1):
        for size, name in figures:
            figure = figures[size, name] if number else Figures()
            measure_round(urls[name], f"files-{size}", questions[size], options, figure)
        if not number:
            for serving in daemons.values():
                settle(serving.pid)
    report = Report(
        "Databases",
        ("files", "database", "search p50 ms", "ratio", "searches/s", "share", "chat p50 ms", "of"),
    )
    for size in subjects:
        base = figures[size, "SQLite"].summary()
        for name in urls:
            summary = figures[size, name].summary()
            ratios = {
                label: summary[column] / base[column]
                for label, column in (
                    ("ratio", "search p50 ms"),
                    ("share", "searches/s"),
                    ("of", "chat p50 ms"),
                )
            }
            report.add(files=size, database=name, **summary, **ratios)
    return report


def measure_round(
    url: str, store: str, questions: Iterator[str], options: argparse.Namespace, figures: Figures
) -> None:
    """Measure one store on one database once."""
    client = Client(url)
    for _ in range(options.searches):
        figures.searches_ms.append(client.search(store, next(questions)))
    shares = [[next(questions) for _ in range(options.searches)] for _ in range(options.clients)]

    def search_all(share: Sequence[str]) -> None:
        own_client = Client(url)
        for question in share:
            own_client.search(store, question)

    with ThreadPoolExecutor(options.clients) as pool:
        begin = time.perf_counter()
        list(pool.map(search_all, shares))
        figures.per_second.append(options.clients * options.searches / (time.perf_counter() - begin))
    for _ in range(options.chats):
        figures.chats_ms.append(client.chat(store, next(questions)))


def _questions(subjects: Sequence[str]) -> Iterator[str]:
    """Yield different questions about the files of a store."""
    for turn in count(1):
        for subject in subjects:
            yield f"When did the {subject} harbour open{'?' * turn}"


async def fill(url: str, sizes: Sequence[int]) -> dict[int, Sequence[str]]:
    """Write a store of each size into a database, and return the subjects of its files."""
    from portico_server.db.database import Database

    database = Database(url)
    database.prepare()
    try:
        return {size: await fill_store(database, size) for size in sizes}
    finally:
        database.close()


async def fill_store(database: Database, size: int) -> Sequence[str]:
    """Write a store of ``size`` files, and return the subject of each. A file has a fact about its subject."""
    from sqlalchemy import Connection, insert

    from portico.wire import Place
    from portico_server.db import chunks, stores
    from portico_server.db.chunks import FileChunks, NewChunk
    from portico_server.db.names import claim_of
    from portico_server.db.schema import files, store_files
    from portico_server.db.stores import StoreRow

    store_id, name, now = f"vs_files{size}", f"files-{size}", time.time()
    chance, writer = random.Random(size), corpus.Writer()
    vocabulary = corpus.english(chance)
    subjects = [f"{vocabulary.one()}{number}" for number in range(size)]
    row = StoreRow(
        id=store_id,
        name=name,
        description="",
        owner=None,
        folder=None,
        app=True,
        embedding_model=MODEL,
        metadata={},
        expires_after_days=None,
        last_active_at=now,
        created_at=now,
        claim=claim_of(None, name),
        answers="write",
    )

    def put(connection: Connection, part: Sequence[tuple[str, str, FileChunks]]) -> None:
        for file_id, subject, pieces in part:
            about = {"purpose": "assistants", "bytes": 2_000, "sha256": "0" * 64, "created_at": now}
            connection.execute(insert(files).values(id=file_id, filename=f"{subject}.txt", **about))
            state = {"status": "completed", "attributes": {}, "chunking": {}, "created_at": now}
            connection.execute(insert(store_files).values(store_id=store_id, file_id=file_id, **state))
            chunks.put(connection, store_id, [pieces], MODEL)

    await database.write(stores.add, row)
    for first in range(0, size, 100):
        part = []
        for subject in subjects[first : first + 100]:
            file_id = f"file-{size}-{subject}"
            texts = [
                " ".join(writer.sentence(False) for _ in range(SENTENCES_PER_CHUNK))
                for _ in range(CHUNKS_PER_FILE)
            ]
            texts[0] = f"The {subject} harbour opened in 1931. It has three piers. {texts[0]}"
            pieces = [NewChunk(text, Place(start=at)) for at, text in enumerate(texts)]
            vectors = [vector.tobytes() for vector in clustered(CHUNKS_PER_FILE, chance.randrange(10**6))]
            part.append((file_id, subject, FileChunks(file_id, pieces, vectors)))
        await database.write(put, part)
    return subjects


if __name__ == "__main__":
    main()
