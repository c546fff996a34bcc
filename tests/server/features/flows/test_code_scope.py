"""Code in a flow or an agent requires the right to the code tool: for its author and for its caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api_server import ApiServer, RelayModel, api_server

from portico_server.models.spec import ModelSpec

ADMIN = "pk-of-the-operator"
SCOPE = "tools:python_light:call"
CODE = {"name": "loud", "op": "code", "source": "lambda text: text.upper()"}
HIDDEN = {"name": "say", "op": "emit", "text": "x", "when": {"$code": "lambda text: True"}}


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(tmp_path, api_key=ADMIN) as server:
        server.add(RelayModel("default"))
        yield server


async def key(daemon: ApiServer, *scopes: str) -> dict[str, str]:
    _row, secret = await daemon.auth.create("somebody", scopes)
    return {"Authorization": f"Bearer {secret}"}


def flow(step: dict[str, Any]) -> dict[str, Any]:
    return {"portico_flow": 1, "step": step}


def is_refused(answer: httpx.Response) -> bool:
    error = answer.json()["error"] if answer.status_code == 403 else {}
    return error.get("code") == "insufficient_scope" and SCOPE in error["message"]


async def run(daemon: ApiServer, headers: dict[str, str], step: dict[str, Any]) -> httpx.Response:
    return await daemon.client.post(
        "/api/flows/run", json={"flow": flow(step), "input": "a"}, headers=headers
    )


async def deploy(daemon: ApiServer, headers: dict[str, str], **spec: Any) -> httpx.Response:
    return await daemon.client.post("/api/apps", json={"name": "loud", **spec}, headers=headers)


@pytest.mark.parametrize("step", [CODE, HIDDEN, {"op": "warp", "name": "all", "over": ["a"], "step": CODE}])
async def test_running_a_flow_with_code_requires_the_code_scope(
    daemon: ApiServer, step: dict[str, Any]
) -> None:
    assert is_refused(await run(daemon, await key(daemon, "chat"), step))
    response = await run(daemon, await key(daemon, "chat", SCOPE), step)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("step", [CODE, HIDDEN])
async def test_deploying_a_flow_with_code_requires_the_code_scope(
    daemon: ApiServer, step: dict[str, Any]
) -> None:
    theirs = ("chat", "apps:*:deploy")
    assert is_refused(await deploy(daemon, await key(daemon, *theirs), kind="flow", spec=flow(step)))
    done = await deploy(daemon, await key(daemon, *theirs, "tools:*:call"), kind="flow", spec=flow(step))
    assert done.status_code == 200, done.text


async def test_calling_a_deployed_flow_with_a_code_step_requires_the_code_scope(daemon: ApiServer) -> None:
    admin = {"Authorization": f"Bearer {ADMIN}"}
    assert (await deploy(daemon, admin, kind="flow", spec=flow(CODE))).status_code == 200
    body = {"model": "loud", "messages": [{"role": "user", "content": "a"}]}
    caller = await key(daemon, "chat", "apps:*:call")
    assert is_refused(await daemon.client.post("/v1/chat/completions", json=body, headers=caller))
    auth_headers = await key(daemon, "chat", "apps:*:call", SCOPE)
    answer = await daemon.client.post("/v1/chat/completions", json=body, headers=auth_headers)
    assert answer.json()["choices"][0]["message"]["content"] == "A"


async def test_deploying_an_agent_with_a_code_hook_requires_the_code_scope(daemon: ApiServer) -> None:
    hook = {"on": "before_agent", "do": "code", "source": "lambda message: message"}
    spec = {"portico_agent": 1, "model": "default", "hooks": [hook]}
    theirs = ("chat", "apps:*:deploy", "models:read")
    response = await deploy(daemon, await key(daemon, *theirs), kind="agent", spec=spec)
    assert is_refused(response), response.text
    done = await deploy(daemon, await key(daemon, *theirs, SCOPE), kind="agent", spec=spec)
    assert done.status_code == 200, done.text


# --- code outside flows and agents ----------------------------------------------------------------------

PYTHON = {"type": "python", "name": "mine", "source": "def grade(sample, item):\n    return 1.0"}
CHECK = {"type": "string_check", "input": "a", "reference": "a", "operation": "eq", "name": "same"}


def multi(formula: str, **graders: Any) -> dict[str, Any]:
    return {
        "type": "multi",
        "name": "all",
        "graders": graders or {"same": CHECK},
        "calculate_output": formula,
    }


async def evaluation(daemon: ApiServer, headers: dict[str, str], grader: dict[str, Any]) -> httpx.Response:
    config = {"type": "custom", "item_schema": {"type": "object"}}
    body = {"name": "e", "data_source_config": config, "testing_criteria": [grader]}
    return await daemon.client.post("/v1/evals", json=body, headers=headers)


BRINGS_CODE = [
    PYTHON,
    multi("inner", inner=PYTHON),
    multi("[x for x in (same, 1)][0]"),
    multi("(lambda: same)()"),
    multi("same.__class__(1)"),
    multi("same) + (__import__('os') and 1"),
]


@pytest.mark.parametrize("grader", BRINGS_CODE)
async def test_an_evaluation_with_a_code_grader_requires_the_code_scope(
    daemon: ApiServer, grader: dict[str, Any]
) -> None:
    grader = {**grader, "pass_threshold": 0.5}
    response = await evaluation(daemon, await key(daemon, "chat"), grader)
    assert is_refused(response), response.text
    done = await evaluation(daemon, await key(daemon, "chat", SCOPE), grader)
    assert done.status_code in (200, 201), done.text


async def test_training_a_model_with_a_code_grader_requires_the_code_scope(daemon: ApiServer) -> None:
    await daemon.services.models.add(ModelSpec("base", "fake://"))
    for scopes, param in ((("chat", "finetune"), "method.reinforcement.grader.source"), (("admin",), None)):
        headers = await key(daemon, *scopes)
        method = {"type": "reinforcement", "reinforcement": {"grader": PYTHON}}
        body = {"model": "base", "training_file": "file-none", "method": method}
        response = await daemon.client.post("/v1/fine_tuning/jobs", json=body, headers=headers)
        assert response.status_code >= 400
        assert is_refused(response) is (param is not None), response.text
        if param is not None:
            assert response.json()["error"]["param"] == param


@pytest.mark.parametrize(
    "formula", ["0.5 * same + 0.5", "max(same, 0.2) if same > 0 else -1", "min([same, 1])"]
)
async def test_a_grader_with_an_arithmetic_formula_needs_no_code_scope(
    daemon: ApiServer, formula: str
) -> None:
    done = await evaluation(daemon, await key(daemon, "chat"), {**multi(formula), "pass_threshold": 0.5})
    assert done.status_code in (200, 201), done.text
