"""Webhooks report the end of background responses, batches, evaluations, training jobs and flows, even after `kill
-9`.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.webhooks.receiver import Receiver, receiving

from portico import Client
from portico.cli.root import run as run_command
from portico.schemas.webhooks import WebhookEvent
from portico.webhooks import verify_webhook

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "^refuse", error: {status: 400, message: "No.", code: refused}}
        - {match: "^hang", content: "one two three", hang: 1}
keys:
  - {name: boss, key: pk-boss-0123456789abcdef, scopes: [admin]}
  - {name: one, key: pk-one-0123456789abcdef, scopes: [chat, finetune]}
  - {name: two, key: pk-two-0123456789abcdef, scopes: [chat]}
"""

KEY = "pk-{}-0123456789abcdef"

HOSTS = {"PORTICO_TOOL_HOSTS": "127.0.0.1"}

FLOW = {"portico_flow": 1, "name": "twice", "durability": "normal", "step": {"op": "llm", "model": "echo"}}

LINE = {
    "custom_id": "1",
    "method": "POST",
    "url": "/v1/chat/completions",
    "body": {"model": "echo", "messages": [{"role": "user", "content": "hello"}]},
}

GRADER = {
    "type": "string_check",
    "name": "same",
    "input": "{{sample.output_text}}",
    "reference": "x",
    "operation": "eq",
}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as webhook_receiver:
        yield webhook_receiver


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("events")
    (folder / "portico.yaml").write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    with daemons.running(home / "data", "--file", str(home / "portico.yaml"), env=HOSTS) as running:
        yield running


@pytest.fixture(scope="module")
def one(daemon: Daemon) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=KEY.format("one"), max_retries=0) as client:
        yield client


@pytest.fixture
def heard(daemon: Daemon, receiver: Receiver) -> Iterator[Heard]:
    """Yield a webhook of the key ``one`` for all events; the key ``two`` also has a webhook, but nothing of it ends."""
    with (
        Client(daemon.url, KEY.format("one")) as client,
        Client(daemon.url, KEY.format("two")) as second_client,
    ):
        path = f"/{uuid.uuid4().hex}"
        webhook = client.webhooks.create(receiver.url(path), client.webhooks.event_types())
        silent = second_client.webhooks.create(
            receiver.url(f"{path}-two"), second_client.webhooks.event_types()
        )
        yield Heard(receiver, path, webhook.signing_secret, client)
        assert second_client.webhooks.deliveries(silent.id).data == ()
        second_client.webhooks.remove(silent.id)
        client.webhooks.remove(webhook.id)


class Heard:
    """The messages of the webhook, checked by OpenAI's client and by ours."""

    def __init__(self, receiver: Receiver, path: str, secret: str, client: Client) -> None:
        self._receiver = receiver
        self.path = path
        self._secret = secret
        self.client = client

    def next(self) -> tuple[str, str]:
        """Return the type of the next event and the id of its subject."""
        message = self._receiver.take(self.path)
        event: WebhookEvent = verify_webhook(message.body, message.headers, self._secret)
        with openai.OpenAI(api_key="unused", webhook_secret=self._secret) as client:
            official = client.webhooks.unwrap(message.body, message.headers)
        assert (official.id, official.type, official.created_at) == (event.id, event.type, event.created_at)
        assert json.loads(message.body)["object"] == "event"
        return event.type, event.data["id"]


def test_a_response_in_the_background_is_announced(one: openai.OpenAI, heard: Heard) -> None:
    done = one.responses.create(model="echo", input="hello", background=True)
    assert heard.next() == ("response.completed", done.id)
    assert one.responses.retrieve(done.id).status == "completed"
    short = one.responses.create(model="echo", input="a b c d", background=True, max_output_tokens=1)
    assert heard.next() == ("response.incomplete", short.id)
    failed_response = one.responses.create(model="echo", input="refuse", background=True)
    assert heard.next() == ("response.failed", failed_response.id)
    cut = one.responses.create(model="echo", input="hang", background=True)
    one.responses.cancel(cut.id)
    assert heard.next() == ("response.cancelled", cut.id)
    one.responses.create(model="echo", input="hello")
    last = one.responses.create(model="echo", input="bye", background=True)
    assert heard.next() == ("response.completed", last.id), "one in the foreground has no event"


def test_a_batch_is_announced(one: openai.OpenAI, heard: Heard) -> None:
    for content, end in ((json.dumps(LINE).encode(), "batch.completed"), (b"nothing", "batch.failed")):
        file = one.files.create(file=("lines.jsonl", content), purpose="batch")
        batch = one.batches.create(
            input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
        )
        assert heard.next() == (end, batch.id)
        assert one.batches.retrieve(batch.id).status == end.removeprefix("batch.")


