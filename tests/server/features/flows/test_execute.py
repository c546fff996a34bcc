"""The execution of a step: conditions, attempts, limits, the cache, and the handling of errors."""

from __future__ import annotations

from uuid import uuid4

import pytest
from tests.server.features.flows.steps import Bench, code, pipeline, ref

from portico.errors import InvalidRequest, PorticoError
from portico_server.features.flows import read

ADD = "lambda x: x + 1"


def flaky(bench: Bench, fails: int, **more: object) -> dict[str, object]:
    """Return a step that calls an address that fails ``fails`` times, under its own name."""
    url = f"{bench.outside.url}/flaky/{uuid4().hex}/{fails}"
    return {"op": "http", "name": "ask", "method": "GET", "url": url, **more}


class TestRetry:
    def test_retries_a_temporary_error_until_it_succeeds(self, bench: Bench) -> None:
        assert bench(flaky(bench, 2, retry={"times": 2, "delay": 0.01}))["status"] == 200
        assert bench.trace()["ask"].attempt == 3

    def test_gives_up_after_the_given_number_of_retries(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match="answered 503") as caught:
            bench(flaky(bench, 9, retry={"times": 2, "delay": 0.01}))
        assert caught.value.code == "http_error"
        assert bench.trace()["ask"].attempt == 3

    def test_does_not_retry_a_permanent_error(self, bench: Bench) -> None:
        step = {
            "op": "http",
            "name": "ask",
            "method": "GET",
            "url": f"{bench.outside.url}/status/404",
            "retry": 3,
        }
        with pytest.raises(InvalidRequest, match="answered 404"):
            bench(step)
        assert bench.trace()["ask"].attempt == 1

    def test_retries_the_error_codes_listed_in_on(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest):
            bench(code("lambda x: 1 / 0", "c", retry={"times": 1, "delay": 0.01, "on": ["code_failed"]}))
        assert bench.trace()["c"].attempt == 2

    def test_a_retry_of_a_combinator_reruns_its_steps(self, bench: Bench) -> None:
        step = pipeline(code(ADD, "a"), flaky(bench, 1), retry={"times": 1, "delay": 0.01})
        assert bench(step, 1)["status"] == 200
        assert {"p.a", "p#2.a", "p.ask", "p#2.ask"} <= set(bench.trace())

    def test_an_effect_has_the_same_key_each_time(self, bench: Bench) -> None:
        url = f"{bench.outside.url}/effect"
        step = {
            "op": "http",
            "name": "e",
            "method": "POST",
            "url": url,
            "body": "x",
            "timeout": 30,
            "retry": 1,
        }
        bench(step)
        [key] = [key for key in bench.outside.calls if key.endswith(":e")]
        assert key.startswith(f"{bench.run_id}:")
        assert bench.outside.calls[key] == 1


class TestTimeout:
    def test_a_step_past_its_timeout_fails_and_its_request_is_cancelled(self, bench: Bench) -> None:
        hold = {
            "op": "http",
            "name": "hold",
            "method": "GET",
            "url": f"{bench.outside.url}/hold",
            "timeout": 2,
        }
        with pytest.raises(PorticoError, match=r"Step hold: The step did not finish within 2 s") as caught:
            bench(hold)
        assert (caught.value.status, caught.value.code) == (None, "timeout")
        assert bench.outside.held.acquire(timeout=60)
        assert bench.outside.left.acquire(timeout=60)

    def test_a_flow_past_its_timeout_fails_and_its_request_is_cancelled(self, bench: Bench) -> None:
        hold = {"op": "http", "name": "hold", "method": "GET", "url": f"{bench.outside.url}/hold"}
        with pytest.raises(PorticoError, match="The flow 't' did not finish within 2 s"):
            bench(hold, timeout=2)
        assert bench.outside.held.acquire(timeout=60)
        assert bench.outside.left.acquire(timeout=60)

    def test_a_model_past_its_timeout_is_cancelled_while_it_streams(self, bench: Bench) -> None:
        bench.outside.answers = [{"content": "It is loaded now: the limit is for its words."}]
        bench({"op": "llm", "name": "m", "model": "endless", "user": "x"})
        with pytest.raises(PorticoError, match="did not finish within"):
            bench({"op": "llm", "name": "m", "model": "endless", "user": "x", "timeout": 2})
        assert bench.outside.held.acquire(timeout=60)
        assert bench.outside.left.acquire(timeout=60)


