"""Several daemons, each with its own home folder, act as one on one PostgreSQL database."""

from __future__ import annotations

import json
import secrets
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import postgres
from tests.daemon import Daemon
from tests.server.daemons import WAIT_S, answered, call, end, start, until

from portico import Client

CONFIGURATION = """
models:
  - name: echo
    source: "fake://"
    aliases: [default]
    parameters:
      script:
        - {match: "^slow", content: "one two three", delay: 4}
        - {match: "^endless", content: "a b c d e f g h i j k l m n o p q r s t u v w x y z", interval: 20}
  - name: noter
    source: "fake://"
    parameters:
      script:
        - match: "Message:"
          content: '{"value": [{"fact": "The user lives in Oslo.", "quote": "I live in Oslo", "replaces": null}]}'
        - {match: "^What do you know", system: Oslo, content: "You live in Oslo."}
        - {match: "", content: "Noted."}
stores:
  - {name: handbook}
  - {name: facts, embedding_model: ""}
agents:
  - {name: guide, portico_agent: 1, model: noter, memory: {long_term: {store: facts}}}
prompts:
  - {name: greet, messages: [{role: user, content: "Greet me."}]}
apps:
  - {name: twice, flow: {step: {op: llm, model: echo}}}
"""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as running:
        yield running


@dataclass(frozen=True, slots=True)
class Pair:
    """Two daemons on one database that share a folder of files."""

    a: Daemon
    b: Daemon
    database: str

    @property
    def both(self) -> tuple[Daemon, Daemon]:
        return self.a, self.b


@pytest.fixture(scope="module")
def pair(server: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Yield two daemons that were started at the same time on an empty database."""
    folder, database = tmp_path_factory.mktemp("pair"), server.new()
    with ThreadPoolExecutor(2) as threads:
        starting = [threads.submit(start, folder, name, database, CONFIGURATION) for name in "ab"]
        first, second = (future.result() for future in starting)
    yield Pair(first, second, database)
    end(first, second)


def said(daemon: Daemon, model: str, text: str, **more: Any) -> str | None:
    """Return the answer of a model or app, or ``None`` if the name does not exist or is being replaced."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    answer = call(daemon, "POST", "/v1/chat/completions", json=body)
    if answer.status_code in (404, 503):
        return None
    assert answer.status_code == 200, answer.text
    return str(answer.json()["choices"][0]["message"]["content"])


def speaks(word: str) -> dict[str, Any]:
    return {"script": [{"content": word}]}


def flow(word: str) -> dict[str, Any]:
    return {"portico_flow": 1, "step": {"op": "llm", "model": "echo", "user": word}}


def test_two_daemons_started_together_on_an_empty_database_both_serve(pair: Pair) -> None:
    for daemon in pair.both:
        with Client(daemon.url) as client:
            assert "hello" in "".join(client.chat("hello"))
            assert {"handbook", "twice"} <= {app.name for app in client.apps.list()}


def test_a_key_is_valid_at_both_daemons_and_revoking_it_ends_its_streams(pair: Pair) -> None:
    api_key = answered(pair.a, "POST", "/api/keys", json={"name": "test", "scopes": ["chat", "models:read"]})
    secret = api_key["key"]
    until(lambda: call(pair.b, "GET", "/v1/models", secret).status_code == 200, "the key is known at B")
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "endless"}]}
    headers = {"Authorization": f"Bearer {secret}"}
    url = f"{pair.b.url}/v1/chat/completions"
    at = f"/api/keys/{api_key['id']}"

    def ends(method: str, **given: Any) -> None:
        with httpx.stream("POST", url, json=body, headers=headers, timeout=WAIT_S) as stream:
            frames = stream.iter_lines()
            assert next(frames).startswith("data:")
            assert call(pair.a, method, at, **given).status_code == 200
            assert any("key_revoked" in frame for frame in frames)

    ends("PATCH", json={"scopes": ["models:read"]})
    assert call(pair.b, "POST", "/v1/chat/completions", secret, json=body).status_code == 403
    answered(pair.a, "PATCH", at, json={"scopes": ["chat", "models:read"]})
    short = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    until(lambda: call(pair.b, "POST", "/v1/chat/completions", secret, json=short).is_success, "it may chat")
    answered(pair.a, "PATCH", at, json={"limits": {"requests_per_minute": 1}})
    ask = ("POST", "/v1/chat/completions", secret)
    until(lambda: call(pair.b, *ask, json=short).status_code == 429, "it is held to the limit at B")
    answered(pair.a, "PATCH", at, json={"limits": {}})
    until(lambda: call(pair.b, *ask, json=short).is_success, "it is held to it no more")
    ends("DELETE")
    assert call(pair.a, "GET", "/v1/models", secret).status_code == 401
    assert call(pair.b, "GET", "/v1/models", secret).status_code == 401


