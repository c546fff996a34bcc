"""Two daemons on one PostgreSQL database are killed alternately, and nothing that they acknowledged is lost."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import WAIT_S, answered, call, end, start, until

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "^say ", content: "said", delay: 0.2}]}
stores:
  - {name: handbook}
  - {name: ships, folder: FOLDER}
apps:
  - {name: twice, flow: {step: {op: llm, model: echo}}}
"""

KILLS = int(os.environ.get("PORTICO_TEST_KILLS", "10"))
"""Number of times that a daemon is killed; 100 before a release."""

UNFINISHED = ("queued", "running", "waiting", "validating", "in_progress", "finalizing")

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(60 * KILLS)]

FLOW = {
    "portico_flow": 1,
    "durability": "normal",
    "step": {
        "op": "pipeline",
        "name": "p",
        "steps": [
            {"op": "llm", "name": f"s{number}", "model": "echo", "user": "say it"} for number in range(3)
        ],
    },
}


@pytest.fixture
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@dataclass(slots=True)
class Acknowledged:
    """The requests that daemons have acknowledged, by kind: the id and the request."""

    items: list[tuple[str, str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, kind: str, promised: str, asked: str) -> None:
        with self.changed:
            self.items.append((kind, promised, asked))
            self.changed.notify_all()

    def of(self, kind: str) -> list[tuple[str, str]]:
        return [(promised, asked) for known, promised, asked in self.items if known == kind]


class Work:
    """Requests of every kind; each records what the daemon has acknowledged."""

    def __init__(self, store: str, ships: Path, session: str, acknowledged: Acknowledged) -> None:
        self._store = store
        self._ships = ships
        self._session = session
        self._acknowledged = acknowledged
        self._numbers = count()
        self._uploads: list[str] = []
        self.orders: list[Callable[[Daemon], None]] = [
            self.flow,
            self.response,
            self.batch,
            self.ingest,
            self.upload,
            self.sync,
            self.say,
        ]

    def flow(self, daemon: Daemon) -> None:
        url, body = f"{daemon.url}/api/flows/run", {"flow": FLOW, "input": "x"}
        with httpx.stream("POST", url, json=body, timeout=WAIT_S) as answer:
            assert answer.is_success, answer.read()
            self._acknowledged.add("flow", answer.headers["x-portico-run"], "")

    def response(self, daemon: Daemon) -> None:
        word = f"word{next(self._numbers)}"
        body = {"model": "echo", "input": word, "background": True}
        self._acknowledged.add("response", answered(daemon, "POST", "/v1/responses", json=body)["id"], word)

    def batch(self, daemon: Daemon) -> None:
        lines = [
            {
                "custom_id": str(number),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "echo", "messages": [{"role": "user", "content": f"say {number}"}]},
            }
            for number in range(4)
        ]
        file = self._upload(daemon, "in.jsonl", "\n".join(map(json.dumps, lines)), "batch")
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        self._acknowledged.add("batch", answered(daemon, "POST", "/v1/batches", json=order)["id"], "")

    def ingest(self, daemon: Daemon) -> None:
        word = f"lighthouse{next(self._numbers)}x"
        file = self._upload(daemon, f"{word}.md", f"The {word} is old.", "user_data")
        path = f"/v1/vector_stores/{self._store}/files"
        answered(daemon, "POST", path, json={"file_id": file})
        self._acknowledged.add("ingest", file, word)

    def upload(self, daemon: Daemon) -> None:
        content = f"part{next(self._numbers)}"
        size = {"bytes": len(content), "mime_type": "text/plain", "purpose": "user_data"}
        upload = answered(daemon, "POST", "/v1/uploads", json={"filename": "a.txt", **size})["id"]
        path = f"/v1/uploads/{upload}"
        self._uploads.append(path)
        part = answered(daemon, "POST", f"{path}/parts", files={"data": content.encode()})["id"]
        done = answered(daemon, "POST", f"{path}/complete", json={"part_ids": [part]})
        self._acknowledged.add("file", done["file"]["id"], content)

    def cancel_uploads(self, daemon: Daemon) -> None:
        """Cancel the uploads that a kill has cut off, because a key can have only a few."""
        while self._uploads:
            call(daemon, "POST", f"{self._uploads.pop()}/cancel")

    def sync(self, daemon: Daemon) -> None:
        word = f"schooner{next(self._numbers)}x"
        (self._ships / f"{word}.md").write_text(f"The {word} is fast.")
        self._acknowledged.add("sync", answered(daemon, "POST", "/api/stores/ships/sync")["run"], word)

    def say(self, daemon: Daemon) -> None:
        word = f"greeting{next(self._numbers)}"
        path = f"/api/sessions/{self._session}/messages"
        answered(daemon, "POST", path, json={"messages": [{"role": "user", "content": word}]})
        self._acknowledged.add("message", self._session, word)

    def _upload(self, daemon: Daemon, name: str, content: str, purpose: str) -> str:
        given = {"files": {"file": (name, content.encode())}, "data": {"purpose": purpose}}
        file = str(answered(daemon, "POST", "/v1/files", **given)["id"])
        self._acknowledged.add("file", file, content)
        return file


