"""Spans of runs, steps and model calls, as an OpenTelemetry collector receives them."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests import daemon as daemons

from portico import Client
from portico.errors import PorticoError
from portico_server.core import trace
from portico_server.core.origins import ORIGINS
from portico_server.core.request import ToolCall
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.servable import Card
from portico_server.runs.telemetry import Telemetry, parent

MODELS = 'models: [{name: echo, source: "fake://", aliases: [default]}]\n'
STEP = {
    "op": "pipeline",
    "name": "p",
    "steps": [
        {"op": "warp", "name": "w", "step": {"op": "code", "name": "c", "source": "lambda x: x"}},
        {"op": "llm", "name": "say", "user": "one two three"},
        {"op": "code", "name": "bad", "source": "lambda x: 1 / 0"},
    ],
}


class Collector:
    """A collector that receives spans over HTTP and stores them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the library requires this name
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                assert self.path == "/v1/traces"
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    for scope in resource.scope_spans:
                        collector.spans += scope.spans
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def collector() -> Iterator[Collector]:
    trace_collector = Collector()
    thread = threading.Thread(target=trace_collector.server.serve_forever, args=(0.05,))
    thread.start()
    yield trace_collector
    trace_collector.server.shutdown()
    trace_collector.server.server_close()
    thread.join()


def values(span: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in span.attributes}


@pytest.mark.parametrize("durability", ["off", "normal"])
def test_a_run_and_its_steps_are_one_trace(tmp_path: Path, collector: Collector, durability: str) -> None:
    configuration = tmp_path / "models.yaml"
    configuration.write_text(MODELS)
    env = {"PORTICO_OTEL_ENDPOINT": collector.url}
    flow = {"portico_flow": 1, "name": "traced", "durability": durability, "step": STEP}
    with (
        daemons.running(tmp_path / "home", "--file", str(configuration), env=env) as daemon,
        Client(daemon.url) as client,
    ):
        with pytest.raises(PorticoError, match=r"Step p\.bad"):
            client.run(flow, [1, 2])
        client.chat("hello").read()
    # The daemon has ended, so all spans were sent.
    spans = {span.name: span for span in collector.spans}
    run = spans["flow traced"]
    traced = [span for span in collector.spans if span.trace_id == run.trace_id]
    paths = {values(span).get("portico.step.path", ""): span for span in traced}
    assert set(paths) == {"", "p", "p.w", "p.w[0].c", "p.w[1].c", "p.say", "p.bad"}
    above = {
        path: next(p for p, o in paths.items() if o.span_id == span.parent_span_id)
        for path, span in paths.items()
        if path
    }
    assert above == {"p": "", "p.w": "p", "p.w[0].c": "p.w", "p.w[1].c": "p.w", "p.say": "p", "p.bad": "p"}
    attributes = values(paths["p.say"])
    assert (attributes["gen_ai.operation.name"], attributes["gen_ai.request.model"]) == ("chat", "default")
    assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (3, 3)
    assert values(paths["p.bad"])["error.type"] == "code_failed"
    assert paths["p.bad"].status.code == 2
    assert values(run)["error.type"] == "code_failed"
    call = values(
        next(
            span
            for span in collector.spans
            if span.name.startswith("chat ") and span.trace_id != run.trace_id
        )
    )
    assert call["gen_ai.operation.name"] == "chat"


def test_the_path_of_a_step_determines_its_parent() -> None:
    assert [parent(path) for path in ("p", "p.a", "p.w[3].c", "p.w[3].c#2.d", "p.a[0].flow")] == [
        "",
        "p",
        "p.w",
        "p.w[3].c",
        "p.a",
    ]


TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=one"}


