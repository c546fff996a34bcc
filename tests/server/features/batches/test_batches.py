"""Batches over HTTP with OpenAI's own client, on scripted models."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Batch
from tests import daemon as daemons
from tests.daemon import Daemon

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {{match: "^wait", content: "at last", delay: 600}}
        - {{match: "^twice", error: {{status: 503, message: "Not yet."}}, times: 2}}
        - match: "^busy"
          error: {{status: 429, message: "Slow down.", code: rate_limit_exceeded, retry_after: 0.1}}
          times: 1
  - {{name: vectors, source: "fake://", task: embedding, parameters: {{dimensions: 4}}}}
  - {{name: judge, source: "fake://", task: rerank}}
keys:
  - {{name: admin, key: {admin}, scopes: [admin]}}
  - {{name: chatter, key: {chatter}, scopes: [chat], limits: {{concurrency: 1}}}}
  - {{name: other, key: {other}, scopes: [chat]}}
  - {{name: tuner, key: {tuner}, scopes: [finetune]}}
"""

KEYS = {name: f"pk-{name}-0123456789abcdef" for name in ("admin", "chatter", "other", "tuner")}

CHAT: Any = "/v1/chat/completions"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "portico.yaml").write_text(CONFIGURATION.format(**KEYS))
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        yield running


def client_of(daemon: Daemon, name: str = "admin") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=KEYS[name], max_retries=0)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with client_of(daemon) as openai_client:
        yield openai_client


