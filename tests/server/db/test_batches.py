"""Batches in the database: whichever way a batch ends, a run writes its finished lines to files."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.db import batches as rows
from portico_server.db import runs
from portico_server.db.batches import BatchRow, LineRow, SpentTokens
from portico_server.db.database import Database
from portico_server.db.runs import NewRun, RunStatus


@pytest.mark.parametrize(
    ("status", "end", "errors"),
    [
        pytest.param("cancelling", "cancelled", [], id="cancelled"),
        pytest.param("finalizing", "failed", [{"code": "gave_up", "message": "Gave up."}], id="failed"),
    ],
)
async def test_two_readers_of_an_ended_run_requeue_it_and_keep_the_batch_status(
    database: Database, status: str, end: RunStatus, errors: list[dict[str, Any]]
) -> None:
    batch = BatchRow("batch_1", "key_one", "run_1", status, "/v1/embeddings", "file_1", "00", {}, 1.0, 2.0)
    await database.write(rows.create, batch, NewRun("run_1", "batch", "batch_1", "key_one", {}))
    await database.write(runs.finish, "run_1", end, None, {"code": "ended"})
    for _reader in range(2):
        await database.write(rows.requeue_run, batch, errors)
    run = await database.read(runs.get, "run_1")
    assert run is not None and run.status == "queued"
    assert await database.read(rows.status, "batch_1") == status, "the answers are not in files yet"


@pytest.mark.slow
async def test_a_cancelled_batch_with_answers_stays_cancelling_until_they_are_filed(
    database: Database,
) -> None:
    batch = BatchRow(
        "batch_1", "key_one", "run_1", "in_progress", "/v1/embeddings", "file_1", "00", {}, 1.0, 2.0
    )
    await database.write(rows.create, batch, NewRun("run_1", "batch", "batch_1", "key_one", {}))
    await database.write(runs.claim, ["batch"], "daemon", 30.0)
    line = LineRow(1, failed=False, data=b"{}\n")
    await database.write(rows.keep, "batch_1", [line], SpentTokens(), "run_1", "daemon")
    await database.write(runs.requeue, "run_1", "daemon")
    assert await database.write(rows.cancel, batch)
    run = await database.read(runs.get, "run_1")
    assert run is not None and run.status == "queued"
    assert await database.read(rows.status, "batch_1") == "cancelling", "the answers are not in files yet"