@pytest.mark.slow
def test_calls_join_the_client_trace_and_model_spans_follow_the_conventions(
    tmp_path: Path, collector: Collector
) -> None:
    """A model, a chat over a store, an agent with a tool, and a remote model: each call has its own span."""
    docs = tmp_path / "handbook"
    docs.mkdir()
    (docs / "port.md").write_text("# Ports\n\nThe Lighthouse daemon listens on port 7419.\n")
    request_headers: list[dict[str, str]] = []

    class Upstream(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # the library requires this name
            self.rfile.read(int(self.headers["content-length"]))
            request_headers.append({name.lower(): value for name, value in self.headers.items()})
            answer = (
                b'{"id":"c","object":"chat.completion","created":1,"model":"far-1","choices":[{"index":0,'
                b'"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],'
                b'"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
            )
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_args: Any) -> None:
            """Nothing."""

    upstream = ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    serving = threading.Thread(target=upstream.serve_forever, args=(0.05,))
    serving.start()
    script = [
        {
            "match": "^add",
            "times": 1,
            "tool_calls": [{"name": "calculator", "arguments": {"expression": "1+1"}}],
        }
    ]
    far = f"http://127.0.0.1:{upstream.server_address[1]}/v1#far-1"
    configuration = tmp_path / "house.json"
    configuration_document = {
        "models": [
            {"name": "echo", "source": "fake://", "aliases": ["default"]},
            {"name": "clever", "source": "fake://", "parameters": {"script": {"replies": script}}},
            {"name": "far", "source": far},
        ],
        "agents": [{"name": "desk", "portico_agent": 1, "model": "clever", "tools": ["calculator"]}],
    }
    configuration.write_text(json.dumps(configuration_document))
    env = {"PORTICO_OTEL_ENDPOINT": collector.url}
    arguments = ("--file", str(configuration), "--docs", str(docs))
    with (
        daemons.running(tmp_path / "home", *arguments, env=env) as daemon,
        httpx.Client(base_url=daemon.url, headers=TRACEPARENT, timeout=60) as client,
    ):
        daemon.settle()
        chat_body = {
            "messages": [{"role": "user", "content": "add up the Lighthouse port"}],
            "temperature": 0.5,
        }
        for model in ("echo", "far", "handbook", "desk"):
            body = {**chat_body, "model": model}
            client.post("/v1/chat/completions", json=body).raise_for_status()
        client.post(
            "/v1/chat/completions", json={**chat_body, "model": "echo", "stream": True}
        ).raise_for_status()
        unsampled = {"traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"}
        client.post(
            "/v1/chat/completions", json={**chat_body, "model": "echo"}, headers=unsampled
        ).raise_for_status()
    upstream.shutdown()
    upstream.server_close()
    serving.join()
    spans = collector.spans
    assert not [span for span in spans if span.trace_id.hex() == TRACE[::-1]], "the client does not record it"
    ids = {span.span_id: span for span in spans}
    ours = [span for span in spans if span.trace_id.hex() == TRACE]
    assert {span.trace_state for span in ours} == {"vendor=one"}

    def inside(span: Any) -> list[tuple[str, int]]:
        return sorted(
            (child_span.name, child_span.kind)
            for child_span in ours
            if child_span.parent_span_id == span.span_id
        )

    client_kind, internal, server = 3, 1, 2
    roots = [span for span in ours if span.parent_span_id.hex() == PARENT]
    assert {span.kind for span in roots} == {server}
    [remote] = [
        span for span in ours if span.kind == client_kind and values(span)["gen_ai.request.model"] == "far"
    ]
    assert ids[remote.parent_span_id].kind == server
    remote_attributes = values(remote)
    assert (remote_attributes["gen_ai.operation.name"], remote_attributes["gen_ai.provider.name"]) == (
        "chat",
        "remote",
    )
    assert (
        remote_attributes["gen_ai.request.temperature"],
        remote_attributes["gen_ai.usage.input_tokens"],
    ) == (0.5, 5)
    assert remote_attributes["gen_ai.response.model"] == "far-1"
    [remote_headers] = request_headers
    assert remote_headers["traceparent"] == f"00-{TRACE}-{remote.span_id.hex()}-01"
    assert remote_headers["tracestate"] == "vendor=one"
    [streamed] = [span for span in ours if values(span).get("gen_ai.request.stream")]
    assert values(streamed)["gen_ai.response.time_to_first_chunk"] > 0
    [store] = [span for span in ours if span.name == "retrieval handbook"]
    assert store.kind == internal and values(store)["gen_ai.data_source.id"].startswith("vs_")
    assert ("chat default", client_kind) in inside(ids[store.parent_span_id])
    [tool] = [span for span in ours if span.name == "execute_tool calculator"]
    assert values(tool)["gen_ai.tool.name"] == "calculator"
    turn = inside(ids[tool.parent_span_id])
    assert turn.count(("chat clever", client_kind)) == 2


def test_the_span_of_a_model_call_names_the_model_that_was_asked_and_the_one_that_answered(
    tmp_path: Path, collector: Collector
) -> None:
    """Relayed calls, streamed calls, and calls from a flow."""
    down = "http://127.0.0.1:1/v1#large"
    models = [
        {"name": "first", "source": down, "parameters": {"fallback": ["second"], "retries": 0}},
        {"name": "second", "source": "fake://"},
    ]
    (tmp_path / "models.json").write_text(json.dumps({"models": models}))
    env = {"PORTICO_OTEL_ENDPOINT": collector.url}
    flow = {"portico_flow": 1, "name": "f", "step": {"op": "llm", "name": "say", "model": "first"}}
    with (
        daemons.running(tmp_path / "home", "--file", str(tmp_path / "models.json"), env=env) as daemon,
        httpx.Client(base_url=daemon.url, timeout=60) as client,
    ):
        for extra_fields in ({}, {"stream": True}):
            body = {"model": "first", "messages": [{"role": "user", "content": "hello"}], **extra_fields}
            client.post("/v1/chat/completions", json=body).raise_for_status()
        client.post("/api/flows/run", json={"flow": flow, "input": "hello"}).raise_for_status()
    calls = [values(span) for span in collector.spans if span.kind == 3]
    assert len(calls) == 3
    assert {(call["gen_ai.request.model"], call["gen_ai.response.model"]) for call in calls} == {
        ("first", "second")
    }