def line(name: str, body: dict[str, Any], url: str = CHAT, **more: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": body, **more}


def say(name: str, text: str, **more: Any) -> dict[str, Any]:
    return line(name, {"model": "echo", "messages": [{"role": "user", "content": text}], **more})


def upload(client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, purpose: Any = "batch") -> str:
    data = (
        lines if isinstance(lines, bytes) else b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    )
    return client.files.create(file=("requests.jsonl", data), purpose=purpose).id


def begin(
    client: openai.OpenAI, lines: list[dict[str, Any]] | bytes, endpoint: Any = CHAT, **more: Any
) -> Batch:
    return client.batches.create(
        input_file_id=upload(client, lines), endpoint=endpoint, completion_window="24h", **more
    )


def run_of(batch: Batch) -> str:
    return str(getattr(batch, "run_id"))  # noqa: B009  # a field of ours


def events(daemon: Daemon, batch: Batch) -> Iterator[dict[str, Any]]:
    """Yield the events of its run up to the end."""
    address = f"{daemon.url}/api/runs/{run_of(batch)}/events"
    headers = {"Authorization": f"Bearer {KEYS['admin']}"}
    with httpx.stream("GET", address, headers=headers, timeout=60) as answer:
        answer.raise_for_status()
        for text in answer.iter_lines():
            if text.startswith("data: "):
                yield json.loads(text.removeprefix("data: "))


def until_done(daemon: Daemon, batch: Batch, count: int) -> None:
    """Wait until that many of its requests are answered and written."""
    for event in events(daemon, batch):
        if (event.get("done") or 0) >= count:
            return
    raise AssertionError("the batch ended first")


ENDED = ("completed", "failed", "expired", "cancelled")


def ended(daemon: Daemon, client: openai.OpenAI, batch: Batch) -> Batch:
    """Return the batch once it has ended; its run may be restarted several times until then."""
    while True:
        for _event in events(daemon, batch):
            pass
        current = client.batches.retrieve(batch.id)
        if current.status in ENDED:
            return current


def content(client: openai.OpenAI, file_id: str | None) -> list[dict[str, Any]]:
    if file_id is None:
        return []
    return [json.loads(text) for text in client.files.content(file_id).text.splitlines()]


@pytest.mark.conformance("OpenAI", "Batches", "openai")
def test_requests_are_answered_and_stand_in_their_files_in_the_order_of_the_input(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    lines = [say(f"n{number}", f"say {number}") for number in range(40)]
    lines[7] = say("n7", "too hot", temperature=17)
    batch = begin(
        client,
        lines,
        metadata={"team": "harbour"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )
    assert (batch.status, batch.request_counts and batch.request_counts.total) == ("validating", 0)
    done = ended(daemon, client, batch)
    assert (done.status, done.model, done.metadata) == ("completed", "echo", {"team": "harbour"})
    assert done.errors is None
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 40, "completed": 39, "failed": 1}
    assert done.usage is not None
    assert (done.usage.input_tokens, done.usage.output_tokens) == (78, 78)
    assert done.in_progress_at and done.finalizing_at and done.completed_at
    assert done.expires_at == done.created_at + 86_400
    answers = content(client, done.output_file_id)
    assert [answer["custom_id"] for answer in answers] == [
        f"n{number}" for number in range(40) if number != 7
    ]
    first = answers[0]
    assert first["id"].startswith("batch_req_") and first["error"] is None
    assert first["response"]["status_code"] == 200
    assert first["response"]["request_id"].startswith("req_")
    assert first["response"]["body"]["choices"][0]["message"]["content"] == "say 0"
    (wrong,) = content(client, done.error_file_id)
    assert (wrong["custom_id"], wrong["response"]["status_code"], wrong["error"]) == ("n7", 400, None)
    assert wrong["response"]["body"]["error"]["param"] == "temperature"
    assert done.output_file_id is not None
    output = client.files.retrieve(done.output_file_id)
    assert (output.purpose, output.filename) == ("batch_output", f"{batch.id}_output.jsonl")
    assert output.expires_at == output.created_at + 3600
    steps = httpx.get(f"{daemon.url}/api/runs/{run_of(batch)}/trace", headers=_admin()).json()
    assert [step["path"] for step in steps["steps"]] == ["check", "requests", "files"]


def _admin() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS['admin']}"}


@pytest.mark.parametrize(
    ("endpoint", "body", "field"),
    [
        ("/v1/completions", {"model": "echo", "prompt": "on and on"}, "choices"),
        ("/v1/embeddings", {"model": "vectors", "input": ["a", "b"]}, "data"),
        ("/v1/responses", {"model": "default", "input": "hello"}, "output"),
        ("/v1/rerank", {"model": "judge", "query": "tide", "documents": ["the tide", "a cat"]}, "results"),
    ],
)
def test_each_endpoint_answers_in_a_batch_as_it_does_online(
    daemon: Daemon, client: openai.OpenAI, endpoint: Any, body: dict[str, Any], field: str
) -> None:
    done = ended(daemon, client, begin(client, [line("one", body, endpoint)], endpoint))
    (answer_line,) = content(client, done.output_file_id)
    answer_body = answer_line["response"]["body"]
    online = httpx.post(daemon.url + endpoint, json=body, headers=_admin()).json()
    assert answer_body.keys() == online.keys()
    assert len(answer_body[field]) == len(online[field]) > 0
    wrong = line(
        "two", {**body, "model": body["model"], field: 1, "prompt": 1, "input": {}, "query": ""}, endpoint
    )
    failed_batch = ended(daemon, client, begin(client, [wrong], endpoint))
    (error_line,) = content(client, failed_batch.error_file_id)
    assert error_line["response"]["status_code"] == 400
    assert error_line["response"]["body"]["error"]["param"]
    assert failed_batch.output_file_id is None


GOOD = say("good", "hello")


@pytest.mark.parametrize(
    ("data", "code", "number", "param"),
    [
        (b"", "empty_file", None, "input_file_id"),
        (b"\n \n", "empty_file", None, "input_file_id"),
        (b"\n{not json", "invalid_json_line", 2, None),
        (b"[1]", "invalid_json_line", 1, None),
        ([GOOD, GOOD], "duplicate_custom_id", 2, "custom_id"),
        ([{**GOOD, "custom_id": 7}], "invalid_value", 1, "custom_id"),
        ([{**GOOD, "custom_id": None}], "missing_required_parameter", 1, "custom_id"),
        ([{**GOOD, "method": "GET"}], "invalid_value", 1, "method"),
        ([{**GOOD, "url": "/v1/embeddings"}], "url_mismatch", 1, "url"),
        ([{**GOOD, "body": "hello"}], "invalid_value", 1, "body"),
        ([line("x", {"messages": []})], "missing_required_parameter", 1, "body.model"),
        ([GOOD, line("x", {"model": "default"})], "model_mismatch", 2, "body.model"),
        ([say("x", "hello", stream=True)], "unsupported_parameter", 1, "body.stream"),
        ([line("x", {"model": "nobody"})], "model_not_found", 1, "body.model"),
        ([line("x", {"model": "judge"})], "unsupported_operation", 1, "body.model"),
    ],
)
def test_an_invalid_batch_file_fails_with_line_numbers_and_without_model_calls(
    daemon: Daemon, client: openai.OpenAI, data: Any, code: str, number: int | None, param: str | None
) -> None:
    done = ended(daemon, client, begin(client, data))
    assert done.status == "failed" and done.failed_at
    assert done.errors is not None and done.errors.data is not None
    (problem,) = done.errors.data
    assert (problem.code, problem.line, problem.param) == (code, number, param)
    assert problem.message
    assert done.request_counts is not None and done.request_counts.total == 0
    assert (done.output_file_id, done.error_file_id) == (None, None)


def test_all_invalid_lines_are_reported_together_by_batch_and_check(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    lines = [GOOD, {**GOOD, "method": "GET"}, say("z", "hello", background=True)]
    done = ended(daemon, client, begin(client, lines))
    assert done.errors is not None and done.errors.data is not None
    problems = [(problem.line, problem.code) for problem in done.errors.data]
    assert problems == [(2, "duplicate_custom_id"), (3, "unsupported_parameter")]
    body = {"input_file_id": upload(client, lines), "endpoint": CHAT}
    report = httpx.post(f"{daemon.url}/api/batches/check", json=body, headers=_admin()).json()
    assert [(problem["line"], problem["code"]) for problem in report["errors"]] == problems
    body["input_file_id"] = upload(client, [GOOD])
    report = httpx.post(f"{daemon.url}/api/batches/check", json=body, headers=_admin()).json()
    assert report == {"total": 1, "model": "echo", "errors": []}


def test_a_file_above_the_openai_request_limit_is_refused(daemon: Daemon, client: openai.OpenAI) -> None:
    done = ended(daemon, client, begin(client, b"{}\n" * 50_001))
    assert done.errors is not None and done.errors.data is not None
    assert [problem.code for problem in done.errors.data] == ["too_many_tasks"]


def test_an_invalid_batch_request_is_refused_with_the_accepted_values(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    file = upload(client, [GOOD])

    def refused(status: int, param: str, words: str, **wish: Any) -> None:
        body = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h", **wish}
        with pytest.raises(openai.APIStatusError) as error_info:
            client.post("/batches", body=body, cast_to=object)
        assert error_info.value.status_code == status
        assert error_info.value.param == param
        assert words in error_info.value.message

    refused(400, "input_file_id", "purpose 'batch'", input_file_id=upload(client, [GOOD], "fine-tune"))
    refused(404, "input_file_id", "File 'file-none' not found", input_file_id="file-none")
    refused(400, "completion_window", "send '24h'", completion_window="1h")
    refused(400, "endpoint", "/v1/chat/completions", endpoint="/v1/chat/completion")
    refused(400, "endpoint", "'/v1/moderations' does not support batches", endpoint="/v1/moderations")
    refused(400, "metadata.a", "string", metadata={"a": 1})
    refused(
        400,
        "output_expires_after.seconds",
        "3600",
        output_expires_after={"anchor": "created_at", "seconds": 1},
    )
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve("batch_none")


def test_keys_see_only_their_batches_and_scopes_apply_to_each_line(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    with client_of(daemon, "chatter") as own_client, client_of(daemon, "other") as other_client:
        batch = begin(own_client, [say(f"n{number}", "hello") for number in range(3)])
        with pytest.raises(openai.NotFoundError):
            other_client.batches.retrieve(batch.id)
        with pytest.raises(openai.NotFoundError):
            other_client.batches.cancel(batch.id)
        with pytest.raises(openai.NotFoundError):
            other_client.batches.create(
                input_file_id=batch.input_file_id, endpoint=CHAT, completion_window="24h"
            )
        assert [item.id for item in other_client.batches.list()] == []
        # This key may make one call at a time, so the others wait for their turn.
        done = ended(daemon, own_client, batch)
        assert done.request_counts is not None and done.request_counts.completed == 3
        assert batch.id in [item.id for item in client.batches.list(limit=100)]
        assert [item.id for item in own_client.batches.list(limit=1)] == [batch.id]
        assert len(content(own_client, done.output_file_id)) == 3
    with client_of(daemon, "tuner") as tuner:
        done = ended(daemon, tuner, begin(tuner, [GOOD]))
        assert done.errors is not None and done.errors.data is not None
        assert [problem.code for problem in done.errors.data] == ["insufficient_scope"]


def test_failed_model_calls_of_a_batch_are_retried(daemon: Daemon, client: openai.OpenAI) -> None:
    done = ended(daemon, client, begin(client, [say("a", "twice"), say("b", "busy")]))
    assert done.request_counts is not None and done.request_counts.failed == 0
    messages = [
        line["response"]["body"]["choices"][0]["message"] for line in content(client, done.output_file_id)
    ]
    assert [message["content"] for message in messages] == ["twice", "busy"]


def test_a_cancelled_batch_releases_its_input_and_keeps_completed_results(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    batch = begin(client, [say("a", "hello"), say("b", "wait"), say("c", "hello"), say("d", "wait")])
    until_done(daemon, batch, 2)
    client.files.delete(batch.input_file_id)  # its needed content is kept until the end
    cancelled = client.batches.cancel(batch.id)
    assert cancelled.status in ("cancelling", "cancelled") and cancelled.cancelling_at
    done = ended(daemon, client, batch)
    assert done.status == "cancelled" and done.cancelled_at
    assert done.request_counts is not None
    assert done.request_counts.model_dump() == {"total": 4, "completed": 2, "failed": 0}
    assert [row["custom_id"] for row in content(client, done.output_file_id)] == ["a", "c"]
    error_lines = content(client, done.error_file_id)
    assert [(row["custom_id"], row["response"]) for row in error_lines] == [("b", None), ("d", None)]
    assert {row["error"]["code"] for row in error_lines} == {"batch_cancelled"}
    deployments = httpx.get(f"{daemon.url}/api/deployments", headers=_admin()).json()["data"]
    assert [row["calls"] for row in deployments if row["name"] == "echo"] == [0]
    with pytest.raises(openai.ConflictError, match="is already cancelled"):
        client.batches.cancel(batch.id)
    blobs = [path for path in (daemon.home / "blobs").rglob("*") if path.is_file()]
    assert not any(b'"wait"' in path.read_bytes() and b'"method"' in path.read_bytes() for path in blobs)


def forgotten(daemon: Daemon, mark: str) -> None:
    """Delete the bytes of files that contain a text from disk."""
    for path in (daemon.home / "blobs").rglob("*"):
        if path.is_file() and mark.encode() in path.read_bytes():
            path.unlink()


def test_a_batch_with_missing_input_content_fails_immediately_with_the_reason(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    file_id = upload(client, [say("a", "these bytes will go")])
    forgotten(daemon, "these bytes will go")
    batch = client.batches.create(input_file_id=file_id, endpoint=CHAT, completion_window="24h")
    done = ended(daemon, client, batch)
    assert done.status == "failed"
    assert done.errors is not None and done.errors.data is not None
    [problem] = done.errors.data
    assert (problem.code, problem.param) == ("file_content_missing", "input_file_id")
    assert "Upload it again" in (problem.message or "")


def test_a_batch_whose_input_is_lost_later_keeps_its_completed_results(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    batch = begin(client, [say("a", "hello, soon lost"), say("b", "wait")])
    until_done(daemon, batch, 1)
    forgotten(daemon, "soon lost")
    client.batches.cancel(batch.id)
    done = ended(daemon, client, batch)
    assert done.status == "cancelled"
    assert [line["custom_id"] for line in content(client, done.output_file_id)] == ["a"]


def test_a_batch_whose_input_is_missing_after_a_crash_keeps_completed_results(
    home: Path, tmp_path: Path
) -> None:
    arguments = ("--file", str(home / "portico.yaml"))
    with daemons.running(tmp_path / "data", *arguments) as first, client_of(first) as client:
        batch = begin(client, [say("a", "hello, soon lost"), say("b", "wait")])
        until_done(first, batch, 1)
        first.stop(signal.SIGKILL)
    forgotten(first, '"method"')
    with daemons.running(tmp_path / "data", *arguments) as second, client_of(second) as client:
        done = ended(second, client, batch)
        assert done.status == "failed"
        assert done.errors is not None and done.errors.data is not None
        assert done.errors.data[0].code == "file_content_missing"
        assert [line["custom_id"] for line in content(client, done.output_file_id)] == ["a"]


def test_a_batch_whose_run_is_cancelled_ends_as_cancelled_with_its_files(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    batch = begin(client, [say("a", "hello"), say("b", "wait")])
    until_done(daemon, batch, 1)
    httpx.post(f"{daemon.url}/api/runs/{run_of(batch)}/cancel", headers=_admin()).raise_for_status()
    assert client.batches.retrieve(batch.id).status in ("cancelling", "cancelled")
    done = ended(daemon, client, batch)
    assert done.status == "cancelled"
    assert [line["custom_id"] for line in content(client, done.output_file_id)] == ["a"]


def test_revoking_a_key_fails_its_batches_and_keeps_completed_results(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    key = httpx.post(
        f"{daemon.url}/api/keys", json={"name": "passing", "scopes": ["chat"]}, headers=_admin()
    ).json()
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=key["key"], max_retries=0) as passing:
        # Long requests hold three of the four slots: all others run one after another.
        blocking_batch = begin(client, [say(str(number), "wait") for number in range(3)])
        batch = begin(passing, [say(str(number), "hello") for number in range(1_000)])
        until_done(daemon, batch, 1)
    httpx.delete(f"{daemon.url}/api/keys/{key['id']}", headers=_admin()).raise_for_status()
    done = ended(daemon, client, batch)
    client.batches.cancel(blocking_batch.id)
    assert done.status == "failed"
    assert done.errors is not None and done.errors.data is not None
    assert [problem.code for problem in done.errors.data] == ["key_revoked"]
    output_lines = content(client, done.output_file_id)
    assert 0 < len(output_lines) < 1_000
    error_lines = content(client, done.error_file_id)
    assert len(error_lines) == 1_000 - len(output_lines)
    assert {line["error"]["code"] for line in error_lines} == {"batch_failed"}


def test_a_revoked_key_ends_its_batch_in_the_middle_of_a_request(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    key = httpx.post(
        f"{daemon.url}/api/keys", json={"name": "passing", "scopes": ["chat"]}, headers=_admin()
    ).json()
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=key["key"], max_retries=0) as passing:
        batch = begin(passing, [say("a", "hello"), say("b", "wait")])
        until_done(daemon, batch, 1)
    httpx.delete(f"{daemon.url}/api/keys/{key['id']}", headers=_admin()).raise_for_status()
    done = ended(daemon, client, batch)
    assert [problem.code for problem in (done.errors and done.errors.data) or ()] == ["key_revoked"]
    assert [line["custom_id"] for line in content(client, done.output_file_id)] == ["a"]


def test_pruning_runs_deletes_their_batches_but_keeps_the_result_files(
    daemon: Daemon, client: openai.OpenAI
) -> None:
    done = ended(daemon, client, begin(client, [GOOD]))
    httpx.post(f"{daemon.url}/api/runs/prune", json={"days": 0}, headers=_admin()).raise_for_status()
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve(done.id)
    assert len(content(client, done.output_file_id)) == 1


@pytest.mark.process
def test_after_a_kill_a_batch_continues_with_remaining_lines_until_it_expires(home: Path) -> None:
    arguments = (home / "second", "--file", str(home / "portico.yaml"))
    lines = [say(f"n{number}", "hello") for number in range(50)]
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        batches = [begin(client, [*lines, say("last", "wait")]) for _ in range(2)]
        for batch in batches:
            until_done(daemon, batch, 50)
        killed = time.time() * 1000
        daemon.stop(signal.SIGKILL)
    with sqlite3.connect(home / "second" / "portico.db") as database:
        database.execute("update batches set expires_at = created_at + 1 where id = ?", (batches[0].id,))
    database.close()
    with daemons.running(*arguments) as daemon, client_of(daemon) as client:
        expired = ended(daemon, client, batches[0])
        assert expired.status == "expired" and expired.expired_at
        assert len(content(client, expired.output_file_id)) == 50
        (error_line,) = content(client, expired.error_file_id)
        assert (error_line["custom_id"], error_line["error"]["code"]) == ("last", "batch_expired")
        client.batches.cancel(batches[1].id)
        output_lines = content(client, ended(daemon, client, batches[1]).output_file_id)
        assert [line["custom_id"] for line in output_lines] == [f"n{number}" for number in range(50)]
        # An id starts with the milliseconds of its creation: no completed request was repeated.
        assert max(int(line["response"]["request_id"][4:16], 16) for line in output_lines) <= killed
        runs = httpx.get(f"{daemon.url}/api/runs", params={"limit": 500}, headers=_admin()).json()["data"]
        assert {run["kind"] for run in runs} == {"batch"}  # a batch represents its requests
        files = [file.id for file in client.files.list(purpose="batch_output")]
        assert len(files) == 4