@pytest.mark.parametrize(
    ("text", "limits"), [("hello", {"requests_per_minute": 10}), ("slow", {"concurrency": 10})]
)
def test_a_limit_holds_over_both_daemons(pair: Pair, text: str, limits: dict[str, int]) -> None:
    key_body = {"name": "limited", "scopes": ["chat"], "limits": limits}
    secret = answered(pair.a, "POST", "/api/keys", json=key_body)["key"]
    until(lambda: call(pair.b, "GET", "/v1/models", secret).status_code == 200, "the key is known at B")
    body = {"model": "echo", "messages": [{"role": "user", "content": text}]}
    with ThreadPoolExecutor(20) as threads:
        calls = [
            threads.submit(call, pair.both[number % 2], "POST", "/v1/chat/completions", secret, json=body)
            for number in range(40)
        ]
        statuses = [future.result().status_code for future in calls]
    assert set(statuses) == {200, 429} and statuses.count(200) in (10, 11)


def test_a_daemon_that_is_killed_frees_the_calls_in_progress_of_a_key(pair: Pair, tmp_path: Path) -> None:
    key_body = {"name": "limited", "scopes": ["chat"], "limits": {"concurrency": 1}}
    secret = answered(pair.a, "POST", "/api/keys", json=key_body)["key"]
    body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "endless"}]}
    short = {"model": "echo", "messages": [{"role": "user", "content": "hello"}]}
    third = start(tmp_path, "third", pair.database, CONFIGURATION)
    try:
        headers = {"Authorization": f"Bearer {secret}"}
        url = f"{third.url}/v1/chat/completions"
        with httpx.stream("POST", url, json=body, headers=headers, timeout=WAIT_S) as stream:
            frames = stream.iter_lines()  # a dropped iterator closes the stream
            assert next(frames).startswith("data:")
            assert call(pair.a, "POST", "/v1/chat/completions", secret, json=short).status_code == 429
            third.stop(signal.SIGKILL)
    finally:
        end(third)
    until(
        lambda: call(pair.a, "POST", "/v1/chat/completions", secret, json=short).is_success,
        "the call of the killed daemon no longer counts",
    )