def test_nothing_acknowledged_is_lost_however_often_either_daemon_is_killed(
    server: postgres.Server, tmp_path: Path
) -> None:
    database, dice = server.new(), random.Random(16)
    ships = tmp_path / "ships"
    ships.mkdir()
    configuration = CONFIGURATION.replace("FOLDER", str(ships))
    daemons = {name: start(tmp_path, name, database, configuration) for name in "ab"}
    stores = answered(daemons["a"], "GET", "/v1/vector_stores")["data"]
    store = next(found["id"] for found in stores if found["name"] == "handbook")
    session = answered(daemons["a"], "POST", "/api/sessions", json={"app": "twice", "name": "s"})["id"]
    acknowledged = Acknowledged()
    work = Work(store, ships, session, acknowledged)

    killed: set[str] = set()

    def order(one: Callable[[Daemon], None], daemon: Daemon) -> None:
        try:
            one(daemon)
        except httpx.HTTPError:
            assert daemon.url in killed, "a daemon that lives has cut a call off"

    try:
        for number in range(KILLS):
            name = "ab"[number % 2]
            orders = [(one, daemon) for one in work.orders for daemon in daemons.values()]
            dice.shuffle(orders)
            goal = len(acknowledged.items) + dice.randrange(1, len(orders))
            with ThreadPoolExecutor(len(orders)) as threads:
                ordered = [threads.submit(order, *each) for each in orders]
                with acknowledged.changed:
                    assert acknowledged.changed.wait_for(
                        lambda goal=goal: len(acknowledged.items) >= goal, WAIT_S
                    )
                killed.add(daemons[name].url)
                daemons[name].stop(signal.SIGKILL)
                for each in ordered:
                    each.result()
            end(daemons[name])
            daemons[name] = start(tmp_path, name, database, configuration)
            killed.discard(daemons[name].url)
            work.cancel_uploads(daemons[name])
        check(daemons["a"], daemons["b"], store, acknowledged)
    finally:
        end(*daemons.values())


def check(first: Daemon, second: Daemon, store: str, acknowledged: Acknowledged) -> None:
    """Check that every acknowledged request was done once and is visible at both daemons."""
    kinds = {kind for kind, _promised, _asked in acknowledged.items}
    assert kinds == {"file", "flow", "response", "batch", "ingest", "sync", "message"}
    for file, content in acknowledged.of("file"):
        for daemon in (first, second):
            assert call(daemon, "GET", f"/v1/files/{file}/content").text == content
    for run, _asked in acknowledged.of("flow"):
        found = ended(first, f"/api/runs/{run}", "completed")
        assert found["error"] is None, found
    for response, word in acknowledged.of("response"):
        found = ended(second, f"/v1/responses/{response}", "completed")
        assert word in found["output"][0]["content"][0]["text"]
    for batch, _asked in acknowledged.of("batch"):
        found = ended(first, f"/v1/batches/{batch}", "completed")
        lines = call(second, "GET", f"/v1/files/{found['output_file_id']}/content").text.splitlines()
        assert sorted(json.loads(line)["custom_id"] for line in lines) == ["0", "1", "2", "3"]
    for file, word in acknowledged.of("ingest"):
        ended(second, f"/v1/vector_stores/{store}/files/{file}", "completed")
        for daemon in (first, second):
            assert search(daemon, store, word) == [f"{word}.md"]
    for run, _word in acknowledged.of("sync"):
        # After five interruptions a run gives up, and the next sync does its work.
        found = ended(second, f"/api/runs/{run}", "completed", "failed")
        assert found["error"] is None or found["error"]["code"] == "gave_up", found
    # A sync that was under way may have looked before the file was there.
    ended(first, f"/api/runs/{answered(first, 'POST', '/api/stores/ships/sync')['run']}", "completed")
    for _run, word in acknowledged.of("sync"):
        for daemon in (first, second):
            assert search(daemon, "ships", word) == [f"{word}.md"]
    for session, word in acknowledged.of("message"):
        path = f"/api/sessions/{session}/messages?limit=1000"
        messages = [str(message["message"]["content"]) for message in answered(first, "GET", path)["data"]]
        assert messages.count(word) == 1


def search(daemon: Daemon, store: str, word: str) -> list[str]:
    """Return the names of the files whose chunks contain a word, once for each chunk."""
    found = answered(daemon, "POST", f"/v1/vector_stores/{store}/search", json={"query": word})["data"]
    return [hit["filename"] for hit in found if word in hit["content"][0]["text"]]


def ended(daemon: Daemon, path: str, *statuses: str) -> Any:
    """Return the resource at ``path`` once it has ended; it must have one of these statuses."""

    def found() -> Any:
        answer = answered(daemon, "GET", path)
        return (
            answer
            if answer["status"]
            not in ("queued", "in_progress", "running", "waiting", "validating", "finalizing")
            else None
        )

    answer = until(found, f"{path} has ended")
    assert answer["status"] in statuses, answer
    return answer