def test_a_durable_run_resumed_after_a_kill_continues_its_original_trace(
    tmp_path: Path, collector: Collector
) -> None:
    """Its daemon is killed while the run waits for an answer; the next resumes it, and no client sends a trace."""
    configuration = tmp_path / "models.yaml"
    configuration.write_text(MODELS)
    env = {"PORTICO_OTEL_ENDPOINT": collector.url}
    steps = [{"op": "approve", "name": "ask", "message": "?"}, {"op": "llm", "name": "say", "user": "one"}]
    step = {"op": "pipeline", "name": "p", "steps": steps}
    flow = {"portico_flow": 1, "name": "traced", "durability": "normal", "step": step}
    start = (tmp_path / "home", "--file", str(configuration))
    with daemons.running(*start, env=env) as daemon:
        body = {"flow": flow, "input": ""}
        with httpx.stream(
            "POST", f"{daemon.url}/api/flows/run", json=body, headers=TRACEPARENT, timeout=30
        ) as event_stream:
            next(line for line in event_stream.iter_lines() if '"asked"' in line)
            run_id = event_stream.headers["x-portico-run"]
        daemon.process.kill()
        daemon.process.wait(60)
    with daemons.running(*start, env=env) as daemon, httpx.Client(base_url=daemon.url, timeout=60) as client:
        [question] = client.get("/api/questions", params={"run": run_id, "status": "pending"}).json()["data"]
        client.post(f"/api/questions/{question['id']}/answer", json={"accepted": True}).raise_for_status()
        with client.stream("GET", f"/api/runs/{run_id}/events") as event_stream:
            assert any('"finished"' in line for line in event_stream.iter_lines())
    spans = {span.name: span for span in collector.spans}
    run = spans["flow traced"]
    assert (run.trace_id.hex(), run.parent_span_id.hex(), run.trace_state) == (TRACE, PARENT, "vendor=one")
    steps_of_it = [span for span in collector.spans if "portico.step.path" in values(span)]
    assert {span.trace_id.hex() for span in steps_of_it} == {TRACE}
    assert "p.say" in {values(span)["portico.step.path"] for span in steps_of_it}


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        "00-" + "a" * 10_000,
    ],
)
def test_an_invalid_traceparent_header_is_ignored(given: str) -> None:
    assert trace.of_headers([(b"traceparent", given.encode())]) is None


def test_a_too_long_tracestate_is_dropped() -> None:
    headers = [(b"traceparent", TRACEPARENT["traceparent"].encode()), (b"tracestate", b"a=" + b"x" * 600)]
    trace_context = trace.of_headers(headers)
    assert trace_context is not None
    assert trace_context.headers() == {"traceparent": TRACEPARENT["traceparent"]}


def test_calls_made_by_code_are_child_spans_of_run_code(tmp_path: Path, collector: Collector) -> None:
    code = (
        "portico.tools.calculator(expression='1+1')\n"
        "portico.models.echo(messages=[{'role': 'user', 'content': 'x'}])"
    )
    configuration = tmp_path / "models.yaml"
    configuration.write_text(MODELS)
    env = {"PORTICO_OTEL_ENDPOINT": collector.url}
    with daemons.running(tmp_path / "home", "--file", str(configuration), env=env) as daemon:
        body = {"arguments": {"code": code}}
        httpx.post(f"{daemon.url}/api/tools/run_code/call", json=body, timeout=60).raise_for_status()
    [code_span] = [span for span in collector.spans if span.name == "tools/call tool/run_code"]
    inner = {span.name for span in collector.spans if span.parent_span_id == code_span.span_id}
    assert inner == {"execute_tool calculator", "chat echo"}


async def test_the_span_of_a_tool_names_the_data_on_which_the_call_may_depend(collector: Collector) -> None:
    telemetry = Telemetry(collector.url)
    card, above = Card("send", "tool"), trace.of_run("run_1")
    with ScopedValue(ORIGINS, ("handbook.pdf, page 3",)):
        span = telemetry.begin("tool/send", card, ToolCall({}), above)
    assert span.attributes["portico.because_of"] == ["handbook.pdf, page 3"]
    assert "portico.because_of" not in telemetry.begin("tool/send", card, ToolCall({}), above).attributes
    await telemetry.close()
