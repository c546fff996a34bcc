"""``/openapi.json`` and the daemon's answers to requests generated from it do not contradict each other.

Every operation gets `EXAMPLES` generated requests; where its path names an object, the valid ones are sent a second
time with an object that exists. The requests are the same each time.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import one_of
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests import daemon as daemons
from tests.daemon import Daemon

EXAMPLES: Final = int(os.environ.get("PORTICO_TEST_EXAMPLES", "3"))

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

CONFIGURATION = """
models:
  - {name: default, source: "fake://"}
  - {name: default-embedding, source: "fake://", task: embedding, parameters: {dimensions: 16}}
"""

SHUTDOWN = "/api/shutdown"

FLOW = {"portico_flow": 1, "step": {"op": "llm"}}
APPROVED = {"portico_flow": 1, "durability": "normal", "step": {"op": "approve", "message": "Continue?"}}
HELLO = [{"role": "user", "content": "Hello"}]

OBJECTS: Final = (
    ("store", "/api/stores", {"name": "notes", "embedding_model": "", "links": True}),
    ("response_id", "/v1/responses", {"model": "default", "input": "Hello"}),
    ("completion_id", "/v1/chat/completions", {"model": "default", "messages": HELLO, "store": True}),
    ("conversation_id", "/v1/conversations", {"items": HELLO}),
    ("app", "/api/apps", {"name": "parrot", "spec": FLOW}),
    ("prompt", "/api/prompts", {"name": "greet", "messages": "Hello"}),
    ("schedule", "/api/schedules", {"name": "daily", "app": "parrot", "input": "Hello", "cron": "0 0 * * *"}),
    (
        "upload_id",
        "/v1/uploads",
        {"filename": "a", "purpose": "user_data", "bytes": 3, "mime_type": "text/plain"},
    ),
    (
        "eval_id",
        "/v1/evals",
        {
            "data_source_config": {"type": "custom", "item_schema": {"type": "object"}},
            "testing_criteria": [
                {"type": "string_check", "name": "same", "input": "a", "reference": "b", "operation": "eq"}
            ],
        },
    ),
    ("key_id", "/api/keys", {"name": "guest", "scopes": ["chat"]}),
)
"""Objects that the test creates: the path parameter that names the object, and the request that creates it."""

NAMES: Final = {
    "/v1/models": "default",
    "/api/deployments": "default",
    "/api/apps": "parrot",
    "/api/prompts": "greet",
    "/api/tools": "calculator",
    "/api/engines/{name}/parameters": "fake",
}
"""The name that exists at paths with this beginning."""


class FirstBytes(requests.Session):
    """A session that reads only the beginning of an event stream, which may have no end."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = super().send(request, **{**options, "stream": True})
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response._content = next(response.iter_content(None), b"")
            response.close()
        return response


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("contract")
    (home / "contract.yaml").write_text(CONFIGURATION, encoding="utf-8")
    env = {"PORTICO_OFFLINE": "true"}
    with daemons.running(home / "data", "--file", str(home / "contract.yaml"), env=env) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def document(served: Daemon) -> Mapping[str, Any]:
    api_document: Mapping[str, Any] = httpx.get(f"{served.url}/openapi.json", timeout=60).json()
    return api_document


