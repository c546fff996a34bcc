"""The daemon answers growing input with a client error and stays responsive for everyone else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.growth import (
    ALONE,
    CONFIGURATION,
    EXISTING,
    MCP_HEADERS,
    STOPS,
    UNNAMED,
    WAITS,
    Growth,
    Health,
    addresses,
    at,
    body,
    endpoints,
    fields_alone,
    files_that_grow,
    flows,
    forms,
    growths,
    messages,
)

from portico_server.api.routes import HOT
from portico_server.features.flows.ops import OPS

MAX_HEALTH_S = 20.0
"""Seconds within which /health must answer, on a machine with other work; bench/growth.py measures precisely."""

MAX_MEMORY_MB = 1_200
"""Memory limit of the daemon at the end, in MB; the daemon starts with about 300."""

DEFAULT_GROWTHS = ("long texts", "control characters", "numbers beyond 64 bits", "wide", "too deep")
"""Growths that every test run sends: at least one for each type of field. The slow lane sends all."""

GROWTHS = [
    pytest.param(how, id=how.name, marks=() if how.name in DEFAULT_GROWTHS else pytest.mark.slow)
    for how in growths()
]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("growth")
    (home / "growth.yaml").write_text(CONFIGURATION)
    with daemons.running(home / "data", "--file", str(home / "growth.yaml")) as running:
        running.settle()
        yield running


@pytest.fixture(scope="module")
def document(grown: Daemon) -> dict[str, Any]:
    api_document: dict[str, Any] = httpx.get(f"{grown.url}/openapi.json", timeout=60).json()
    return api_document


def send(client: httpx.Client, method: str, path: str, content: bytes, **headers: str) -> tuple[int, str]:
    """Return the status and text of an answer; of a stream, return only the beginning."""
    with client.stream(
        method, path, content=content, headers={"content-type": "application/json", **headers}
    ) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            return answer.status_code, next(answer.iter_text(), "")
        return answer.status_code, answer.read().decode(errors="replace")


def is_fine(status: int, text: str) -> bool:
    """Return whether the answer is a success, or a client error in OpenAI's format with a readable length."""
    if status == 200:
        return "internal_error" not in text
    if status >= 500:
        return False
    if status < 400:
        return True
    error = json.loads(text)["error"]
    return isinstance(error, dict | str) and len(text) < 20_000


@pytest.mark.slow
@pytest.mark.parametrize("how", GROWTHS)
def test_oversized_bodies_neither_block_nor_crash_any_endpoint(
    grown: Daemon, document: dict[str, Any], how: Growth
) -> None:
    wrong = []
    with Health(grown.url) as health, httpx.Client(base_url=grown.url, timeout=60) as client:
        for endpoint in endpoints(document):
            if endpoint.path in WAITS:
                continue
            status, text = send(client, endpoint.method, at(endpoint.path, {}), body(endpoint.grown(how)))
            if not is_fine(status, text):
                wrong.append(f"{endpoint.method} {endpoint.path}: {status} {text[:300]}")
            if (slowest := health.since()) > MAX_HEALTH_S:
                wrong.append(f"{endpoint.method} {endpoint.path} kept /health waiting for {slowest:.1f} s")
    assert not wrong, "\n".join(wrong)
    assert not health.failures
    assert psutil.Process(grown.process.pid).memory_info().rss < MAX_MEMORY_MB * 2**20


@pytest.fixture(scope="module")
def existing(grown: Daemon) -> dict[str, str]:
    """Return the ids of existing resources, by the names that paths use for them."""
    ids = {}
    for name, (path, request_body) in EXISTING.items():
        answer = httpx.post(grown.url + path, json=request_body, timeout=60)
        assert answer.status_code in (200, 201), (path, answer.text)
        ids[name] = str(answer.json()["id"])
    return ids


@pytest.mark.parametrize("how", GROWTHS)
def test_oversized_fields_for_existing_objects_neither_block_nor_crash_the_daemon(
    grown: Daemon, document: dict[str, Any], existing: dict[str, str], how: Growth
) -> None:
    wrong = []
    with Health(grown.url) as health, httpx.Client(base_url=grown.url, timeout=60) as client:
        for endpoint in endpoints(document):
            if not endpoint.path.startswith(ALONE):
                continue
            for name, request_body in fields_alone(endpoint, how):
                status, text = send(client, endpoint.method, at(endpoint.path, existing), body(request_body))
                if not is_fine(status, text):
                    wrong.append(f"{endpoint.method} {endpoint.path} {name}: {status} {text[:300]}")
                if (slowest := health.since()) > MAX_HEALTH_S:
                    wrong.append(f"{endpoint.path} {name} kept /health waiting for {slowest:.1f} s")
    assert not wrong, "\n".join(wrong)
    assert psutil.Process(grown.process.pid).memory_info().rss < MAX_MEMORY_MB * 2**20


