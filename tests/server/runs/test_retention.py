"""Old runs are deleted with everything that belongs to them. A run that has not ended stays at any age."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, func, insert, select, text
from tests.daemon import Daemon

from portico import Client, InvalidRequest
from portico_server.blobs.place import FolderBlobs
from portico_server.db import responses
from portico_server.db import retention as rows
from portico_server.db import sessions as talks
from portico_server.db import steps as step_rows
from portico_server.db.database import Database
from portico_server.db.responses import ResponseRow
from portico_server.db.schema import artifacts as artifact_table
from portico_server.db.schema import (
    questions,
    run_events,
    runs,
    session_messages,
    session_states,
    step_cache,
    steps,
    usage,
)
from portico_server.db.sessions import SessionKey
from portico_server.db.usage import DAY_S
from portico_server.runs import retention as part
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore
from portico_server.runs.retention import PrunedCounts, Retention

LONG_AGO = 40 * DAY_S
_AGED = text("update sessions set updated_at = :then where name = 'old'")


@dataclass
class Files:
    """Two expired files among others."""

    left: int = 2

    async def expire(self, *, dry_run: bool = False) -> int:
        expired_count, self.left = self.left, self.left if dry_run else 0
        return expired_count


@dataclass
class RetentionFixture:
    database: Database
    artifacts: ArtifactStore

    def retention(self, runs_days: int = 30, usage_days: int = 400) -> Retention:
        return Retention(
            self.database,
            self.artifacts,
            Files(),
            Files(0),
            Files(0),
            runs_days=runs_days,
            usage_days=usage_days,
        )

    async def ids(self) -> list[str]:
        return await self.database.read(_ids)

    async def count(self, table: Any) -> int:
        return await self.database.read(lambda connection: _count(connection, table))


def _ids(connection: Connection) -> list[str]:
    return list(connection.execute(select(runs.c.id).order_by(runs.c.id)).scalars())


def _count(connection: Connection, table: Any) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def run_row(name: str, status: str, age: float = LONG_AGO) -> dict[str, Any]:
    created_at = time.time() - age
    is_ended = status in rows.ENDED_STATUSES
    return {
        "id": name,
        "kind": "ingest",
        "name": name,
        "owner": "house",
        "status": status,
        "payload": {},
        "created_at": created_at,
        "finished_at": created_at if is_ended else None,
    }


def fill(connection: Connection, given: Sequence[dict[str, Any]]) -> None:
    """Insert runs, each with an event, an answered question and an artifact."""
    connection.execute(insert(runs), given)
    connection.execute(
        insert(run_events),
        [{"run_id": row["id"], "seq": 1, "created_at": row["created_at"], "event": {}} for row in given],
    )
    connection.execute(
        insert(steps),
        [
            {
                "run_id": row["id"],
                "path": "draft",
                "seq": 1,
                "kind": "llm",
                "status": "completed",
                "started_at": row["created_at"],
                "milliseconds": 1.0,
            }
            for row in given
        ],
    )
    connection.execute(
        insert(questions),
        [
            {
                "id": f"q_{row['id']}",
                "run_id": row["id"],
                "key": "step",
                "owner": "house",
                "kind": "approval",
                "name": "tool",
                "message": "May I?",
                "arguments": {},
                "status": "answered",
                "created_at": row["created_at"],
                "answered_at": row["created_at"],
            }
            for row in given
        ],
    )
    connection.execute(
        insert(artifact_table),
        [
            {
                "id": f"art_{row['id']}",
                "run_id": row["id"],
                "name": "a",
                "media_type": "text/plain",
                "bytes": 1,
                "sha256": row["id"],
                "created_at": row["created_at"],
            }
            for row in given
        ],
    )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RetentionFixture]:
    database = Database.at(tmp_path / "portico.db")
    database.prepare()
    blobs = FolderBlobs(database, tmp_path / "artifacts", ARTIFACT_BLOBS)
    yield RetentionFixture(database, ArtifactStore(database, blobs))
    database.close()


async def test_pruning_deletes_old_runs_with_their_events_questions_and_artifacts(
    served: RetentionFixture,
) -> None:
    await served.database.write(fill, [run_row("old", "completed"), run_row("new", "failed", age=DAY_S)])
    pruned_counts = await served.retention().prune()
    assert pruned_counts == PrunedCounts(runs=1, questions=1, artifacts=1, files=2)
    assert await served.ids() == ["new"]
    for table in (run_events, steps, questions, artifact_table):
        assert await served.count(table) == 1


@pytest.mark.parametrize("status", ["queued", "running", "waiting"])
async def test_pruning_never_deletes_unfinished_runs_or_their_data(
    served: RetentionFixture, status: str
) -> None:
    await served.database.write(fill, [run_row("at work", status, age=4_000 * DAY_S)])
    assert await served.retention().prune(runs_days=0) == PrunedCounts(files=2)
    for table in (runs, run_events, steps, questions, artifact_table):
        assert await served.count(table) == 1


async def test_unused_sessions_are_pruned_only_when_the_setting_is_set(served: RetentionFixture) -> None:
    keys = [SessionKey(f"conv_{name}", "desk", "local", name, "desk", fresh=True) for name in ("old", "new")]
    for key in keys:
        messages = [("", {"sender": "user", "content": "hi"}, 1.0)]
        assert (
            await served.database.write(talks.save, key, messages, {"": {"summary": "x"}}, None, {})
            == "saved"
        )
    await served.database.write(lambda c: c.execute(_AGED, {"then": time.time() - LONG_AGO}) and None)
    assert (await served.retention().prune()).sessions == 0, "kept for ever unless the setting says otherwise"
    keeping = Retention(
        served.database,
        served.artifacts,
        Files(),
        Files(0),
        Files(0),
        runs_days=30,
        usage_days=400,
        sessions_days=30,
    )
    assert (await keeping.prune(dry_run=True)).sessions == 1
    assert (await keeping.prune()).sessions == 1
    remaining_sessions = await served.database.read(talks.newest, 10)
    assert [row.name for row in remaining_sessions.data] == ["new"]
    for table in (session_messages, session_states):
        assert await served.count(table) == 1


def response_row(name: str, previous: str | None, age: float) -> ResponseRow:
    end_time = time.time() - age
    return ResponseRow(
        id=f"resp_{name}",
        owner="local",
        run_id="",
        previous_id=previous,
        conversation_id=None,
        status="completed",
        background=False,
        input="[]",
        document='{"output": []}',
        created_at=end_time,
        finished_at=end_time,
    )


async def test_old_responses_are_pruned_unless_a_recent_response_continues_them(
    served: RetentionFixture,
) -> None:
    rows = [
        response_row("root", None, LONG_AGO),
        response_row("leaf", "resp_root", DAY_S),
        response_row("first", None, LONG_AGO),
        response_row("second", "resp_first", LONG_AGO),
    ]
    for row in rows:
        assert await served.database.write(responses.keep, row) == "kept"
    keeping = Retention(
        served.database,
        served.artifacts,
        Files(),
        Files(0),
        Files(0),
        runs_days=30,
        usage_days=400,
        responses_days=30,
    )
    assert (await keeping.prune(dry_run=True)).responses == 1
    assert (await keeping.prune()).responses == 2
    remaining_chain = await served.database.read(responses.chain, "resp_leaf", None)
    assert [row.id for row in remaining_chain or ()] == ["resp_root", "resp_leaf"]


async def test_a_dry_run_counts_what_a_real_one_removes(served: RetentionFixture) -> None:
    await served.database.write(fill, [run_row("old", "cancelled"), run_row("new", "completed", age=DAY_S)])
    retention = served.retention()
    dry_run_counts = await retention.prune(dry_run=True)
    assert await served.ids() == ["new", "old"]
    assert await retention.prune() == dry_run_counts != PrunedCounts()


async def test_many_old_runs_are_pruned_in_batches(
    served: RetentionFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "BATCH_ROWS", 7)
    await served.database.write(fill, [run_row(f"run_{n}", "completed") for n in range(20)])
    assert (await served.retention().prune()).runs == 20
    assert await served.ids() == []


async def test_a_retention_of_zero_days_prunes_nothing_without_an_explicit_age(
    served: RetentionFixture,
) -> None:
    await served.database.write(fill, [run_row("old", "completed")])
    retention = served.retention(runs_days=0, usage_days=0)
    assert await retention.prune() == PrunedCounts(files=2)
    assert (await retention.prune(runs_days=50)).runs == 0
    assert (await retention.prune(runs_days=30)).runs == 1


async def test_questions_and_artifacts_without_a_run_row_are_pruned_by_their_own_age(
    served: RetentionFixture,
) -> None:
    await served.database.write(fill, [run_row("old", "completed"), run_row("young", "completed", age=DAY_S)])
    await served.database.write(lambda connection: connection.execute(runs.delete()))
    assert await served.retention().prune() == PrunedCounts(questions=1, artifacts=1, files=2)
    assert await served.count(questions) == await served.count(artifact_table) == 1


async def test_usage_rows_are_pruned_by_their_own_retention_age(served: RetentionFixture) -> None:
    def some(connection: Connection) -> None:
        base = {"key_id": "k", "name": "m", "operation": "chat", "status": "completed", "milliseconds": 1.0}
        ages = (500, 450, 300, 0)
        connection.execute(
            insert(usage),
            [{**base, "run_id": f"r{age}", "created_at": time.time() - age * DAY_S} for age in ages],
        )

    await served.database.write(some)
    assert (await served.retention().prune()).usage == 2
    assert await served.count(usage) == 2


def test_expired_files_and_old_runs_are_pruned_on_a_running_daemon(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        uploaded_file = client.files.add(b"for a while", filename="a.txt")
        with closing(sqlite3.connect(daemon.home / "portico.db")) as connection, connection:
            connection.execute("update files set expires_at = 1 where id = ?", (uploaded_file.id,))
            connection.execute("update runs set finished_at = 1 where status = 'completed'")
        dry_run_counts = client.runs.prune(dry_run=True)
        assert dry_run_counts.dry_run and dry_run_counts.files == 1 and dry_run_counts.runs >= 1
        pruned_counts = client.runs.prune()
        assert (pruned_counts.files, pruned_counts.runs) == (dry_run_counts.files, dry_run_counts.runs)
        assert client.runs.prune(days=0, dry_run=True).files == 0
        with pytest.raises(InvalidRequest, match="days"):
            client.runs.prune(days=-1)


def test_only_an_admin_prunes(daemon: Daemon) -> None:
    with Client(daemon.url) as client:
        key = client.keys.add("reader", ["chat", "models:read"]).key
    answer = httpx.post(
        f"{daemon.url}/api/runs/prune", json={"days": 0}, headers={"Authorization": f"Bearer {key}"}
    )
    assert answer.status_code == 403 and answer.json()["error"]["code"]


async def test_expired_cached_step_outputs_are_pruned(served: RetentionFixture) -> None:
    await served.database.write(step_rows.keep, "old", "1", -1.0)
    await served.database.write(step_rows.keep, "new", "2", 60.0)
    await served.retention().prune(dry_run=True)
    assert await served.count(step_cache) == 2
    await served.retention().prune()
    assert await served.count(step_cache) == 1
    assert await served.database.read(step_rows.cached_output, "new") == "2"
