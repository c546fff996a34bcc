"""``/openapi.json`` and the daemon's answers to requests generated from it do not contradict each other.

`PORTICO_TEST_REQUESTS` sets the approximate number of generated requests, 500 by default. The requests are the same
each time.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pytest
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

REQUESTS: Final = int(os.environ.get("PORTICO_TEST_REQUESTS", "500"))

CHECKS: Final = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]

LEFT_OUT: Final = {
    "/api/shutdown": "ends the daemon",
    "/api/engines/{name}/install": "installs packages for minutes",
    "/api/models/pull": "fetches from the network",
    "/api/models/better": "fetches from the network",
    "/api/questions/events": "a stream without an end",
    "/api/workers/{worker}/claim": "waits for work",
    "/api/questions/claim": "waits for work",
}
"""Paths that are not tested, and why."""

CONFIGURATION = """
models:
  - {name: default, source: "fake://"}
  - {name: default-embedding, source: "fake://", task: embedding, parameters: {dimensions: 16}}
"""


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
    found: Mapping[str, Any] = httpx.get(f"{served.url}/openapi.json", timeout=60).json()
    return found


@pytest.mark.timeout(600)
def test_no_answer_contradicts_the_document(served: Daemon, document: Mapping[str, Any]) -> None:
    schema = schemathesis.openapi.from_dict(dict(document))
    operations = [found.ok() for found in schema.get_all_operations() if found.ok().path not in LEFT_OUT]
    assert len(operations) > 150
    each = max(1, REQUESTS // len(operations))
    wrong: list[str] = []
    for operation in operations:
        for error in contradictions(operation, served.url, each):
            wrong.append(f"{operation.method.upper()} {operation.path}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert httpx.get(f"{served.url}/health").status_code == 200


def contradictions(operation: Any, url: str, count: int) -> list[str]:
    """Return the faults in the answers to ``count`` requests of one operation."""
    wrong: list[str] = []

    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]

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
        try:
            case.call_and_validate(base_url=url, checks=CHECKS, timeout=60)
        except FailureGroup as failures:
            wrong.extend(str(failure)[:2_000] for failure in failures.exceptions)

    ask()
    return wrong


@pytest.mark.parametrize(
    "answered",
    [
        {"content": {"application/json": {"schema": {"type": "array"}}}},
        {"content": {"text/plain": {"schema": {"type": "string"}}}},
    ],
    ids=["schema", "content type"],
)
def test_a_document_that_is_wrong_would_be_found(
    served: Daemon, document: Mapping[str, Any], answered: Mapping[str, Any]
) -> None:
    lie = {**document, "paths": {"/v1/models": copy.deepcopy(document["paths"]["/v1/models"])}}
    lie["paths"]["/v1/models"]["get"]["responses"]["200"] = {"description": "", **answered}
    [operation] = [found.ok() for found in schemathesis.openapi.from_dict(lie).get_all_operations()]
    assert contradictions(operation, served.url, 1)