def test_the_run_of_an_evaluation_is_announced(one: openai.OpenAI, heard: Heard) -> None:
    evaluation = one.evals.create(
        data_source_config={"type": "custom", "item_schema": {"type": "object"}},
        testing_criteria=[GRADER],  # type: ignore[list-item]
    )
    source: Any = {
        "type": "completions",
        "model": "echo",
        "source": {"type": "file_content", "content": [{"item": {"q": "hello"}}]},
        "input_messages": {"type": "template", "template": [{"role": "user", "content": "{{item.q}}"}]},
    }
    run = one.evals.runs.create(evaluation.id, data_source=source)
    assert heard.next() == ("eval.run.succeeded", run.id)
    source["source"]["content"] = [{"item": {"q": "hang"}}]
    run = one.evals.runs.create(evaluation.id, data_source=source)
    one.evals.runs.cancel(run.id, eval_id=evaluation.id)
    assert heard.next() == ("eval.run.canceled", run.id)


def test_a_fine_tuning_job_is_announced(one: openai.OpenAI, heard: Heard) -> None:
    line = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'
    file = one.files.create(file=("examples.jsonl", (line * 12).encode()), purpose="fine-tune")
    job = one.fine_tuning.jobs.create(model="echo", training_file=file.id)
    assert heard.next() == ("fine_tuning.job.succeeded", job.id)
    training_file = one.files.create(file=("broken.jsonl", b'{"messages": 3}\n' * 12), purpose="fine-tune")
    job = one.fine_tuning.jobs.create(model="echo", training_file=training_file.id)
    assert heard.next() == ("fine_tuning.job.failed", job.id)


def started(daemon: Daemon, words: str) -> str:
    """Start a durable run of the key ``one``; return its id."""
    headers = {"authorization": f"Bearer {KEY.format('one')}"}
    body = {"flow": FLOW, "input": words}
    with httpx.stream("POST", f"{daemon.url}/api/flows/run", json=body, headers=headers) as answer:
        answer.raise_for_status()
        return answer.headers["x-portico-run"]


def test_a_durable_run_is_announced(daemon: Daemon, heard: Heard) -> None:
    for words, end in (("hello", "run.finished"), ("refuse", "run.failed")):
        run = started(daemon, words)
        assert heard.next() == (end, run)
    run = started(daemon, "hang")
    heard.client.runs.cancel(run)
    assert heard.next() == ("run.cancelled", run)


def test_the_command_line_tries_a_webhook_and_sends_an_event_again(
    daemon: Daemon,
    one: openai.OpenAI,
    heard: Heard,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PORTICO_URL", daemon.url)
    monkeypatch.setenv("PORTICO_API_KEY", KEY.format("one"))
    hook = heard.client.webhooks.list().data[0].id

    def command(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = run_command(["webhooks", *arguments])
        return code, capsys.readouterr().out

    assert command("test", hook) == (0, "The receiver responded with HTTP 200.\n")
    assert heard.next()[0] == "response.completed"
    receiver.answers[heard.path] = [500, 500]
    code, out = command("test", hook, "--event", "batch.failed", "--json")
    assert (code, json.loads(out)["status_code"]) == (1, 500)
    heard.next()
    response = one.responses.create(model="echo", input="hello", background=True)
    assert heard.next() == ("response.completed", response.id)
    [event] = json.loads(command("deliveries", hook, "--json")[1])["data"]
    assert event["payload"]["data"] == {"id": response.id}
    code, out = command("redeliver", hook, event["id"])
    assert (code, out.split()[:3]) == (0, [event["id"], "is", "pending:"])
    assert heard.next() == ("response.completed", response.id)
    assert event["id"] in command("deliveries", hook)[1]


@pytest.mark.process
def test_an_event_is_delivered_after_a_kill_before_its_delivery(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "portico.yaml").write_text(CONFIGURATION)
    arguments = ("--file", str(tmp_path / "portico.yaml"))
    path = "/hang-killed"
    first = daemons.start(tmp_path / "data", *arguments, env=HOSTS)
    try:
        with Client(first.url, KEY.format("one")) as client:
            hook = client.webhooks.create(receiver.url(path), ["response.completed"])
        with openai.OpenAI(base_url=f"{first.url}/v1", api_key=KEY.format("one")) as openai_client:
            response = openai_client.responses.create(model="echo", input="hello", background=True)
        cut_off = receiver.take(path)
    finally:
        first.stop(signal.SIGKILL)
        first.close()
    with closing(sqlite3.connect(first.home / "portico.db")) as database:
        [(state,)] = database.execute("select state from webhook_deliveries").fetchall()
        assert state == "pending"
    receiver.release.set()
    with daemons.running(tmp_path / "data", *arguments, env=HOSTS):
        again = receiver.take(path)
    assert (again.id, again.body) == (cut_off.id, cut_off.body)
    event = verify_webhook(again.body, again.headers, hook.signing_secret)
    assert (event.type, event.data["id"]) == ("response.completed", response.id)