@pytest.mark.parametrize("how", GROWTHS[:3])
def test_oversized_forms_and_archives_neither_block_nor_crash_the_daemon(
    grown: Daemon, document: dict[str, Any], existing: dict[str, str], how: Growth
) -> None:
    wrong = []
    # an upload accepts each request only once
    path_values = {key: value for key, value in existing.items() if key != "upload_id"}
    with Health(grown.url) as health, httpx.Client(base_url=grown.url, timeout=60) as client:
        for name, file in files_that_grow():
            for form in forms(document):
                fields, files = form.grown(how, file)
                answer = client.request(form.method, at(form.path, path_values), data=fields, files=files)
                request_label = f"{form.path} with {name}"
                if not is_fine(answer.status_code, answer.text):
                    wrong.append(f"{request_label}: {answer.status_code} {answer.text[:300]}")
                if (slowest := health.since()) > MAX_HEALTH_S:
                    wrong.append(f"{request_label} kept /health waiting for {slowest:.1f} s")
    assert not wrong, "\n".join(wrong)
    assert psutil.Process(grown.process.pid).memory_info().rss < MAX_MEMORY_MB * 2**20


def test_every_endpoint_with_a_body_has_a_growth_case(document: dict[str, Any]) -> None:
    """Every endpoint grows; a new kind of body, or a new noun in a path, needs its row in tests/growth.py."""
    grown_routes = {
        (endpoint_or_form.method, endpoint_or_form.path) for endpoint_or_form in endpoints(document)
    }
    grown_routes |= {(endpoint_or_form.method, endpoint_or_form.path) for endpoint_or_form in forms(document)}
    nouns = set()
    for path, methods in document["paths"].items():
        nouns |= {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for method, operation in methods.items():
            assert (
                path in STOPS or "requestBody" not in operation or (method.upper(), path) in grown_routes
            ), path
    assert nouns == EXISTING.keys() | UNNAMED
    paths = {endpoint.path for endpoint in endpoints(document)}
    assert not {start for start in ALONE if not any(path.startswith(start) for path in paths)}


@pytest.mark.parametrize("how", GROWTHS)
def test_oversized_mcp_messages_neither_block_nor_crash_the_daemon(grown: Daemon, how: Growth) -> None:
    wrong = []
    with Health(grown.url) as health, httpx.Client(base_url=grown.url, timeout=60) as client:
        begin = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "a", "version": "1"},
        }
        opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}
        response = client.post("/mcp", json=opening, headers={"accept": MCP_HEADERS["accept"]})
        session = {
            "accept": MCP_HEADERS["accept"],
            "mcp-session-id": response.headers["mcp-session-id"],
            "mcp-protocol-version": "2025-11-25",
        }
        for name, message in messages(how):
            content = body(message)
            for headers in (MCP_HEADERS, session):
                status, text = send(client, "POST", "/mcp", content, **headers)
                if status >= 500 or '"code":-32603' in text or "internal_error" in text:
                    wrong.append(f"{name}: {status} {text[:300]}")
            if (slowest := health.since()) > MAX_HEALTH_S:
                wrong.append(f"{name} kept /health waiting for {slowest:.1f} s")
        client.delete("/mcp", headers=session)
    assert not wrong, "\n".join(wrong)
    assert not health.failures


@pytest.mark.parametrize(
    ("params", "code", "reason"),
    [
        ('{"a": ' + "[" * 300 + "]" * 300 + "}", -32600, "body_too_complex"),
        ("[" + "{}," * 300_000 + "{}]", -32600, "body_too_complex"),
        ('{"name": "\\ud800"}', -32700, "invalid_json"),
        ('{"a": 1e999999}', -32700, "invalid_json"),
        ('{"a": ' + "9" * 100_000 + "}", -32700, "invalid_json"),
    ],
    ids=["deep", "wide", "lone surrogate", "number without end", "long integer"],
)
def test_a_message_that_is_refused_gets_an_error_of_json_rpc(
    grown: Daemon, params: str, code: int, reason: str
) -> None:
    message = '{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": ' + params + "}"
    answer = httpx.post(f"{grown.url}/mcp", content=message, headers={**JSON, **MCP_HEADERS}, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["data"]["code"]) == (400, code, reason)


