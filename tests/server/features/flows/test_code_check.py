"""Faults found before a flow runs: code that the sandbox can never run, and invalid schemas."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.features.flows.steps import code, pipeline

from portico import Client, InvalidRequest


def wrong(client: Client, step: Any, **more: Any) -> dict[str, Any]:
    result = client.check({"portico_flow": 1, "name": "t", "step": step, **more})
    assert result.error is not None
    return dict(result.error)


class TestCode:
    @pytest.mark.parametrize(
        ("source", "word"),
        [
            ("def f(x):\n    yield x", "yield"),
            ("def f(x):\n    del x[0]\n    return x", "'del'"),
            ("lambda x: (", "is not valid Python"),
            ("x = 1", "must be a lambda"),
            ("import numpy\nlambda x: x", "numpy"),
        ],
    )
    def test_code_the_sandbox_cannot_run_is_refused_with_its_step(
        self, client: Client, source: str, word: str
    ) -> None:
        error = wrong(client, pipeline({**code("lambda x: x"), "name": "a"}, {**code(source), "name": "b"}))
        assert error["code"] == "invalid_code"
        assert error["param"] == "flow.step.steps[1].source"
        assert "the function of the step 'b'" in error["message"]
        assert word in error["message"]

    def test_code_in_a_condition_is_checked_before_the_run(self, client: Client) -> None:
        condition = {"$code": "def f(x):\n    yield x"}
        error = wrong(client, {"op": "branch", "condition": condition, "then": code("lambda x: x")})
        assert error["param"] == "flow.step.condition"

    def test_deploying_code_the_sandbox_cannot_run_is_refused(self, client: Client) -> None:
        with pytest.raises(InvalidRequest, match="the sandbox cannot run"):
            client.apps.deploy("never", {"portico_flow": 1, "step": code("def f(x):\n    yield x")})

    def test_a_lambda_after_its_imports_and_helpers_runs(self, client: Client) -> None:
        source = "import math\nLIMIT = 3\ndef up(x):\n    return math.ceil(x)\nlambda x: min(up(x), LIMIT)"
        assert client.run({"portico_flow": 1, "step": code(source)}, 1.2) == 2

    def test_a_lambda_followed_by_a_comment_runs(self, client: Client) -> None:
        assert client.run({"portico_flow": 1, "step": code("lambda x: x + 1  # one more")}, 1) == 2


class TestSchemas:
    @pytest.mark.parametrize(
        ("step", "more", "param"),
        [
            ({"op": "llm"}, {"input_schema": {"type": "nonsense"}}, "flow.input_schema"),
            ({"op": "llm"}, {"output_schema": {"required": "a"}}, "flow.output_schema"),
            ({"op": "llm", "output_schema": {"type": 3}}, {}, "flow.step.output_schema"),
            (
                {"op": "llm", "format": {"type": "json", "schema": {"properties": []}}},
                {},
                "flow.step.format.schema",
            ),
            ({"op": "approve", "answer_schema": {"enum": 1}}, {}, "flow.step.answer_schema"),
        ],
    )
    def test_invalid_schemas_are_refused_with_their_field(
        self, client: Client, step: Any, more: dict[str, Any], param: str
    ) -> None:
        error = wrong(client, step, **more)
        assert (error["code"], error["param"]) == ("invalid_schema", param)
