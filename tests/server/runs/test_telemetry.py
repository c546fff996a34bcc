"""Spans of runs, steps and model calls, as a collector of OpenTelemetry receives them."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from tests import daemon as daemons

from portico import Client
from portico.errors import PorticoError
from portico_server.runs.telemetry import parent

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
    """Receives spans over HTTP and keeps them."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # the name is the library's
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
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
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
    # It has ended: everything was sent.
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
    said = values(paths["p.say"])
    assert (said["gen_ai.operation.name"], said["gen_ai.request.model"]) == ("chat", "default")
    assert (said["gen_ai.usage.input_tokens"], said["gen_ai.usage.output_tokens"]) == (3, 3)
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


def test_the_place_of_a_step_tells_its_parent() -> None:
    assert [parent(path) for path in ("p", "p.a", "p.w[3].c", "p.w[3].c#2.d", "p.a[0].flow")] == [
        "",
        "p",
        "p.w",
        "p.w[3].c",
        "p.a",
    ]