@pytest.fixture(scope="module")
def objects(served: Daemon) -> Mapping[str, str]:
    """The ids of objects that exist, by the path parameter that names them."""
    ids: dict[str, str] = {}
    with httpx.Client(base_url=served.url, timeout=60) as http:
        for parameter, path, body in OBJECTS:
            ids[parameter] = http.post(path, json=body).raise_for_status().json()["id"]
        upload = {"file": ("port.txt", b"The daemon listens on port 7419.")}
        form = {"purpose": "user_data"}
        ids["file_id"] = http.post("/v1/files", data=form, files=upload).raise_for_status().json()["id"]
        http.post(
            f"/v1/vector_stores/{ids['store']}/files", json={"file_id": ids["file_id"]}
        ).raise_for_status()
        skill = {
            "files": ("demo/SKILL.md", b"---\nname: demo\ndescription: A demonstration.\n---\nBe brief.")
        }
        ids["skill_id"] = http.post("/v1/skills", files=skill).raise_for_status().json()["id"]
        ids["version"] = "1"
        with http.stream("POST", "/api/flows/run", json={"flow": APPROVED, "input": "x"}) as events:
            ids["run_id"] = events.headers["x-portico-run"]
            assert any("event: asked" in line for line in events.iter_lines())
        ids["question_id"] = http.get("/api/questions").json()["data"][0]["id"]
    return ids


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_response_conforms_to_the_openapi_document(
    served: Daemon, document: Mapping[str, Any], objects: Mapping[str, str]
) -> None:
    schema = schemathesis.openapi.from_dict(dict(document))
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert len(operations) == sum(map(len, document["paths"].values()))
    operations = [operation for operation in operations if operation.path != SHUTDOWN]
    operations.sort(key=lambda operation: operation.method == "delete")  # the objects must exist until then
    wrong: list[str] = []
    for operation in operations:
        for error in contradictions(operation, served.url, objects):
            wrong.append(f"{operation.method.upper()} {operation.path}: {error}")
        assert httpx.get(f"{served.url}/health").status_code == 200, operation.path
    assert not wrong, "\n\n".join(wrong)


def test_the_shutdown_response_conforms_to_the_openapi_document(
    document: Mapping[str, Any], tmp_path: Path
) -> None:
    shutdown = {**document, "paths": {SHUTDOWN: document["paths"][SHUTDOWN]}}
    [operation] = [result.ok() for result in schemathesis.openapi.from_dict(shutdown).get_all_operations()]
    with daemons.running(tmp_path / "home") as daemon:
        assert not contradictions(operation, daemon.url, {}, count=1)


def contradictions(
    operation: Any, url: str, objects: Mapping[str, str], *, count: int = EXAMPLES
) -> list[str]:
    """Return the faults in the answers to generated requests of one operation."""
    wrong: list[str] = []
    session = FirstBytes()
    existing = path_parameters(operation.path, objects)
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

    def send(case: schemathesis.Case) -> None:
        try:
            case.call_and_validate(base_url=url, session=session, checks=CHECKS, timeout=60)
        except FailureGroup as failures:
            wrong.extend(str(failure)[:2_000] for failure in failures.exceptions)

    @given(case=one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes)))
    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    def ask(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("wait"), float):
            case.body["wait"] = 0.0  # there is no work to wait for
        send(case)
        if existing and isinstance(case.path_parameters, dict):
            case.path_parameters.update(existing)
            send(case)

    ask()
    session.close()
    return wrong


def path_parameters(path: str, objects: Mapping[str, str]) -> Mapping[str, str]:
    """Return the path parameters of an object that exists, or nothing if the test created none."""
    name = next((name for beginning, name in NAMES.items() if path.startswith(beginning)), None)
    values = objects if name is None else {**objects, "name": name}
    parameters = re.findall(r"{(\w+)}", path)
    return {name: values[name] for name in parameters} if set(parameters) <= set(values) else {}


@pytest.mark.parametrize(
    "answered",
    [
        {"content": {"application/json": {"schema": {"type": "array"}}}},
        {"content": {"text/plain": {"schema": {"type": "string"}}}},
    ],
    ids=["schema", "content type"],
)
def test_a_wrong_openapi_document_is_detected_by_the_check(
    served: Daemon, document: Mapping[str, Any], answered: Mapping[str, Any]
) -> None:
    lie = {**document, "paths": {"/v1/models": copy.deepcopy(document["paths"]["/v1/models"])}}
    lie["paths"]["/v1/models"]["get"]["responses"]["200"] = {"description": "", **answered}
    [operation] = [result.ok() for result in schemathesis.openapi.from_dict(lie).get_all_operations()]
    assert contradictions(operation, served.url, {})
