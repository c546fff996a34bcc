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
        {"custom_id": f"n{number}", "method": "POST", "url": "/v1/chat/completions", "body": one}
        for number, one in enumerate(bodies)
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_batches_create_with_wait_runs_every_request_of_the_file(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "requests.jsonl", body("潮水"), body("hot", temperature=17), body("last"))
    done = command("batches", "create", str(file), "--wait")
    assert done.code == 0, done.err
    assert "is completed, 3 of 3 done, 1 of them failed." in done.out
    batch = command("batches", "list", "--json").json["data"][0]
    shown = command("batches", "show", batch["id"])
    assert "completed" in shown.out and batch["output_file_id"] in shown.out
    _heading, *told = command("batches", "results", batch["id"]).out.splitlines()
    assert [line.split("\t")[:2] for line in told] == [["n0", "200"], ["n1", "400"], ["n2", "200"]]
    assert "潮水" in told[0] and "temperature" in told[1]
    results = command("batches", "results", batch["id"], "--output", str(tmp_path / "out.jsonl"))
    assert "3 results" in results.out
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [line["line"] for line in written] == [1, 2, 3]
    assert batch["id"] in command("batches", "list").out
    assert command("batches", "wait", batch["id"]).code == 0
    refused = command("batches", "cancel", batch["id"])
    assert refused.code == 1 and "is already completed" in refused.err


def test_a_dry_run_checks_the_file_and_leaves_nothing(
    command: Command, daemon: Daemon, tmp_path: Path
) -> None:
    file = write(tmp_path / "requests.jsonl", body("hello"))
    with Client(daemon.url) as client:
        before = client.files.list().data
        done = command("batches", "create", str(file), "--dry-run")
        assert done.code == 0 and "1 requests for 'default': no problems. No model was called" in done.out
        file.write_text("{}\nhello\n", encoding="utf-8")
        wrong = command("batches", "create", str(file), "--dry-run")
        assert wrong.code == 1
        assert "Line 1: 'custom_id' is missing" in wrong.err and "Line 2: This line is not JSON" in wrong.err
        assert client.files.list().data == before
        failed = command("batches", "create", str(file), "--wait")
        assert failed.code == 1 and "Line 2" in failed.err


def test_batch_results_keep_the_request_order_and_have_default_ids(daemon: Daemon) -> None:
    seen: list[str] = []
    with Client(daemon.url) as client:
        begun = client.batches.create([body("one"), body("two", n=-1), body("three")], metadata={"a": "b"})
        batch = client.batches.wait(begun.id, progress=lambda now: seen.append(now.status))
        assert batch.ended and batch.ended_at and seen[-1] == "completed"
        assert (batch.total, batch.completed, batch.failed, batch.metadata) == (3, 2, 1, {"a": "b"})
        one, two, three = client.batches.results(batch.id)
        assert [one.custom_id, two.custom_id, three.custom_id] == ["request-1", "request-2", "request-3"]
        assert (one.ok, two.ok, two.status_code) == (True, False, 400)
        assert "'n'" in two.error
        assert three.body["choices"][0]["message"]["content"] == "three"
        with pytest.raises(Conflict):
            client.batches.cancel(batch.id)
        with pytest.raises(InvalidRequest, match="at least one request"):
            client.batches.create([])


async def test_a_batch_keeps_custom_ids_and_an_expired_wait_leaves_it_running(daemon: Daemon) -> None:
    async with AsyncClient(daemon.url) as client:
        begun = await client.batches.create({"tide": body("high")})
        batch = await client.batches.wait(begun.id)
        assert [result.custom_id async for result in client.batches.results(batch.id)] == ["tide"]
        assert (await client.batches.list(limit=1)).data[0].id == batch.id
        many = await client.batches.create([body("again")] * 3_000)
        with pytest.raises(DeadlineExceeded, match="it continues"):
            await client.batches.wait(many.id, timeout=0)
        while (await client.batches.get(many.id)).status == "validating":
            pass
        await client.batches.cancel(many.id)
        ended = await client.batches.wait(many.id)
        assert ended.status == "cancelled"
        left = [result async for result in client.batches.results(many.id)]
        assert [result.line for result in left] == list(range(1, 3_001))
        assert left[-1].error and left[-1].status_code is None