def test_models_aliases_apps_and_tools_changed_at_one_are_those_of_the_other(pair: Pair) -> None:
    model = {"name": "clerk", "source": "fake://", "parameters": speaks("first")}
    answered(pair.a, "POST", "/api/deployments", json=model)
    until(lambda: said(pair.b, "clerk", "x") == "first", "the model is at B")
    answered(pair.a, "POST", "/api/deployments", json={"name": "porter", "source": "fake://"})
    until(lambda: said(pair.b, "porter", "x") is not None, "another model is at B")
    deployments = answered(pair.b, "GET", "/api/deployments")["data"]
    assert [model["starts"] for model in deployments if model["name"] == "clerk"] == [
        1
    ]  # the model was not restarted
    answered(pair.b, "PUT", "/api/aliases/desk", json={"target": "clerk"})
    until(lambda: said(pair.a, "desk", "x") == "first", "the alias is at A")
    assert call(pair.b, "DELETE", "/api/deployments/clerk").is_success
    answered(pair.b, "POST", "/api/deployments", json={**model, "parameters": speaks("second")})
    until(lambda: said(pair.a, "clerk", "x") == "second", "the other model is at A")
    for version in ("v1", "v2", "v3"):
        app_body = {"name": "story", "kind": "flow", "spec": flow(version)}
        answered(pair.a, "POST", "/api/apps", json=app_body)
        until(lambda version=version: said(pair.b, "story", "x") == version, f"B answers with {version}")
    answered(pair.b, "POST", "/api/apps", json={"name": "story", "kind": "flow", "spec": flow("v4")})
    until(lambda: said(pair.a, "story", "x") == "v4", "A answers with v4")
    assert call(pair.b, "DELETE", "/api/apps/story").is_success
    until(lambda: said(pair.a, "story", "x") is None, "the app is gone at A")
    answered(pair.a, "POST", "/api/tool-sources", json={"name": "say", "command": ["echo", "{word}"]})
    arguments = {"json": {"arguments": {"word": "hello"}}}
    until(
        lambda: call(pair.b, "POST", "/api/tools/say/call", **arguments).status_code == 200,
        "the tool is at B",
    )
    assert call(pair.b, "DELETE", "/api/tool-sources/say").is_success
    until(lambda: call(pair.a, "GET", "/api/tools/say").status_code == 404, "the tool is gone at A")
    prompt = {"name": "greet", "messages": [{"role": "user", "content": "Greet them."}]}
    answered(pair.a, "POST", "/api/prompts", json=prompt)
    assert "Greet them." in call(pair.b, "GET", "/api/prompts/greet").text


def test_files_and_store_contents_are_available_at_the_other_daemon(pair: Pair) -> None:
    upload = {
        "files": {"file": ("port.md", b"The lighthouse listens on port 7419.")},
        "data": {"purpose": "user_data"},
    }
    file = answered(pair.a, "POST", "/v1/files", **upload)
    assert call(pair.b, "GET", f"/v1/files/{file['id']}/content").content == upload["files"]["file"][1]
    stores = {store["name"]: store["id"] for store in answered(pair.a, "GET", "/v1/vector_stores")["data"]}
    path = f"/v1/vector_stores/{stores['handbook']}"
    answered(pair.a, "POST", f"{path}/files", json={"file_id": file["id"]})
    until(
        lambda: answered(pair.b, "GET", f"{path}/files/{file['id']}")["status"] == "completed", "it is read"
    )
    results = answered(pair.b, "POST", f"{path}/search", json={"query": "lighthouse port"})["data"]
    assert "7419" in results[0]["content"][0]["text"]


def test_a_right_withdrawn_by_a_source_ends_at_the_other_daemon(pair: Pair, tmp_path: Path) -> None:
    folder, file = tmp_path / "shared", tmp_path / "shared" / "rent.md"
    folder.mkdir()
    file.write_text("The rent is 840 euros.")
    folder.chmod(0o755)
    file.chmod(0o644)
    answered(
        pair.a, "POST", "/api/stores", json={"name": "shared", "folder": str(folder), "rights": "source"}
    )
    reader = {"name": "reader", "scopes": ["stores:shared:read"], "groups": ["nobody-else"]}
    secret = answered(pair.a, "POST", "/api/keys", json=reader)["key"]

    def sync() -> None:
        run = answered(pair.a, "POST", "/api/stores/shared/sync")["run"]
        call(pair.a, "GET", f"/api/runs/{run}/events")

    def files_there() -> set[str]:
        """Return the names in a search and a list at the other daemon."""
        search = call(pair.b, "POST", "/v1/vector_stores/shared/search", secret, json={"query": "rent"})
        files = call(pair.b, "GET", "/api/stores/shared/files", secret)
        return {row["filename"] for answer in (search, files) for row in answer.json()["data"]}

    sync()
    until(lambda: call(pair.b, "GET", "/api/stores", secret).is_success, "the other daemon knows the key")
    assert files_there() == {"rent.md"}
    file.chmod(0o600)
    sync()
    assert files_there() == set()


