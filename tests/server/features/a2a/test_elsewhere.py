"""Agents of a daemon used as models of the same daemon through its own A2A, over every API and separately for each
key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.api.openai.conftest import KEYS, bearer, secret


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that requires keys. ``far-desk`` is its own agent ``desk``; ``mirror`` is the daemon itself."""
    home = tmp_path_factory.mktemp("elsewhere")
    models = [{"name": "echo", "source": "fake://", "aliases": ["default"]}]
    agents = [{"name": "desk", "description": "Remembers.", "portico_agent": 1, "model": "echo"}]
    config = home / "elsewhere.yaml"
    config.write_text(json.dumps({"models": models, "agents": agents, "keys": KEYS}), encoding="utf-8")
    with daemons.running(
        home / "data", "--file", str(config), env={"PORTICO_REQUIRE_KEY": "true"}
    ) as running:
        for name, agent in {"far-desk": "desk", "mirror": "mirror"}.items():
            spec = {"name": name, "source": f"a2a+{running.url}/a2a/{agent}", "api_key": secret("boss")}
            post(running, "/api/deployments", spec, key="boss")
        yield running


def post(daemon: Daemon, path: str, body: Any, *, key: str = "one", status: int = 200) -> Any:
    answer = httpx.post(daemon.url + path, json=body, headers=bearer(key), timeout=60)
    assert answer.status_code in (status, status + 1), answer.text
    return answer.json()


def chat(daemon: Daemon, *texts: str, model: str = "far-desk", key: str = "one") -> str:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    completion = post(daemon, "/v1/chat/completions", {"model": model, "messages": messages}, key=key)
    return str(completion["choices"][0]["message"]["content"])


def contexts(daemon: Daemon) -> list[str]:
    """Return the contexts of the tasks that the desk received, newest first."""
    headers = {**bearer("boss"), "A2A-Version": "1.0"}
    task_list = httpx.get(f"{daemon.url}/a2a/desk/tasks", headers=headers, timeout=60).json()
    return [task["contextId"] for task in task_list["tasks"]]


def test_every_api_reaches_an_agent_elsewhere(daemon: Daemon) -> None:
    assert chat(daemon, "hello") == "hello"
    first = post(daemon, "/v1/responses", {"model": "far-desk", "input": "one"})
    second = post(
        daemon, "/v1/responses", {"model": "far-desk", "input": "two", "previous_response_id": first["id"]}
    )
    texts = [response["output"][-1]["content"][0]["text"] for response in (first, second)]
    assert texts == ["one", "two"] and second["usage"]["output_tokens"] > 0
    last, previous_context, _hello = contexts(daemon)[:3]
    assert last == previous_context


def test_keys_do_not_share_a_conversation(daemon: Daemon) -> None:
    for key in ("one", "two"):
        assert chat(daemon, "good day", key=key) == "good day"
    for key in ("two", "one"):
        assert chat(daemon, "good day", "good day", f"I am {key}", key=key) == f"I am {key}"
    first_context, two, second, first = contexts(daemon)[:4]
    assert (first_context, two) == (first, second) and first_context != two


def test_an_agent_that_calls_itself_ends(daemon: Daemon) -> None:
    body = {"model": "mirror", "messages": [{"role": "user", "content": "hello"}]}
    answer = httpx.post(f"{daemon.url}/v1/chat/completions", json=body, headers=bearer("one"), timeout=60)
    assert answer.status_code == 502 and "an agent calls itself" in answer.json()["error"]["message"]
    headers = {**bearer("boss"), "A2A-Version": "1.0"}
    tasks = httpx.get(f"{daemon.url}/a2a/mirror/tasks", headers=headers, timeout=60).json()["tasks"]
    assert len(tasks) == 8 and {task["status"]["state"] for task in tasks} == {"TASK_STATE_FAILED"}
