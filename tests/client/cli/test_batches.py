"""`portico batches` and `Client.batches` against a daemon with a scripted model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.client.cli.conftest import Command
from tests.daemon import Daemon

from portico import AsyncClient, Client, Conflict, DeadlineExceeded, InvalidRequest


def body(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "default", "messages": [{"role": "user", "content": text}], **more}


def write(path: Path, *bodies: dict[str, Any]) -> Path:
    lines = [
        {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": request_body}
        for number, request_body in enumerate(bodies)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_batches_create_with_wait_runs_every_request_of_the_file(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "requests.jsonl", body("潮水"), body("hot", temperature=17), body("last"))
    done = command("batches", "create", str(file), "--wait")
    assert done.code == 0, done.err
    assert "is completed, 3 of 3 done, 1 of them failed." in done.out
    batch = command("batches", "list", "--json").json["data"][0]
    details = command("batches", "show", batch["id"])
    assert "completed" in details.out and batch["output_file_id"] in details.out
    _heading, *result_rows = command("batches", "results", batch["id"]).out.splitlines()
    assert [line.split("\t")[:2] for line in result_rows] == [["n0", "200"], ["n1", "400"], ["n2", "200"]]
    assert "潮水" in result_rows[0] and "temperature" in result_rows[1]
    results = command("batches", "results", batch["id"], "--output", str(tmp_path / "out.jsonl"))
    assert "3 results" in results.out
    result_lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [line["line"] for line in result_lines] == [1, 2, 3]
    assert batch["id"] in command("batches", "list").out
    assert command("batches", "wait", batch["id"]).code == 0
    cancellation = command("batches", "cancel", batch["id"])
    assert cancellation.code == 1 and "is already completed" in cancellation.err


def test_a_dry_run_checks_the_file_and_leaves_nothing(
    command: Command, daemon: Daemon, tmp_path: Path
) -> None:
    file = write(tmp_path / "requests.jsonl", body("hello"))
    with Client(daemon.url) as client:
        files_before = client.files.list().data
        done = command("batches", "create", str(file), "--dry-run")
        assert done.code == 0 and "1 requests for 'default': no problems. No model was called" in done.out
        file.write_text("{}\nhello\n", encoding="utf-8")
        wrong = command("batches", "create", str(file), "--dry-run")
        assert wrong.code == 1
        assert "Line 1: 'custom_id' is missing" in wrong.err and "Line 2: This line is not JSON" in wrong.err
        assert client.files.list().data == files_before
        result = command("batches", "create", str(file), "--wait")
        assert result.code == 1 and "Line 2" in result.err


def test_batch_results_keep_the_request_order_and_have_default_ids(daemon: Daemon) -> None:
    statuses: list[str] = []
    with Client(daemon.url) as client:
        new_batch = client.batches.create(
            [body("one"), body("two", n=-1), body("three")], metadata={"a": "b"}
        )
        batch = client.batches.wait(new_batch.id, progress=lambda now: statuses.append(now.status))
        assert batch.ended and batch.ended_at and statuses[-1] == "completed"
        assert (batch.total, batch.completed, batch.failed, batch.metadata) == (3, 2, 1, {"a": "b"})
        first_result, two, three = client.batches.results(batch.id)
        assert [first_result.custom_id, two.custom_id, three.custom_id] == [
            "request-1",
            "request-2",
            "request-3",
        ]
        assert (first_result.ok, two.ok, two.status_code) == (True, False, 400)
        assert "'n'" in two.error
        assert three.body["choices"][0]["message"]["content"] == "three"
        with pytest.raises(Conflict):
            client.batches.cancel(batch.id)
        with pytest.raises(InvalidRequest, match="at least one request"):
            client.batches.create([])


async def test_a_batch_keeps_custom_ids_and_an_expired_wait_leaves_it_running(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        new_batch = await client.batches.create({"tide": body("high")})
        batch = await client.batches.wait(new_batch.id)
        assert [result.custom_id async for result in client.batches.results(batch.id)] == ["tide"]
        assert (await client.batches.list(limit=1)).data[0].id == batch.id
        large_batch = await client.batches.create([body("again")] * 3_000)
        with pytest.raises(DeadlineExceeded, match="it continues"):
            await client.batches.wait(large_batch.id, timeout=0)
        while (await client.batches.get(large_batch.id)).status == "validating":
            pass
        await client.batches.cancel(large_batch.id)
        cancelled_batch = await client.batches.wait(large_batch.id)
        assert cancelled_batch.status == "cancelled"
        batch_results = [result async for result in client.batches.results(large_batch.id)]
        assert [result.line for result in batch_results] == list(range(1, 3_001))
        assert batch_results[-1].error and batch_results[-1].status_code is None