def test_every_flow_operation_has_a_growth_case() -> None:
    def found(value: Any) -> set[str]:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        op_names = {value["op"]} if isinstance(value, dict) and isinstance(value.get("op"), str) else set()
        return op_names.union(*map(found, inner))

    assert not set(OPS) - set().union(*(found(step) for _name, step, _value in flows()))


JSON = {"content-type": "application/json"}

NAMES = {
    "long": "a" * 2_000,
    "control": "\x00\x1b\r\n\u202e",
    "dots": "..",
    "unicode": "\U0001f600" * 500,
    "empty": " ",
}
NUMBERS = ["9" * 30, "-9223372036854775809", "1e400", "0", "-1"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(name, number, marks=() if name in ("control", "dots") else pytest.mark.slow)
        for name, number in zip(NAMES, NUMBERS, strict=True)
    ],
)
def test_extreme_names_and_numbers_in_urls_crash_no_endpoint(
    grown: Daemon, document: dict[str, Any], name: str, number: str
) -> None:
    wrong = []
    with Health(grown.url) as health, httpx.Client(base_url=grown.url, timeout=60) as client:
        for address in addresses(document):
            if address.path in WAITS:
                continue
            target = address.grown(NAMES[name], number)
            status, text = send(
                client, address.method, target, b"" if address.method in ("GET", "DELETE") else b"{}"
            )
            if not is_fine(status, text):
                wrong.append(f"{address.method} {target[:100]}: {status} {text[:300]}")
            if (slowest := health.since()) > MAX_HEALTH_S:
                wrong.append(f"{address.method} {target[:100]} kept /health waiting for {slowest:.1f} s")
    assert not wrong, "\n".join(wrong)


def test_every_hot_path_is_in_the_document(document: dict[str, Any]) -> None:
    hot = {(path, method.lower()) for path, handlers in HOT.items() for method in handlers}
    assert not {(path, method) for path, method in hot if method not in document["paths"].get(path, {})}


def test_overlong_form_boundaries_and_names_cause_no_server_error(
    grown: Daemon, document: dict[str, Any]
) -> None:
    forms = [
        path
        for path, methods in document["paths"].items()
        if "multipart/form-data" in methods.get("post", {}).get("requestBody", {}).get("content", {})
    ]
    assert "/v1/files" in forms
    with httpx.Client(base_url=grown.url, timeout=60) as client:
        for boundary in ("b" * 300, "b" * 10_000):
            kind = f"multipart/form-data; boundary={boundary}"
            for path in forms:
                body_of_form = f"--{boundary}\r\n\r\n--{boundary}--".encode()
                answer = client.post(path, content=body_of_form, headers={"content-type": kind})
                assert is_fine(answer.status_code, answer.text), (path, answer.text[:300])
        for field in ("file", "x" * 100_000):
            answer = client.post(
                "/v1/files", files={field: ("n" * 100_000, b"x")}, data={"purpose": "assistants"}
            )
            assert is_fine(answer.status_code, answer.text), answer.text[:300]


@pytest.mark.parametrize(
    ("step", "value"), [pytest.param(step, value, id=name) for name, step, value in flows()]
)
def test_no_flow_freezes_or_exhausts_the_daemon(grown: Daemon, step: dict[str, Any], value: Any) -> None:
    request_fields = {"flow": {"portico_flow": 1, "name": "growing", "step": step}, "input": value}
    with (
        Health(grown.url) as health,
        httpx.Client(base_url=grown.url, timeout=60) as client,
        client.stream("POST", "/api/flows/run", content=body(request_fields), headers=JSON) as answer,
    ):
        text = answer.read().decode(errors="replace")
    assert answer.status_code < 500, text[:300]
    last = text.strip().rpartition("data: ")[2]
    assert '"internal_error"' not in last, last[:300]
    assert not health.failures
    assert health.since() < MAX_HEALTH_S
    assert psutil.Process(grown.process.pid).memory_info().rss < MAX_MEMORY_MB * 2**20
