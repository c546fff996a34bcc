"""Invalid, endless or huge flows: one clear error each that names the place, and bounded memory."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.daemon import Daemon
from tests.server.features.flows.steps import Bench, code, pipeline, ref, spec

from portico import Client
from portico.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico.wire import Asked

ADD = "lambda x: x + 1"
CODE = code(ADD)


def wrong(client: Client, step: Any, **more: Any) -> tuple[str, str, str]:
    """Return the code, param and message of the check."""
    result = client.check(spec(step, **more))
    assert not result.ok
    assert result.error is not None
    return result.error["code"], result.error["param"], result.error["message"]


class TestSpecification:
    @pytest.mark.parametrize(
        ("step", "code_", "param", "says"),
        [
            ({"op": "llmm"}, "unknown_op", "flow.step.op", "Did you mean 'llm'?"),
            ({"op": "pipeline", "steps": []}, "invalid_spec", "flow.step.steps", "at least one"),
            ({"op": "code"}, "invalid_spec", "flow.step.source", "source of a Python function"),
            ({"op": "code", "source": "lambda x: x", "sorce": 1}, "unknown_field", "flow.step.sorce", "sorce"),
            ({"op": "loop", "step": CODE}, "loop_without_end", "flow.step.limit", "the maximum number of rounds"),
            ({"op": "llm", "model": "clark"}, "model_not_found", "flow.step.model", "Did you mean 'clerk'"),
            ({"op": "tool", "tool": "calculater"}, "tool_not_found", "flow.step.tool", "calculator"),
            ({"op": "retrieve", "store": "handbok"}, "store_not_found", "flow.step.store", "handbook"),
            ({"op": "llm", "user": {"$ref": "steps.gone"}}, "unknown_step", "flow.step.user", "does not exist"),
            ({"op": "llm", "user": {"$ref": "outpt"}}, "invalid_reference", "flow.step.user", "is not a reference"),
            ({"op": "llm", "user": "a { b"}, "invalid_template", "flow.step.user", "single '{'"),
            ({"op": "emit", "text": {"$template": "{{" * 30_000}}, "invalid_template", "flow.step.text", "50,000"),
            ({"op": "llm", "user": {"$eq": [1]}}, None, None, "requires a list of 2"),
            ({"op": "llm", "user": {"$what": 1}}, "invalid_expression", "flow.step.user", "do not form an expression"),
            ({"op": "embed", "model": "clerk"}, "wrong_model", "flow.step.model", "does not support 'embeddings'"),
            ({"op": "llm", "user": {"$code": ADD}}, "code_not_here", "flow.step.user", "where code is not allowed"),
            ({**CODE, "save": "x"}, "not_in_loop", "flow.step.save", "within a loop"),
            ({**CODE, "when": False}, "unreachable_step", "flow.step.when", "always false"),
            ({**CODE, "on_error": {"goto": "x"}}, "unknown_step", "flow.step.on_error.goto", "not a later step"),
            ({**CODE, "on_error": {"value": {"$ref": "steps.x"}}}, "unknown_step", None, "does not exist"),
            ({"op": "warp", "over": "text", "step": CODE}, "type_clash", "flow.step.over", "but gets text"),
            ({"op": "llm", "user": {"$ref": "item"}}, "invalid_reference", "flow.step.user", "within a warp"),
        ],
    )  # fmt: skip
    def test_an_invalid_step_is_refused_with_its_place_and_reason(
        self, client: Client, step: Any, code_: str | None, param: str | None, says: str
    ) -> None:
        problem = wrong(client, step)
        assert says in problem[2]
        assert code_ is None or problem[0] == code_
        assert param is None or problem[1].startswith(param)

    def test_a_newer_version_of_the_flow_format_is_refused(self, client: Client) -> None:
        result = client.check({"portico_flow": 9, "step": code(ADD)})
        assert result.error is not None
        assert result.error["code"] == "unsupported_version"
        assert "uses version 9" in result.error["message"]

    def test_steps_that_depend_on_each_other_are_refused_as_a_cycle(self, client: Client) -> None:
        step = {
            "op": "graph",
            "steps": [code(ADD, "a", args=[ref("steps.b")]), code(ADD, "b", args=[ref("steps.a")])],
        }
        assert wrong(client, step)[0] == "cycle"

    def test_two_steps_with_the_same_name_are_refused(self, client: Client) -> None:
        assert wrong(client, pipeline(code(ADD, "a"), code(ADD, "a")))[:2] == (
            "duplicate_name",
            "flow.step.steps[1].name",
        )

    def test_a_reference_to_a_later_step_is_refused(self, client: Client) -> None:
        problem = wrong(client, pipeline(code(ADD, "a", args=[ref("steps.b")]), code(ADD, "b")))
        assert problem[0] == "step_not_visible"
        assert "it is at flow.step.steps[1]" in problem[2]

    def test_a_type_clash_between_steps_is_refused(self, client: Client) -> None:
        step = pipeline({"op": "llm", "name": "a"}, {"op": "warp", "step": code(ADD)})
        assert wrong(client, step)[0] == "type_clash"

    def test_combinators_nested_too_deep_are_refused(self, client: Client) -> None:
        step: Any = code(ADD)
        for _ in range(70):
            step = pipeline(step)
        assert wrong(client, step)[0] == "too_deep"

    def test_a_request_body_nested_too_deep_is_refused(self, client: Client) -> None:
        value: Any = 1
        for _ in range(120):
            value = {"a": [value]}
        with pytest.raises(InvalidRequest, match="nested deeper") as caught:
            client.check(spec({"op": "llm", "options": value}))
        assert caught.value.code == "body_too_complex"


class TestValues:
    @pytest.mark.parametrize("source", ["lambda x: {1, 2}", "lambda x: 2 ** 80", "lambda x: len"])
    def test_a_step_whose_output_is_not_json_fails(self, bench: Bench, source: str) -> None:
        with pytest.raises(InvalidRequest, match=r"Step p\.bad: ") as caught:
            bench(pipeline(code(source, "bad")))
        assert caught.value.code == "not_json"

    def test_a_nan_value_becomes_null(self, bench: Bench) -> None:
        assert bench(pipeline(code("lambda x: float('nan')"), code("lambda x: [x]"))) == [None]

    def test_endless_code_is_stopped_by_the_timeout_of_its_step(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match="Step c: "):
            bench(code("def f(x):\n    while True:\n        pass", "c", timeout=0.5))

    def test_a_lambda_that_uses_an_open_file_runs_in_the_client(self, client: Client, tmp_path: Any) -> None:
        from portico.flow import code as portable
        from portico.flow import pipeline as flow

        path = tmp_path / "notes.txt"
        path.write_text("first line\n")
        with path.open() as notes:
            assert client.run(flow(lambda x: x + notes.readline()), "> ") == "> first line\n"
            with pytest.raises(InvalidRequest, match="cannot run in the sandbox"):
                portable(lambda x: notes.readline())


class TestSize:
    def test_a_pipeline_of_10_000_steps_runs_to_its_end(self, bench: Bench) -> None:
        step = pipeline(*({"op": "emit", "text": "x"} for _ in range(10_000)))
        assert bench(step, 5) == 5

    def test_a_graph_of_2_000_sequential_steps_runs_to_its_end(self, bench: Bench) -> None:
        steps = [{"op": "emit", "name": f"s{n}", "text": "x"} for n in range(2_000)]
        successors = {f"s{n}": [f"s{n + 1}"] for n in range(1_999)}
        assert bench({"op": "graph", "steps": steps, "after": successors, "output": ref("steps.s0")}, 5) == 5

    @pytest.mark.slow
    def test_a_warp_over_100_000_items_uses_bounded_memory_and_trace(
        self, bench: Bench, flow_daemon: Daemon
    ) -> None:
        memory_before = memory(flow_daemon)
        out = bench({"op": "warp", "name": "w", "step": code("lambda x: x * 2")}, list(range(100_000)))
        assert out[-1] == 199_998
        assert memory(flow_daemon) - memory_before < 200
        assert len(bench.trace()) == 20_000  # the trace keeps at most this many

    def test_a_flow_with_more_steps_than_the_maximum_is_refused(self, client: Client) -> None:
        assert (
            wrong(client, pipeline(*({"op": "emit", "text": "x"} for _ in range(20_001))))[0]
            == "too_many_steps"
        )


def memory(daemon: Daemon) -> int:
    """Return the memory of the daemon, in megabytes."""
    with open(f"/proc/{daemon.process.pid}/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmRSS"))
    return int(line.split()[1]) // 1024


class TestClients:
    def test_a_client_that_leaves_ends_its_run(self, bench: Bench) -> None:
        hold = {"op": "http", "name": "hold", "method": "GET", "url": f"{bench.outside.url}/hold"}
        running = bench.client.start(spec(hold))
        next(iter(running.events()))
        assert bench.outside.held.acquire(timeout=60)
        running.close()
        assert bench.outside.left.acquire(timeout=60)

    def test_another_client_can_answer_for_a_disconnected_one(self, flow_daemon: Daemon) -> None:
        step = spec({"op": "client", "function": "shared", "limit": 30}, durability="normal")
        with Client(flow_daemon.url) as first, Client(flow_daemon.url) as second:
            running = first.start(step, 20)
            question_event = next(event for event in running.events() if isinstance(event, Asked))
            run = running.id or ""
            running.close()  # in the middle of its own step
            questions = second.questions.list(status="pending", run=run)
            assert [question.id for question in questions] == [question_event.id]
            second.questions.answer(question_event.id, True, value=21)
            assert [item.event for item in second.runs.events(run)][-1].result == 21

    def test_the_second_of_two_concurrent_deployments_gets_a_version_conflict(self, client: Client) -> None:
        first = client.apps.deploy("contested", spec(code(ADD)))
        start = threading.Barrier(2)

        def deploy(number: int) -> str:
            start.wait()
            try:
                flow = spec(code(f"lambda x: x + {number + 10}"))
                client.apps.deploy("contested", flow, expected_version=first.version)
            except Conflict as error:
                return str(error.code)
            return "deployed"

        with ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(deploy, range(2))) == ["deployed", "version_conflict"]

    def test_requests_for_missing_runs_are_answered_with_not_found(self, client: Client) -> None:
        with pytest.raises(NotFound):
            client.runs.trace("run_gone")
        with pytest.raises(NotFound):
            client.runs.resume("run_gone")