def test_concurrent_calls_of_a_session_at_both_daemons_are_all_stored(pair: Pair) -> None:
    agent = {"portico_agent": 1, "model": "echo"}
    answered(pair.a, "POST", "/api/apps", json={"name": "keeper", "kind": "agent", "spec": agent})
    until(lambda: said(pair.b, "keeper", "x") is not None, "the agent is at B")
    words = [f"word{number}" for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        calls = [
            threads.submit(said, pair.both[number % 2], "keeper", word, conversation="monday")
            for number, word in enumerate(words)
        ]
        assert all(call.result() for call in calls)
    (session,) = answered(pair.a, "GET", "/api/sessions?app=keeper&name=monday")["data"]
    messages = answered(pair.b, "GET", f"/api/sessions/{session['id']}/messages")["data"]
    assert sorted(m["message"]["content"] for m in messages if m["message"]["sender"] == "user") == words


def test_each_daemon_shows_the_other_and_its_models(pair: Pair) -> None:
    answered(pair.a, "POST", "/api/deployments/echo/load")

    def seen(daemon: Daemon) -> dict[str, Any]:
        cluster = answered(daemon, "GET", "/api/cluster")
        own_daemon, *other_daemons = cluster["daemons"]
        assert own_daemon["here"] and own_daemon["url"] == daemon.url
        urls_by_id = {entry["id"]: entry["url"] for entry in other_daemons}
        jobs = [
            urls_by_id[job["daemon"]]
            for job in cluster["jobs"]
            if job["name"] == "echo" and job["daemon"] in urls_by_id
        ]
        return {"daemons": list(urls_by_id.values()), "jobs": jobs}

    until(lambda: pair.b.url in seen(pair.a)["daemons"], "the first sees the second")
    until(lambda: pair.a.url in seen(pair.b)["jobs"], "the second sees the first and its model")


def test_a_run_that_is_cancelled_at_the_other_makes_no_further_call(pair: Pair) -> None:
    steps = [{"op": "llm", "name": f"s{number}", "model": "echo", "user": "slow"} for number in range(4)]
    spec = {
        "portico_flow": 1,
        "durability": "normal",
        "step": {"op": "pipeline", "name": "p", "steps": steps},
    }
    answered(pair.a, "POST", "/api/apps", json={"name": "long", "kind": "flow", "spec": spec})
    with ThreadPoolExecutor(1) as thread:
        calling = thread.submit(call, pair.a, "POST", "/api/apps/long/run?stream=false", json={"input": "x"})

        def running() -> Any:
            runs = answered(pair.b, "GET", "/api/runs?limit=100")["data"]
            return [run["id"] for run in runs if run["name"] == "long" and run["status"] == "running"]

        (run,) = until(running, "B sees the run")
        assert answered(pair.b, "POST", f"/api/runs/{run}/cancel")["status"] == "cancelled"
        assert calling.result().status_code >= 400
    traced = answered(pair.b, "GET", f"/api/runs/{run}/trace")["steps"]
    assert len([step for step in traced if step["status"] == "completed"]) <= 1


def flow_of(*words: str) -> dict[str, Any]:
    """Return a flow that calls the model in one step after another, each with at least one event."""
    steps = [
        {"op": "llm", "name": f"s{number}", "model": "echo", "user": word}
        for number, word in enumerate(words)
    ]
    return {
        "flow": {"portico_flow": 1, "step": {"op": "pipeline", "name": "p", "steps": steps}},
        "input": "x",
    }


class Events:
    """The events read from a stream so far."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self.seen: list[tuple[int, dict[str, Any]]] = []

    def read(self, kind: str = "") -> dict[str, Any]:
        """Return the next event of a kind, or the last event if no kind is given; keep the earlier events too."""
        number = 0
        for line in self._lines:
            if line.startswith("id: "):
                number = int(line[4:])
            elif line.startswith("data: "):
                event = json.loads(line[6:])
                self.seen.append((number, event))
                if kind and event.get("type") == kind:
                    return event
        assert not kind, (kind, self.seen[-5:])
        return self.seen[-1][1]


@contextmanager
def events(
    daemon: Daemon, method: str, path: str, after: int = 0, **more: Any
) -> Iterator[tuple[httpx.Response, Events]]:
    headers = {"last-event-id": str(after)} if after else {}
    with httpx.stream(method, daemon.url + path, headers=headers, timeout=WAIT_S, **more) as answer:
        assert answer.status_code == 200
        yield answer, Events(answer.iter_lines())


def test_a_run_in_memory_is_seen_followed_and_cancelled_at_the_other(pair: Pair) -> None:
    with events(pair.a, "POST", "/api/flows/run", json=flow_of("one", "endless", "two")) as (
        began,
        events_at_a,
    ):
        run = began.headers["x-portico-run"]
        until(lambda: answered(pair.b, "GET", f"/api/runs/{run}")["last_event"] >= 3, "B sees how far it is")
        run_document = answered(pair.b, "GET", f"/api/runs/{run}")
        assert run_document["status"] == "running" and run_document == answered(
            pair.a, "GET", f"/api/runs/{run}"
        )
        with events(pair.b, "GET", f"/api/runs/{run}/events") as (_, events_at_b):
            events_at_b.read("step_finished")
            traced = answered(pair.b, "GET", f"/api/runs/{run}/trace")
            assert [step["path"] for step in traced["steps"]] == ["p.s0"]
            assert call(pair.b, "GET", f"/api/runs/{run}/trace?format=mermaid").text.startswith("gantt")
            cancelled = answered(pair.b, "POST", f"/api/runs/{run}/cancel")
            assert cancelled["status"] == "cancelled" and cancelled["error"]["code"] == "cancelled"
            assert events_at_b.read()["type"] == events_at_a.read()["type"] == "failed"
        assert events_at_b.seen == events_at_a.seen
    number = events_at_b.seen[2][0]
    with events(pair.b, "GET", f"/api/runs/{run}/events", after=number) as (_, later_events):
        later_events.read()
    assert later_events.seen == events_at_b.seen[3:]
    assert answered(pair.b, "POST", f"/api/runs/{run}/cancel") == answered(pair.a, "GET", f"/api/runs/{run}")


def test_an_in_memory_run_is_accessible_only_to_its_key_at_the_other_daemon(pair: Pair) -> None:
    keys = [
        answered(pair.a, "POST", "/api/keys", json={"name": name, "scopes": ["chat", "models:read"]})["key"]
        for name in ("mine", "another")
    ]
    until(
        lambda: all(call(pair.b, "GET", "/v1/models", key).status_code != 401 for key in keys), "B knows them"
    )
    began = call(pair.a, "POST", "/api/flows/run", keys[0], json=flow_of("one"))
    path = f"/api/runs/{began.headers['x-portico-run']}"
    assert call(pair.b, "GET", path, keys[0]).json()["status"] == "completed"
    for method, endpoint in (("GET", path), ("GET", f"{path}/events"), ("POST", f"{path}/cancel")):
        response = call(pair.b, method, endpoint, keys[1])
        assert (response.status_code, response.json()["error"]["code"]) == (404, "run_not_found")


def test_large_events_of_a_run_in_memory_arrive_whole_at_the_other(pair: Pair) -> None:
    word = secrets.token_hex(200_000)  # data that cannot be compressed on the way
    began = call(pair.a, "POST", "/api/flows/run", json=flow_of(word))
    run = began.headers["x-portico-run"]
    at_both = [call(daemon, "GET", f"/api/runs/{run}/events").text for daemon in pair.both]
    assert at_both[0] == at_both[1] and word in at_both[1]


def test_followers_of_an_in_memory_run_receive_run_lost_when_its_daemon_is_killed(
    pair: Pair, tmp_path: Path
) -> None:
    third = start(tmp_path, "c", pair.database, CONFIGURATION)
    try:
        with events(third, "POST", "/api/flows/run", json=flow_of("one", "endless")) as (began, _):
            run = began.headers["x-portico-run"]
            until(lambda: call(pair.b, "GET", f"/api/runs/{run}").is_success, "B knows the third")
            with events(pair.b, "GET", f"/api/runs/{run}/events") as (_, event_stream):
                event_stream.read("step_finished")
                third.process.kill()
                error = event_stream.read()["error"]
        assert error["code"] == "run_lost" and run in error["message"]
        response = call(pair.b, "GET", f"/api/runs/{run}")
        assert (response.status_code, response.json()["error"]["code"]) == (404, "run_not_found")
        assert "is lost when its daemon stops" in response.json()["error"]["message"]
    finally:
        end(third)


def test_dropped_database_connections_cause_no_500_and_lose_no_changes(
    pair: Pair, server: postgres.Server
) -> None:
    body = {"model": "echo", "input": "hello"}
    with ThreadPoolExecutor(8) as threads:
        for _ in range(10):
            calls = [
                threads.submit(call, pair.both[number % 2], "POST", "/v1/responses", json=body)
                for number in range(8)
            ]
            server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'portico%'"
            )
            for answer in (future.result() for future in calls):
                assert answer.is_success or answer.json()["error"]["code"] == "database_unavailable", (
                    answer.text
                )
                assert answer.status_code in (200, 503)
    for daemon in pair.both:
        response = call(daemon, "POST", "/v1/responses", json=body)
        assert answered(daemon, "GET", f"/v1/responses/{response.json()['id']}")["status"] == "completed"
    secret = answered(pair.a, "POST", "/api/keys", json={"name": "after", "scopes": ["models:read"]})["key"]
    until(lambda: call(pair.b, "GET", "/v1/models", secret).status_code == 200, "the key is known at B")


def test_a_batch_of_a_daemon_that_was_killed_is_finished_by_the_other(
    server: postgres.Server, tmp_path: Path
) -> None:
    database = server.new()
    first = start(tmp_path, "a", database, CONFIGURATION)
    lines = [
        {
            "custom_id": str(number),
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": "echo", "messages": [{"role": "user", "content": f"slow {number}"}]},
        }
        for number in range(12)
    ]
    content = "\n".join(json.dumps(line) for line in lines).encode()
    file = answered(
        first, "POST", "/v1/files", files={"file": ("in.jsonl", content)}, data={"purpose": "batch"}
    )
    order = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    path = f"/v1/batches/{answered(first, 'POST', '/v1/batches', json=order)['id']}"
    until(lambda: answered(first, "GET", path)["request_counts"]["completed"] > 0, "a line is answered")
    first.stop(signal.SIGKILL)
    end(first)
    # As if a silent daemon had passed the time after which it counts as ended.
    server.execute("update runs set lease_expires = 0 where lease_owner is not null", database)
    second = start(tmp_path, "b", database, CONFIGURATION)
    try:
        done = until(
            lambda: (b := answered(second, "GET", path))["status"] == "completed" and b, "it is finished"
        )
        output = call(second, "GET", f"/v1/files/{done['output_file_id']}/content").text.splitlines()
        assert sorted(int(json.loads(line)["custom_id"]) for line in output) == list(range(12))
    finally:
        end(second)


def test_a_canary_splits_equally_at_all_daemons_and_is_promoted_once_despite_a_kill(
    pair: Pair, tmp_path: Path
) -> None:
    for word in ("steady", "fresh"):
        model = {"name": word, "source": "fake://", "parameters": speaks(word)}
        answered(pair.a, "POST", "/api/deployments", json=model)
    answered(pair.a, "PUT", "/api/aliases/split", json={"target": "steady"})
    path, canary = "/api/canaries/split", {"target": "fresh", "weight": 0.5}
    answered(pair.a, "PUT", path, json=canary)
    words = [f"word {number}" for number in range(40)]
    sides = [said(pair.a, "split", word) for word in words]
    of_canary, of_baseline = words[sides.index("fresh")], words[sides.index("steady")]
    until(lambda: said(pair.b, "split", of_canary) == "fresh", "the canary is at B")
    third = start(tmp_path, "third", pair.database, CONFIGURATION)
    try:
        for daemon in (pair.b, third):
            assert [said(daemon, "split", word) for word in words] == sides
        call_threshold = answered(pair.a, "GET", path)["canary"]["calls"] + 80
        answered(pair.b, "PUT", path, json={**canary, "weight": 1, "promote": {"after": call_threshold}})
        stop_event = threading.Event()

        def ask(daemon: Daemon) -> None:
            while not stop_event.is_set():
                said(daemon, "split", "more")

        with ThreadPoolExecutor(2) as threads:
            asking = [threads.submit(ask, daemon) for daemon in pair.both]
            try:
                for _ in range(10):
                    said(third, "split", "more")
                third.stop(signal.SIGKILL)
                ended_canary = until(
                    lambda: (c := answered(pair.a, "GET", path))["status"] != "running" and c, "it has ended"
                )
            finally:
                stop_event.set()
            for element in asking:
                element.result()
    finally:
        end(third)
    assert [entry["action"] for entry in ended_canary["journal"]] == ["promoted", "set", "set"]
    assert ended_canary["journal"][0]["figures"]["canary"]["calls"] >= call_threshold
    assert [element["id"] for element in answered(pair.b, "GET", f"{path}/history")["data"]] == [
        ended_canary["id"]
    ]
    for daemon in pair.both:
        until(lambda daemon=daemon: said(daemon, "split", of_baseline) == "fresh", "the alias has moved")


MEMORY_CALLS = [
    ("GET", "/v1/vector_stores/STORE/files", None),
    ("GET", "/v1/vector_stores/STORE/files/FILE/content", None),
    ("POST", "/v1/vector_stores/STORE/search", {"query": "Where does the user live?"}),
    ("GET", "/api/stores/facts/files/FILE/chunks", None),
    ("GET", "/api/stores/facts/export", None),
    ("GET", "/api/facts/FACT", None),
    ("DELETE", "/api/facts/FACT", None),
    ("DELETE", "/v1/files/FILE", None),
    ("DELETE", "/v1/vector_stores/STORE/files/FILE", None),
    ("DELETE", "/api/stores/facts", None),
    ("POST", "/v1/vector_stores/STORE/files/FILE", {"attributes": {"owner": "x"}}),
]


def test_agent_memory_is_shared_between_daemons_but_not_between_keys(pair: Pair) -> None:
    scopes = {"user": ["chat", "apps:guide:call"], "other": ["chat", "stores:*:manage", "apps:*:deploy"]}
    keys = {
        name: answered(pair.a, "POST", "/api/keys", json={"name": name, "scopes": scope_list})
        for name, scope_list in scopes.items()
    }
    user, second_key = keys["user"]["key"], keys["other"]["key"]

    def says(daemon: Daemon, text: str) -> str:
        body = {"model": "guide", "messages": [{"role": "user", "content": text}]}
        answer = call(daemon, "POST", "/v1/chat/completions", user, json=body)
        return str(answer.json()["choices"][0]["message"]["content"]) if answer.is_success else answer.text

    until(lambda: says(pair.a, "I live in Oslo") == "Noted.", "A knows the key")
    until(lambda: says(pair.b, "What do you know?") == "You live in Oslo.", "B recalls what A stored")
    [fact] = call(pair.b, "GET", "/api/facts", user).json()["data"]
    store = answered(pair.b, "GET", "/api/stores/facts")["id"]
    [file] = answered(pair.b, "GET", f"/v1/vector_stores/{store}/files")["data"]
    for daemon in pair.both:
        for method, path, body in MEMORY_CALLS:
            at = path.replace("STORE", store).replace("FILE", file["id"]).replace("FACT", fact["id"])
            answer = call(daemon, method, at, second_key, **({} if body is None else {"json": body}))
            assert "Oslo" not in answer.text and "fact-" not in answer.text, (at, answer.text)
            assert method == "GET" or "/search" in at or answer.status_code in (403, 404), (at, answer.text)
        assert says(daemon, "What do you know?") == "You live in Oslo."
    assert call(pair.b, "DELETE", f"/api/facts/{fact['id']}", user).status_code == 204
    assert call(pair.a, "GET", "/api/facts", user).json()["data"] == []
