"""The inputs of a combinator's steps, and the use of their outputs."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.features.flows.steps import Bench, code, pipeline, ref

from portico.errors import InvalidRequest, PorticoError

ADD = "lambda x: x + 1"
DOUBLE = "lambda x: x * 2"


def parallel(*steps: Any, **more: Any) -> dict[str, Any]:
    return {"op": "parallel", "name": "at_once", "steps": list(steps), **more}


def fail(name: str = "bad") -> dict[str, Any]:
    return code("lambda x: 1 / 0", name)


class TestPipeline:
    def test_feeds_each_step_with_the_output_of_the_one_before(self, bench: Bench) -> None:
        assert bench(pipeline(code(ADD), code(DOUBLE)), 3) == 8

    def test_answers_with_its_output_expression(self, bench: Bench) -> None:
        step = pipeline(code(ADD, "a"), code(DOUBLE, "b"), output={"a": ref("steps.a"), "in": ref("input")})
        assert bench(step, 3) == {"a": 4, "in": 3}

    def test_a_skipped_step_passes_its_input_on(self, bench: Bench) -> None:
        step = pipeline(code(ADD, "a"), code(DOUBLE, "b", when={"$gt": [ref("value"), 10]}), code(ADD, "c"))
        assert bench(step, 1) == 3
        assert bench.trace()["p.b"].status == "skipped"

    def test_an_inner_step_can_refer_to_outer_steps(self, bench: Bench) -> None:
        inner = pipeline(
            code("lambda a, b: [a, b]", "both", args=[ref("steps.first"), ref("value")]), name="inner"
        )
        assert bench(pipeline(code(ADD, "first"), code(DOUBLE), inner), 1) == [2, 4]

    def test_a_pipeline_of_skipped_steps_lets_its_input_through(self, bench: Bench) -> None:
        assert bench(pipeline(code(ADD, when={"$eq": [1, 2]})), 5) == 5


class TestParallel:
    @pytest.mark.parametrize(
        ("join", "expected"),
        [
            ("list", [[1, 2], [3, 4]]),
            ("dict", {"a": [1, 2], "b": [3, 4]}),
            ("sum", [1, 2, 3, 4]),
            ("zip", [[1, 3], [2, 4]]),
        ],
    )
    def test_combines_the_outputs_by_each_join_mode(self, bench: Bench, join: str, expected: Any) -> None:
        step = parallel(code("lambda x: [1, 2]", "a"), code("lambda x: [3, 4]", "b"), join=join)
        assert bench(step) == expected

    def test_sums_numbers_texts_and_objects(self, bench: Bench) -> None:
        for first_value, second_value, total in (
            ("1", "2", 3),
            ("'x'", "'y'", "xy"),
            ("{'a': 1}", "{'b': 2}", {"a": 1, "b": 2}),
        ):
            step = parallel(code(f"lambda x: {first_value}"), code(f"lambda x: {second_value}"), join="sum")
            assert bench(step) == total

    def test_joins_text_with_a_separator(self, bench: Bench) -> None:
        step = parallel(code("lambda x: 'a'"), code("lambda x: {'b': 1}"), join="text", separator=" | ")
        assert bench(step) == 'a | {\n  "b": 1\n}'

    def test_leaves_skipped_steps_out(self, bench: Bench) -> None:
        step = parallel(code(ADD, "a"), code(ADD, "b", when={"$eq": [ref("value"), 0]}), join="dict")
        assert bench(step, 1) == {"a": 2}

    def test_a_sum_of_what_cannot_be_added_is_an_error(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="cannot add a str to a int") as caught:
            bench(parallel(code("lambda x: 1"), code("lambda x: 'a'"), join="sum"))
        assert caught.value.code == "type_clash"

    def test_a_zip_wants_lists(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="requires a list from every step"):
            bench(parallel(code("lambda x: 1"), code("lambda x: [1]"), join="zip"))

    def test_the_first_error_ends_the_combinator_and_names_the_step(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match=r"(?s)Step at_once\.bad: .*ZeroDivisionError") as caught:
            bench(parallel(code(ADD, "good"), fail()), 1)
        assert caught.value.code == "code_failed"
        assert bench.trace()["at_once.bad"].status == "failed"

    def test_collects_errors_by_choice(self, bench: Bench) -> None:
        good, bad = bench(parallel(code(ADD), fail(), collect=True), 1)
        assert good == 2
        assert bad["error"]["code"] == "code_failed"

    def test_an_error_stops_a_tool_that_still_works(self, bench: Bench) -> None:
        hold = {"op": "http", "name": "hold", "method": "GET", "url": f"{bench.outside.url}/hold"}
        with pytest.raises(InvalidRequest, match="bad"):
            bench(parallel(hold, pipeline(held(bench), fail(), name="q")))
        assert bench.outside.left.acquire(timeout=60)

    def test_an_error_stops_a_model_that_still_speaks(self, bench: Bench) -> None:
        talk = {"op": "llm", "name": "talk", "model": "endless", "user": "x"}
        with pytest.raises(InvalidRequest, match="bad"):
            bench(parallel(talk, pipeline(held(bench), fail(), name="q")))
        assert bench.outside.left.acquire(timeout=60)

    def test_an_error_stops_a_function_in_the_sandbox(self, bench: Bench) -> None:
        forever = code("def f(x):\n    while True:\n        pass", "forever")
        with pytest.raises(InvalidRequest, match=r"Step at_once\.bad") as caught:
            bench(parallel(forever, fail()))
        assert "forever" not in caught.value.message
        assert bench(code(ADD), 1) == 2  # an interpreter is free again


def held(bench: Bench) -> dict[str, Any]:
    """Return a step that ends once the external service holds a call."""
    return {"op": "http", "name": "wait", "method": "GET", "url": f"{bench.outside.url}/until-held"}


class TestDiverter:
    def test_hands_one_item_to_each_step(self, bench: Bench) -> None:
        step = {"op": "diverter", "steps": [code(ADD), code(DOUBLE)]}
        assert bench(step, [1, 10]) == [2, 20]

    def test_takes_an_object_by_the_names_of_the_steps(self, bench: Bench) -> None:
        step = {"op": "diverter", "steps": [code(ADD, "a"), code(DOUBLE, "b")], "join": "dict"}
        assert bench(step, {"b": 10, "a": 1}) == {"a": 2, "b": 20}

    def test_refuses_another_number_of_items(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="a list of 2") as caught:
            bench({"op": "diverter", "name": "d", "steps": [code(ADD), code(DOUBLE)]}, [1, 2, 3])
        assert (caught.value.code, caught.value.param) == ("type_clash", "d")


class TestWarp:
    def test_keeps_the_order_of_the_items(self, bench: Bench) -> None:
        assert bench({"op": "warp", "step": code(DOUBLE)}, list(range(600))) == [2 * n for n in range(600)]

    def test_each_item_is_a_step_of_the_trace(self, bench: Bench) -> None:
        bench({"op": "warp", "name": "w", "step": code(DOUBLE, "d")}, [1, 2])
        assert {path: step.output for path, step in bench.trace().items() if "[" in path} == {
            "w[0].d": 2,
            "w[1].d": 4,
        }

    @pytest.mark.parametrize("durability", ["off", "normal"])
    def test_the_outermost_step_of_the_trace_has_the_result(self, bench: Bench, durability: str) -> None:
        result = bench({"op": "warp", "name": "w", "step": code(DOUBLE, "d")}, [1, 2], durability=durability)
        assert bench.trace()["w"].output == result == [2, 4]

    def test_a_request_refused_by_a_model_is_collected_as_invalid_request_error(self, bench: Bench) -> None:
        model_step = {"op": "llm", "name": "l", "model": "clerk", "user": ref("value")}
        [outcome] = bench({"op": "warp", "name": "w", "collect": True, "step": model_step}, ["fail always"])
        assert (outcome["error"]["type"], outcome["error"]["code"]) == ("invalid_request_error", "refused")

    def test_item_and_index_are_available_in_inner_steps(self, bench: Bench) -> None:
        inner = pipeline(
            code(DOUBLE), code("lambda *a: list(a)", args=[ref("value"), ref("item"), ref("index")])
        )
        assert bench({"op": "warp", "step": inner}, [5, 6]) == [[10, 5, 0], [12, 6, 1]]

    def test_iterates_over_the_list_given_by_over(self, bench: Bench) -> None:
        assert bench({"op": "warp", "over": ref("input.list"), "step": code(ADD)}, {"list": [1]}) == [2]

    def test_an_empty_list_gives_an_empty_list(self, bench: Bench) -> None:
        assert bench({"op": "warp", "step": code(ADD)}, []) == []

    def test_names_the_item_that_fails(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match=r"(?s)Step w\[2\]\.inv: .*ZeroDivisionError"):
            bench(
                {"op": "warp", "name": "w", "step": code("lambda x: 1 / x", "inv"), "concurrency": 1},
                [1, 2, 0, 4],
            )
        assert {path for path, step in bench.trace().items() if step.status == "completed"} == {
            "w[0].inv",
            "w[1].inv",
        }

    def test_collects_errors_by_choice(self, bench: Bench) -> None:
        out = bench({"op": "warp", "step": code("lambda x: 4 / x"), "collect": True}, [1, 0, 2])
        assert (out[0], out[2]) == (4, 2)
        assert out[1]["error"]["code"] == "code_failed"

    def test_a_skipped_item_is_null(self, bench: Bench) -> None:
        step = {"op": "warp", "step": code(ADD, when={"$gt": [ref("item"), 1]})}
        assert bench(step, [1, 2]) == [None, 3]

    def test_refuses_an_input_that_is_not_a_list(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="iterates over a list"):
            bench({"op": "warp", "step": code(ADD)}, {"a": 1})

    def test_returns_all_answers_with_limited_concurrency(self, bench: Bench) -> None:
        step = {
            "op": "warp",
            "step": {"op": "llm", "user": {"$template": "say {x}", "$with": {"x": ref("item")}}},
            "concurrency": 3,
        }
        assert bench(step, [str(n) for n in range(9)]) == [f"say {n}" for n in range(9)]


class TestSwitchAndBranch:
    def test_runs_the_first_matching_case_or_the_default(self, bench: Bench) -> None:
        step = {
            "op": "switch",
            "on": ref("input.kind"),
            "cases": [
                {"equals": "a", "step": code("lambda x: 'A'")},
                {"when": {"$in": [ref("input.kind"), ["b", "c"]]}, "step": code("lambda x: 'BC'")},
            ],
            "default": code("lambda x: 'other'"),
        }
        assert [bench(step, {"kind": kind}) for kind in ("a", "c", "z")] == ["A", "BC", "other"]

    def test_a_condition_may_be_code(self, bench: Bench) -> None:
        step = {
            "op": "switch",
            "cases": [{"when": {"$code": "lambda x: x > 5"}, "step": code("lambda x: 'big'")}],
            "default": code("lambda x: 'small'"),
        }
        assert [bench(step, n) for n in (9, 1)] == ["big", "small"]

    def test_a_switch_without_a_matching_case_is_an_error(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="No case of the switch matches") as caught:
            bench({"op": "switch", "name": "s", "cases": [{"equals": 1, "step": code(ADD)}]}, 2)
        assert caught.value.code == "no_case"

    def test_a_case_distinguishes_true_from_the_number_one(self, bench: Bench) -> None:
        cases = [
            {"equals": 1, "step": code("lambda x: 'number'")},
            {"equals": True, "step": code("lambda x: 'truth'")},
        ]
        step = {"op": "switch", "cases": cases}
        assert [bench(step, flow_input) for flow_input in (1, True)] == ["number", "truth"]

    def test_a_branch_without_else_passes_its_input_on(self, bench: Bench) -> None:
        step = {"op": "branch", "condition": {"$code": "lambda x: x > 5"}, "then": code(DOUBLE)}
        assert [bench(step, n) for n in (6, 5)] == [12, 5]

    def test_a_branch_has_an_else(self, bench: Bench) -> None:
        step = {
            "op": "branch",
            "condition": {"$gt": [ref("value"), 5]},
            "then": code(DOUBLE),
            "else": code(ADD),
        }
        assert [bench(step, n) for n in (6, 5)] == [12, 6]


class TestLoop:
    def test_feeds_its_output_back_until_the_condition_is_met(self, bench: Bench) -> None:
        step = {"op": "loop", "limit": 100, "step": code(DOUBLE), "until": {"$gt": [ref("value"), 50]}}
        assert bench(step, 1) == 64

    def test_stops_at_its_limit(self, bench: Bench) -> None:
        assert bench({"op": "loop", "limit": 3, "step": code(ADD)}, 0) == 3

    def test_fails_at_its_limit_if_exhausted_is_fail(self, bench: Bench) -> None:
        step = {
            "op": "loop",
            "name": "l",
            "limit": 3,
            "step": code(ADD),
            "until": {"$gt": [ref("value"), 9]},
            "exhausted": "fail",
        }
        with pytest.raises(InvalidRequest, match="was not met after 3 rounds") as caught:
            bench(step, 0)
        assert caught.value.code == "loop_exhausted"

    def test_keeps_a_state_between_rounds(self, bench: Bench) -> None:
        body = pipeline(
            code("lambda seen, n: seen + [n]", "note", args=[ref("state.seen"), ref("index")], save="seen"),
            code("lambda x: len(x)"),
            name="body",
        )
        step = pipeline(
            {
                "op": "loop",
                "name": "l",
                "limit": 4,
                "step": body,
                "state": {"seen": []},
                "until": {"$eq": [ref("state.seen[2]", **{"$default": None}), 2]},
            },
        )
        assert bench(step) == 3

    def test_the_until_condition_can_be_code_and_refer_to_steps(self, bench: Bench) -> None:
        step = {
            "op": "loop",
            "limit": 9,
            "step": code(ADD, "up"),
            "until": {"$code": "lambda n: n == 4", "$args": [ref("steps.up")]},
        }
        assert bench(step, 0) == 4


class TestGraph:
    def test_runs_steps_after_the_steps_they_refer_to(self, bench: Bench) -> None:
        step = {
            "op": "graph",
            "name": "g",
            "steps": [
                code("lambda a, b: a + b", "total", args=[ref("steps.left"), ref("steps.right")]),
                code(ADD, "left"),
                code(DOUBLE, "right", args=[ref("steps.left")]),
            ],
            "output": ref("steps.total"),
        }
        assert bench(step, 1) == 6
        step_paths = [path for path in bench.trace() if path.startswith("g.")]
        assert step_paths == ["g.left", "g.right", "g.total"]

    def test_runs_steps_in_the_order_given_by_after(self, bench: Bench) -> None:
        step = {
            "op": "graph",
            "name": "g",
            "steps": [code(ADD, "a"), code(ADD, "b"), code(ADD, "c")],
            "after": {"a": ["b"], "b": ["c"]},
        }
        bench(step, 1)
        assert [path for path in bench.trace() if path.startswith("g.")] == ["g.c", "g.b", "g.a"]

    def test_an_error_of_a_step_ends_the_graph(self, bench: Bench) -> None:
        step = {"op": "graph", "name": "g", "steps": [fail("a"), code(ADD, "b", args=[ref("steps.a")])]}
        with pytest.raises(PorticoError, match=r"Step g\.a"):
            bench(step, 1)
        assert "g.b" not in bench.trace()


class TestSubflow:
    def test_a_subflow_sees_only_its_own_input(self, bench: Bench) -> None:
        inner = pipeline(code("lambda x, i: [x, i]", args=[ref("value"), ref("input")]), name="inner")
        assert bench(pipeline(code(ADD, "a"), {"op": "subflow", "step": inner}), 1) == [2, 2]

    def test_runs_a_deployed_app_in_the_same_run(self, bench: Bench) -> None:
        bench.client.apps.deploy("doubler", {"portico_flow": 1, "step": code(DOUBLE, "twice")})
        assert bench(pipeline(code(ADD), {"op": "subflow", "name": "sub", "app": "doubler"}), 1) == 4
        assert bench.trace()["p.sub.twice"].output == 4

    def test_a_flow_that_calls_itself_is_stopped_with_an_error(self, bench: Bench) -> None:
        bench.client.apps.deploy("selfish", {"portico_flow": 1, "step": code(ADD)})
        bench.client.apps.deploy(
            "selfish", {"portico_flow": 1, "step": {"op": "subflow", "name": "again", "app": "selfish"}}
        )
        with pytest.raises(InvalidRequest, match="a flow calls itself") as caught:
            bench({"op": "subflow", "app": "selfish"})
        assert caught.value.code == "too_deep"

    def test_validates_the_input_by_the_schema_of_the_app(self, bench: Bench) -> None:
        flow = {"portico_flow": 1, "step": code(ADD), "input_schema": {"type": "integer"}}
        bench.client.apps.deploy("counting", flow)
        with pytest.raises(InvalidRequest, match="The input does not match its schema") as caught:
            bench({"op": "subflow", "app": "counting"}, "x")
        assert caught.value.code == "schema_mismatch"
