"""Two daemons on one PostgreSQL database are killed at random, and nothing that they acknowledged is lost."""

from __future__ import annotations

import json
import random
import signal
import threading
from collections import Counter
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
from tests.kills import count_kills
from tests.server.daemons import WAIT_S, answered, call, end, start, until

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters: {script: [{match: "^say ", content: "said", delay: 0.2}]}
stores:
  - {name: handbook}
"""

AGENT = {"name": "desk", "kind": "agent", "spec": {"portico_agent": 1, "model": "echo"}}

KILLS = count_kills(3)
UNFINISHED = ("queued", "running", "waiting", "validating", "in_progress", "finalizing")

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(300 + 60 * KILLS)]

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
        return [(promised, request) for item_kind, promised, request in self.items if item_kind == kind]


class Work:
    """Requests of every kind; each records what the daemon has acknowledged."""

    def __init__(self, store: str, folder: Path, acknowledged: Acknowledged) -> None:
        self._store = store
        self._folder = folder
        self._acknowledged = acknowledged
        self._numbers = count()
        self._uploads: list[str] = []
        self.orders: list[Callable[[Daemon], None]] = [
            self.flow,
            self.response,
            self.batch,
            self.ingest,
            self.sync,
            self.turn,
            self.upload,
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
        file = self._send_file(daemon, "in.jsonl", "\n".join(map(json.dumps, lines)), "batch")
        order = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        self._acknowledged.add("batch", answered(daemon, "POST", "/v1/batches", json=order)["id"], "")

    def ingest(self, daemon: Daemon) -> None:
        word = f"lighthouse{next(self._numbers)}"
        file = self._send_file(daemon, f"{word}.md", f"The {word} is old.", "user_data")
        path = f"/v1/vector_stores/{self._store}/files"
        answered(daemon, "POST", path, json={"file_id": file})
        self._acknowledged.add("ingest", file, word)

    def sync(self, daemon: Daemon) -> None:
        name = f"lantern{next(self._numbers)}.md"
        (self._folder / name).write_text(f"{name} is bright.")
        self._acknowledged.add("sync", answered(daemon, "POST", "/api/stores/shelf/sync")["run"], name)

    def turn(self, daemon: Daemon) -> None:
        text = f"turn{next(self._numbers)}"
        body = {"model": "desk", "messages": [{"role": "user", "content": text}], "conversation": text}
        answered(daemon, "POST", "/v1/chat/completions", json=body)
        self._acknowledged.add("turn", text, text)

    def upload(self, daemon: Daemon) -> None:
        pieces = [f"part{next(self._numbers)};" for _ in range(2)]
        content = "".join(pieces)
        upload_body = {
            "filename": "whole.txt",
            "purpose": "user_data",
            "mime_type": "text/plain",
            "bytes": len(content),
        }
        path = f"/v1/uploads/{answered(daemon, 'POST', '/v1/uploads', json=upload_body)['id']}"
        self._uploads.append(path)
        parts = [
            answered(daemon, "POST", f"{path}/parts", files={"data": ("part", piece.encode())})["id"]
            for piece in pieces
        ]
        completed = answered(daemon, "POST", f"{path}/complete", json={"part_ids": parts})
        self._acknowledged.add("file", completed["file"]["id"], content)

    def cancel_uploads(self, daemon: Daemon) -> None:
        """Cancel the uploads that a kill has cut off, because a key can have only a few."""
        while self._uploads:
            call(daemon, "POST", f"{self._uploads.pop()}/cancel")

    def _send_file(self, daemon: Daemon, name: str, content: str, purpose: str) -> str:
        form = {"files": {"file": (name, content.encode())}, "data": {"purpose": purpose}}
        file = str(answered(daemon, "POST", "/v1/files", **form)["id"])
        self._acknowledged.add("file", file, content)
        return file


def test_nothing_acknowledged_is_lost_however_often_either_daemon_is_killed(
    server: postgres.Server, tmp_path: Path
) -> None:
    database, dice = server.new(), random.Random(16)
    daemons = {name: start(tmp_path, name, database, CONFIGURATION) for name in "ab"}
    stores = answered(daemons["a"], "GET", "/v1/vector_stores")["data"]
    store = next(store_entry["id"] for store_entry in stores if store_entry["name"] == "handbook")
    folder = tmp_path / "shelf"
    folder.mkdir()
    answered(daemons["a"], "POST", "/api/stores", json={"name": "shelf", "folder": str(folder)})
    answered(daemons["a"], "POST", "/api/apps", json=AGENT)
    until(
        lambda: (
            call(daemons["b"], "GET", "/api/apps/desk").is_success
            and call(daemons["b"], "GET", "/api/stores/shelf").is_success
        ),
        "the other daemon knows the agent and the store",
    )
    acknowledged = Acknowledged()
    work = Work(store, folder, acknowledged)

    killed: set[str] = set()

    def order(one: Callable[[Daemon], None], daemon: Daemon) -> None:
        try:
            one(daemon)
        except httpx.HTTPError:
            assert daemon.url in killed, "a daemon that lives has cut a call off"

    try:
        for _ in range(KILLS):
            name = dice.choice("ab")
            orders = [(one, daemon) for one in work.orders for daemon in daemons.values()]
            dice.shuffle(orders)
            goal = len(acknowledged.items) + dice.randrange(1, len(orders))
            with ThreadPoolExecutor(len(orders)) as threads:
                ordered = [threads.submit(order, *submission) for submission in orders]
                with acknowledged.changed:
                    assert acknowledged.changed.wait_for(
                        lambda goal=goal: len(acknowledged.items) >= goal, WAIT_S
                    )
                killed.add(daemons[name].url)
                daemons[name].stop(signal.SIGKILL)
                for submission in ordered:
                    submission.result()
            end(daemons[name])
            daemons[name] = start(tmp_path, name, database, CONFIGURATION)
            killed.discard(daemons[name].url)
            work.cancel_uploads(daemons[name])
        check(daemons["a"], daemons["b"], store, acknowledged)
    finally:
        end(*daemons.values())


def check(first: Daemon, second: Daemon, store: str, acknowledged: Acknowledged) -> None:
    """Check that every acknowledged request was done once and is visible at both daemons."""
    kinds = {kind for kind, _promised, _asked in acknowledged.items}
    assert kinds == {"file", "flow", "response", "batch", "ingest", "sync", "turn"}
    for file, content in acknowledged.of("file"):
        for daemon in (first, second):
            assert call(daemon, "GET", f"/v1/files/{file}/content").text == content
    for run, _asked in acknowledged.of("flow"):
        result = ended(first, f"/api/runs/{run}", "completed")
        assert result["error"] is None, result
        # Only what a step does outside is recorded before its end is announced: the calls of the model.
        ends = Counter(event["path"] for event in events(second, run) if event["type"] == "step_finished")
        assert not [path for path, times in ends.items() if path.startswith("p.s") and times > 1], ends
    for response, word in acknowledged.of("response"):
        result = ended(second, f"/v1/responses/{response}", "completed")
        assert word in result["output"][0]["content"][0]["text"]
    for batch, _asked in acknowledged.of("batch"):
        result = ended(first, f"/v1/batches/{batch}", "completed")
        lines = call(second, "GET", f"/v1/files/{result['output_file_id']}/content").text.splitlines()
        assert sorted(json.loads(line)["custom_id"] for line in lines) == ["0", "1", "2", "3"]
    for file, word in acknowledged.of("ingest"):
        ended(second, f"/v1/vector_stores/{store}/files/{file}", "completed")
        for daemon in (first, second):
            result = answered(daemon, "POST", f"/v1/vector_stores/{store}/search", json={"query": word})[
                "data"
            ]
            assert [hit["file_id"] for hit in result].count(file) == 1
    for run, _name in acknowledged.of("sync"):
        # After five interruptions a run gives up, and the next sync does its work.
        result = ended(second, f"/api/runs/{run}", "completed", "failed")
        assert result["error"] is None or result["error"]["code"] == "gave_up", result
    # A sync that was under way may have looked before the file was there.
    ended(first, f"/api/runs/{answered(first, 'POST', '/api/stores/shelf/sync')['run']}", "completed")
    listed_files = answered(second, "GET", "/api/stores/shelf/files?limit=1000")["data"]
    files = Counter(row["filename"] for row in listed_files)
    assert set(files.values()) == {1}, files
    assert {name for _run, name in acknowledged.of("sync")} <= set(files)
    memories = Counter(
        (message["sender"], message["content"])
        for session in answered(first, "GET", "/api/sessions?limit=1000")["data"]
        for message in answered(second, "GET", f"/api/sessions/{session['id']}/state")["memory"]
    )
    assert set(memories.values()) == {1}, memories
    for text, _asked in acknowledged.of("turn"):
        assert {("user", text), ("desk", text)} <= set(memories)
    until(lambda: not unfinished(second), "no run is stuck")


def unfinished(daemon: Daemon) -> list[str]:
    """Return the ids of all runs that have not ended, acknowledged or not."""
    runs: list[dict[str, Any]] = []
    path, has_more = "/api/runs?limit=500", True
    while has_more:
        page = answered(daemon, "GET", path + (f"&after={runs[-1]['id']}" if runs else ""))
        runs += page["data"]
        has_more = page["has_more"]
    return [run["id"] for run in runs if run["status"] in UNFINISHED]


def events(daemon: Daemon, run: str) -> list[dict[str, Any]]:
    """Return all events of a run that has ended."""
    lines = call(daemon, "GET", f"/api/runs/{run}/events").text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


def ended(daemon: Daemon, path: str, *statuses: str) -> Any:
    """Return the resource at ``path`` once it has ended; it must have one of these statuses."""

    def found() -> Any:
        answer = answered(daemon, "GET", path)
        return answer if answer["status"] not in UNFINISHED else None

    answer = until(found, f"{path} has ended")
    assert answer["status"] in statuses, answer
    return answer
