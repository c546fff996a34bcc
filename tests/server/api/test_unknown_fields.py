"""A native body with an unknown field is refused with a suggestion: tested from ``/openapi.json``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons

from portico_server.features.ollama.feature import FEATURE

MODEL = {"name": "x", "source": "fake://"}
FLOW = {"portico_flow": 1, "step": {"op": "code", "source": "lambda text: text"}}
OPEN = {"POST /api/apps/{name}/run", "POST /api/evals/{eval_id}/search", "POST /api/prompts"} | {
    f"{method} {route.path}" for route in FEATURE.routes for method in route.methods
}
"""Bodies parsed by their noun, which is tested separately below, and Ollama's bodies, which ignore unknown fields."""

STATE = "PUT /api/sessions/{session_id}/state"
"""Sets a state dict whose keys are the paths of agents."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with (
        daemons.running(tmp_path_factory.mktemp("fields")) as daemon,
        httpx.Client(base_url=daemon.url) as http_client,
    ):
        yield http_client


def _bodies(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            if path.startswith("/api") and "application/json" in content:
                yield method.upper(), path, content["application/json"]["schema"]


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    while True:
        inner = next((option for option in schema.get("anyOf", ()) if option.get("type") != "null"), None)
        if inner is not None:
            schema = inner
        elif "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        else:
            return schema


def _least(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Any:
    """Return a value with all required fields."""
    schema = _resolved(schema, document)
    if "enum" in schema or "const" in schema:
        return schema.get("const") or schema["enum"][0]
    if "oneOf" in schema:
        return _least(schema["oneOf"][0], document)
    samples: Mapping[str, Any] = {"string": "x", "integer": 1, "number": 1, "boolean": True, "array": ["x"]}
    if schema.get("type") != "object":
        return samples.get(schema.get("type", ""))
    needed = {name: schema["properties"][name] for name in schema.get("required", ())}
    return {name: _least(inner, document) for name, inner in needed.items()}


def test_every_native_body_refuses_a_field_that_it_does_not_have(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    routes = []
    for method, path, schema in _bodies(document):
        name = f"{method} {path}"
        if name in OPEN or name == STATE or re.fullmatch(r"/api/apps/[\w-]+/run", path):
            continue
        resolved = _resolved(schema, document)
        field_name = max(resolved["properties"], key=len)
        wrong = field_name[:-1] + "_" + field_name[-1]
        body = {**_least(schema, document), wrong: 1}
        answer = client.request(method, re.sub(r"\{\w+\}", "nothing", path), json=body)
        error = answer.json().get("error") or {}
        assert (answer.status_code, error.get("code")) == (400, "unknown_parameter"), (name, answer.text)
        assert (error["type"], error["param"]) == ("invalid_request_error", wrong), name
        assert f"'{wrong}'. Did you mean" in error["message"] and f"'{field_name}'" in error["message"], name
        assert resolved["additionalProperties"] is False, name
        routes.append(name)
    assert len(routes) > 40


@pytest.mark.parametrize(
    ("path", "body", "param", "meant"),
    [
        ("/api/stores", {"name": "x", "foldr": "/"}, "foldr", "folder"),
        ("/api/stores", {"name": "x", "dataset_path": "/"}, "dataset_path", "folder"),
        ("/api/deployments", {"name": "x", "sorce": "fake://"}, "sorce", "source"),
        ("/api/deployments", {**MODEL, "defaults": {"temprature": 1}}, "defaults.temprature", "temperature"),
        ("/api/deployments", {**MODEL, "defaults": {"stop_words": []}}, "defaults.stop_words", "stop"),
        (
            "/api/stores/y/groups",
            {"name": "x", "chunking_strategy": {"type": "sentence", "chunk_size": 9}},
            "chunking_strategy.chunk_size",
            "size",
        ),
        (
            "/v1/vector_stores",
            {"chunking_strategy": {"type": "static", "static": {"max_chunk_size": 100}}},
            "chunking_strategy.static.max_chunk_size",
            "max_chunk_size_tokens",
        ),
        (
            "/api/fine_tuning/plan",
            {"model": "x", "method": {"type": "dpo", "dpo": {"hyperparameters": {"epochs": 1}}}},
            "method.dpo.hyperparameters.epochs",
            "n_epochs",
        ),
        (
            "/v1/fine_tuning/jobs",
            {"model": "x", "hyperparameters": {"n_epoch": 1}},
            "hyperparameters.n_epoch",
            "n_epochs",
        ),
        ("/api/search", {"query": "x", "stores": ["y"], "top_k": 1}, "top_k", "max_num_results"),
        ("/api/prompts", {"name": "x", "messages": "y", "argument": []}, "prompt.argument", "arguments"),
        ("/api/agents/run", {"agent": {}, "message": "x", "session_id": 1}, "session_id", "session"),
        (
            "/api/agents/run",
            {"agent": {"portico_agent": 1, "system_prompt": "x"}, "message": "x"},
            "agent.system_prompt",
            "instructions",
        ),
        (
            "/api/agents/run",
            {"agent": {"portico_agent": 1, "options": {"temprature": 1}}, "message": "x"},
            "agent.options.temprature",
            "temperature",
        ),
        (
            "/api/flows/run",
            {"flow": {"portico_flow": 1, "step": {"op": "llm", "options": {"top_k": 1}}}, "input": "x"},
            "flow.step.options.top_k",
            "extra_body",
        ),
        ("/api/apps/echo/run", {"inptu": "x"}, "inptu", "input"),
        (
            "/api/apps/echo/run",
            {"messages": [{"role": "user", "content": "x"}], "temprature": 1},
            "temprature",
            "temperature",
        ),
    ],
)
def test_an_unknown_field_error_suggests_the_intended_field(
    client: httpx.Client, path: str, body: dict[str, Any], param: str, meant: str
) -> None:
    client.post("/api/apps", json={"name": "echo", "spec": FLOW}).raise_for_status()
    client.post("/api/stores", json={"name": "y"})
    answer = client.post(path, json=body)
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert (error["param"], error["type"]) == (param, "invalid_request_error"), error
    assert f"Did you mean '{meant}'" in error["message"]


def test_extra_body_options_reach_the_model_merged_with_the_other_options(tmp_path: Path) -> None:
    model = {"name": "default", "source": "fake://"}
    step = {"op": "llm", "options": {"temperature": 0, "extra_body": {"top_k": 3}}}
    with daemons.running(tmp_path / "home") as daemon, httpx.Client(base_url=daemon.url) as client:
        client.post("/api/deployments", json=model).raise_for_status()
        flow = {"portico_flow": 1, "durability": "normal", "step": step}
        answer = client.post("/api/flows/run", json={"flow": flow, "input": "hello"})
        assert '"result":"hello"' in answer.text, answer.text
        trace = client.get(f"/api/runs/{answer.headers['x-portico-run']}/trace").json()
        assert trace["steps"][0]["input"]["options"] == {"temperature": 0, "top_k": 3}, trace