class TestOnError:
    def test_a_failed_step_is_replaced_by_the_value_of_on_error(self, bench: Bench) -> None:
        step = pipeline(
            code("lambda x: 1 / 0", "bad", on_error={"value": {"why": ref("value.error.code")}}),
            code("lambda x: [x]"),
        )
        assert bench(step) == [{"why": "code_failed"}]
        assert bench.trace()["p.bad"].status == "failed"
        assert bench.trace()["p.bad"].output == {"why": "code_failed"}

    def test_jumps_to_a_later_step(self, bench: Bench) -> None:
        step = pipeline(
            code("lambda x: 1 / 0", "bad", on_error={"goto": "rescue"}),
            code("lambda x: 'never'", "between"),
            code("lambda x: ['rescued', x['error']['code']]", "rescue"),
        )
        assert bench(step) == ["rescued", "code_failed"]
        assert "p.between" not in bench.trace()

    def test_goto_jumps_out_of_the_enclosing_combinator(self, bench: Bench) -> None:
        inner = {
            "op": "parallel",
            "name": "q",
            "steps": [code("lambda x: 1 / 0", "bad", on_error={"goto": "last"}), code(ADD)],
        }
        assert bench(pipeline(inner, code(ADD, "no"), code("lambda x: 'last'", "last")), 1) == "last"

    def test_steps_jumped_over_by_goto_count_as_skipped(self, bench: Bench) -> None:
        step = pipeline(
            code("lambda x: 1 / 0", "bad", on_error={"goto": "last"}),
            code(ADD, "between"),
            code("lambda v: v", "last", args=[ref("steps.between", **{"$default": "nothing"})]),
        )
        assert bench(step) == "nothing"

    def test_the_value_of_on_error_can_be_code(self, bench: Bench) -> None:
        value = {"$code": "lambda error: error['code'].upper()", "$args": [ref("value.error")]}
        assert bench(code("lambda x: 1 / 0", on_error={"value": value})) == "CODE_FAILED"

    def test_a_failing_on_error_value_is_the_error_of_the_step(self, bench: Bench) -> None:
        step = code("lambda x: 1 / 0", "bad", on_error={"value": ref("value.nothing")})
        with pytest.raises(InvalidRequest, match="does not resolve"):
            bench(step)
        assert bench.trace()["bad"].error["code"] == "reference_not_found"


class TestWhenAndSave:
    def test_a_condition_may_be_code(self, bench: Bench) -> None:
        step = pipeline(code(ADD, "a"), code("lambda x: 'taken'", when={"$code": "lambda x: x == 2"}))
        assert [bench(step, n) for n in (1, 2)] == ["taken", 3]

    def test_a_reference_to_a_skipped_step_says_so(self, bench: Bench) -> None:
        step = pipeline(
            code(ADD, "a", when={"$gt": [ref("value"), 5]}), code(ADD, "b", args=[ref("steps.a")])
        )
        with pytest.raises(
            InvalidRequest, match=r"the step 'a', which was skipped\. Add a '\$default' to the reference"
        ) as caught:
            bench(step, 1)
        assert caught.value.code == "step_skipped"

    def test_a_skipped_step_saves_nothing(self, bench: Bench) -> None:
        body = pipeline(
            code(ADD, "a", when={"$eq": [1, 2]}, save="kept"),
            code("lambda s: s", args=[ref("state")]),
            name="b",
        )
        assert bench({"op": "loop", "limit": 1, "step": body}, 1) == {}


class TestCache:
    def calls(self, bench: Bench, path: str) -> int:
        return bench.outside.calls[path]

    def test_the_lifetime_of_a_cached_output_is_limited_to_30_days(self) -> None:
        spec = read.flow({"portico_flow": 1, "step": code("lambda a: a", cache={"ttl": 1e9})})
        assert spec.step.cache == 30 * 86_400

    def cached(self, bench: Bench, **more: object) -> tuple[dict[str, object], str]:
        path = f"/flaky/{uuid4().hex}/0"
        step = {
            "op": "http",
            "name": "ask",
            "method": "GET",
            "url": bench.outside.url + path,
            "cache": True,
            **more,
        }
        return step, path

    def test_gives_the_same_output_without_doing_it_again(self, bench: Bench) -> None:
        step, path = self.cached(bench)
        assert bench(step, 1) == bench(step, 1)
        assert self.calls(bench, path) == 1
        assert bench.trace()["ask"].hit

    def test_a_cached_step_runs_again_for_another_input(self, bench: Bench) -> None:
        step, path = self.cached(bench)
        bench(step, 1)
        bench(step, 2)
        assert self.calls(bench, path) == 2

    def test_values_referenced_by_inner_steps_are_part_of_the_cache_key(self, bench: Bench) -> None:
        inner = pipeline(code("lambda a: a", args=[ref("steps.first")]), name="inner", cache=True)
        step = pipeline(code(ADD, "first"), code("lambda x: 'same'"), inner)
        assert [bench(step, n) for n in (1, 2)] == [2, 3]

    def test_a_failure_is_not_cached(self, bench: Bench) -> None:
        step = flaky(bench, 1, cache=True)
        with pytest.raises(PorticoError):
            bench(step)
        assert bench(step)["status"] == 200

    def test_a_cached_combinator_with_only_a_skipped_step_passes_its_input_on(self, bench: Bench) -> None:
        inner = {"op": "branch", "condition": True, "then": code(ADD, when={"$eq": [1, 2]}), "cache": True}
        assert bench(pipeline(inner), 7) == 7


class TestSchemas:
    def test_an_output_of_a_step_that_violates_its_schema_is_refused(self, bench: Bench) -> None:
        with pytest.raises(
            InvalidRequest, match="The output of the step c does not match its schema"
        ) as caught:
            bench(code("lambda x: 'text'", "c", output_schema={"type": "integer"}))
        assert caught.value.code == "schema_mismatch"

    def test_an_input_that_violates_its_schema_is_refused(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match=r"The input does not match its schema: at \.n"):
            bench(
                code(ADD),
                {"n": "x"},
                input_schema={"type": "object", "properties": {"n": {"type": "integer"}}},
            )

    def test_an_output_of_a_flow_that_violates_its_schema_is_refused(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="The output does not match its schema"):
            bench(code("lambda x: 'text'"), output_schema={"type": "integer"})
