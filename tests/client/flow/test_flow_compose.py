"""The output of composing: arguments, bindings, templates, names; and what composing rejects before any request is
sent.
"""

from __future__ import annotations

import builtins
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypedDict

import pytest

import portico.flow
from portico import InvalidRequest
from portico._step import StepLike
from portico.flow import (
    _0,
    _1,
    bind,
    branch,
    client,
    code,
    diverter,
    embed,
    flow,
    graph,
    http,
    input,
    intent,
    item,
    llm,
    loop,
    output,
    parallel,
    pipeline,
    rerank,
    retrieve,
    switch,
    template,
    tool,
    value,
    warp,
)

VALUE = {"$ref": "value"}
SPREAD = {"$spread": VALUE}


class Section(TypedDict):
    title: str
    describe: str


@dataclass
class Order:
    item: str
    count: int = 1


def spec(step: StepLike, **more: Any) -> dict[str, Any]:
    """Return the root step of a flow as JSON."""
    root_step: dict[str, Any] = dict(flow(step, **more).spec["step"])
    return root_step


def last(step: StepLike, **more: Any) -> dict[str, Any]:
    """Return the last step of a pipeline as JSON."""
    last_step: dict[str, Any] = spec(step, **more)["steps"][-1]
    return last_step


def refused(step: StepLike, **more: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        flow(step, **more)
    return caught.value


class TestArguments:
    def test_a_function_gets_what_flows_in(self) -> None:
        assert spec(lambda x: x) == {"name": "code", "op": "code", "source": "lambda x: x"}

    def test_a_pack_is_spread_over_several_parameters(self) -> None:
        assert last(pipeline(parallel(llm(), llm()), lambda a, b: a + b))["args"] == [SPREAD]
        assert last(pipeline(warp(llm()), lambda *all: all))["args"] == [SPREAD]

    def test_a_pack_goes_whole_to_a_single_parameter(self) -> None:
        assert "args" not in last(pipeline(parallel(llm(), llm()), lambda both: both))
        assert "args" not in last(pipeline(warp(llm()), lambda all, sep=" ": sep.join(all)))

    def test_joined_parallel_results_are_not_spread(self) -> None:
        assert "args" not in last(pipeline(parallel(llm(), llm(), join="text"), lambda text, n=1: text * n))

    def test_bound_arguments_stand_beside_what_flows_in(self) -> None:
        last_step = last(pipeline(a=llm(), b=bind(lambda x, q: x + q, q=input)))
        assert (last_step["args"], last_step["kwargs"]) == ([VALUE], {"q": {"$ref": "input"}})

    def test_the_flowing_value_does_not_fill_a_bound_parameter(self) -> None:
        last_step = last(pipeline(a=llm(), b=bind(lambda q, x: x + q, q=input)))
        assert (last_step["args"], last_step["kwargs"]) == ([], {"q": {"$ref": "input"}, "x": VALUE})

    def test_spread_results_do_not_fill_a_bound_parameter(self) -> None:
        last_step = last(pipeline(parallel(llm(), llm()), bind(lambda q, a, b: a + b + q, q=input)))
        assert last_step["args"] == []
        assert last_step["kwargs"]["a"] == {"$ref": "value[0]"}
        assert last_step["kwargs"]["b"] == {"$ref": "value[1]"}

    def test_a_function_with_all_arguments_bound_receives_no_flowing_value(self) -> None:
        last_step = last(pipeline(a=llm(), b=bind(lambda x: x, x=output("a"))))
        assert (last_step["args"], last_step["kwargs"]) == ([], {"x": {"$ref": "steps.a"}})

    def test_positional_placeholders_select_and_reorder_results(self) -> None:
        last_step = last(pipeline(parallel(llm(), llm()), bind(lambda a, b: a + b, _1, _0)))
        assert last_step["args"] == [{"$ref": "value[1]"}, {"$ref": "value[0]"}]
        assert last(pipeline(llm(), bind(lambda a, b: a, _0, 7)))["args"] == [VALUE, 7]

    def test_a_client_side_function_is_called_with_keyword_arguments(self) -> None:
        lock = threading.Lock()

        def mine(text: str, times: int = 2) -> str:
            with lock:
                return text * times

        built_flow = flow(pipeline(llm(), bind(mine, times=3)))
        last_step = built_flow.spec["step"]["steps"][-1]
        assert (last_step["op"], last_step["function"]) == ("client", "mine")
        assert (last_step["args"], last_step["kwargs"]) == ([], {"text": VALUE, "times": 3})
        assert built_flow.functions == {"mine": mine}
        assert "'lock'" in built_flow.reasons["mine"]

    def test_a_variadic_client_function_is_called_with_positional_arguments(self) -> None:
        lock = threading.Lock()
        built_flow = flow(pipeline(warp(llm()), client(lambda *all: (lock, all))))
        assert built_flow.spec["step"]["steps"][-1]["args"] == [SPREAD]

    def test_client_side_lambdas_get_distinct_names(self) -> None:
        lock = threading.Lock()
        built_flow = flow(pipeline(a=lambda x: (lock, x), b=lambda x: (x, lock)))
        assert set(built_flow.functions) == {"a", "b"}


class TestNames:
    def test_steps_are_named_after_functions(self) -> None:
        def shorten(text: str) -> str:
            return text[:10]

        assert [step["name"] for step in spec(pipeline(llm(), shorten, shorten))["steps"]] == [
            "llm1",
            "shorten",
            "code3",
        ]

    def test_cases_are_named_after_what_they_are_equal_to(self) -> None:
        cases = spec(switch({"chat": llm(), "画图": llm(), 3: llm()}))["cases"]
        assert [case["step"]["name"] for case in cases] == ["chat", "case2", "case3"]

    def test_duplicate_step_names_are_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="Two steps are named 'a'"):
            pipeline(llm().named("a"), a=llm())


class TestBinding:
    def test_a_combinator_binds_its_steps(self) -> None:
        story = pipeline(a=llm(), b=lambda x, y: x + y).bind(b={"x": output("a"), "y": input.topic})
        assert last(story)["kwargs"] == {"x": {"$ref": "steps.a"}, "y": {"$ref": "input.topic"}}

    def test_a_template_binds_its_variables(self) -> None:
        root_step = spec(llm(user="{greeting} {name}").bind(greeting="Hello"))
        assert root_step["user"] == {
            "$template": "{greeting} {name}",
            "$with": {"greeting": "Hello", "name": {"$ref": 'value["name"]'}},
        }

    def test_a_text_with_json_stays_as_it_is(self) -> None:
        assert spec(llm(system='Answer {"a": {"b": 1}}'))["system"] == 'Answer {"a": {"b": 1}}'

    def test_references_are_serialized_with_paths_defaults_and_templates(self) -> None:
        root_step = spec(tool("t", a=input.x[0]["y z"], b=value.n.or_else(3), c=template("{q}", q=input)))
        assert root_step["arguments"] == {
            "a": {"$ref": 'input.x[0]["y z"]'},
            "b": {"$ref": "value.n", "$default": 3},
            "c": {"$template": "{q}", "$with": {"q": {"$ref": "input"}}},
        }

    def test_binding_an_unknown_argument_or_step_is_refused_with_a_reason(self) -> None:
        assert "has no argument 'z' to bind; it has x" in refused(bind(lambda x: x, z=1)).message
        assert "variable '{z}'" in refused(llm(user="{a}").bind(z=1)).message
        with pytest.raises(InvalidRequest, match="no step 'c' to bind; steps are a, b"):
            pipeline(a=llm(), b=llm()).bind(c={"x": 1})
        with pytest.raises(InvalidRequest, match=r"Bind 'b' to dict\(argument=…\)"):
            pipeline(a=llm(), b=llm()).bind(b=1)
        with pytest.raises(InvalidRequest, match="accepts keyword arguments"):
            llm().bind(1)
        assert (
            "_1: the step receives a single value" in refused(pipeline(llm(), bind(lambda a: a, _1))).message
        )

    def test_using_a_reference_as_a_bool_or_iterable_raises_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="branch"):
            bool(input.x)
        with pytest.raises(TypeError, match="warp"):
            iter(input)

    def test_a_non_json_tool_argument_is_refused(self) -> None:
        assert "cannot be sent" in refused(tool("t", a=threading.Lock())).message


class TestTypes:
    """Composing a flow compares the types in annotations with those in formats."""

    def test_passing_text_to_a_list_parameter_is_a_type_clash(self) -> None:
        def count(words: list[str]) -> int:
            return len(words)

        error = refused(pipeline(ask=llm(), count=count))
        assert error.code == "type_clash"
        assert error.message == (
            "The step 'count' accepts a list (each item: text) as 'words', but the step 'ask' provides text."
        )

    def test_list_item_types_are_checked_between_steps(self) -> None:
        def numbers(x: str) -> list[int]:
            return [len(x)]

        def words(x: list[str]) -> str:
            return " ".join(x)

        error = refused(pipeline(a=numbers, b=words))
        assert (
            "a list (each item: text) as 'x', but the step 'a' provides "
            "a list (each item: a whole number)" in error.message
        )

    def test_each_argument_of_a_spread_is_type_checked(self) -> None:
        def size(x: str) -> int:
            return len(x)

        def both(a: str, b: str) -> str:
            return a + b

        error = refused(pipeline(two=parallel(llm(), size), both=both))
        assert "accepts text as 'b', but the step 'two' provides a whole number" in error.message

    def test_more_parallel_results_than_parameters_are_refused(self) -> None:
        error = refused(pipeline(three=parallel(llm(), llm(), llm()), both=lambda a, b: a + b))
        assert (
            "The step 'three' provides 3 values, but the function of the step 'both' accepts a, b"
            in error.message
        )

    def test_a_warp_over_text_is_refused(self) -> None:
        error = refused(pipeline(ask=llm(), each=warp(llm())))
        assert error.message == "The step 'each' iterates over a list, but the step 'ask' provides text."

    def test_the_item_type_of_a_warp_is_checked_against_its_step(self) -> None:
        def title(section: str) -> str:
            return section

        error = refused(pipeline(outline=llm(format=list[Section]), titles=warp(title)))
        assert "accepts text as 'section', but the step 'outline' provides an object" in error.message

    def test_the_result_type_of_a_warp_is_checked_against_the_next_step(self) -> None:
        def join(texts: list[int]) -> str:
            return str(texts)

        assert "provides a list (each item: text)" in refused(pipeline(each=warp(llm()), join=join)).message

    def test_prompt_variables_without_a_matching_key_are_refused(self) -> None:
        sections = llm(format=list[Section])
        error = refused(pipeline(outline=sections, write=warp(llm(user="{title} {body}"))))
        assert error.code == "missing_variable"
        assert "the variable '{body}', but the step 'outline' provides only title, describe" in error.message
        error = refused(pipeline(a=llm(), b=llm(user="Translate {text}")))
        assert "the variable '{text}', but the step 'a' provides text" in error.message

    def test_the_declared_input_type_of_a_flow_is_checked(self) -> None:
        def count(words: list[str]) -> int:
            return len(words)

        assert "but the input of the flow provides text" in refused(count, input=str).message
        assert spec(llm(user="{item}: {count}"), input=Order)["user"] == "{item}: {count}"

    def test_a_type_clash_is_described_with_readable_type_names(self) -> None:
        def small(x: int) -> int:
            return x

        def flag(x: bool) -> bool:
            return x

        assert (
            "true or false as 'x', but the step 'a' provides a whole number"
            in refused(pipeline(a=small, b=flag)).message
        )
        assert "but the step 'a' provides a list" in refused(pipeline(a=embed(), b=small)).message

    def test_possibly_compatible_types_are_accepted(self) -> None:
        def maybe(x: str | None) -> float:
            return len(x or "")

        def exact(x: int) -> int:
            return x

        def anything(x: Any) -> Any:
            return x

        def texts(rows: list[dict[str, Any]]) -> str:
            return str(rows)

        flow(pipeline(llm(), maybe, exact, anything, texts, bind(texts, input)))
        flow(pipeline(retrieve("s"), rerank("r"), texts))
        flow(pipeline(llm().on_error([]), warp(llm())))  # on an error, a list can take its place
        flow(pipeline(llm(tools=[{"type": "function"}]), lambda x: x["tool_calls"]))

    def test_unresolvable_annotations_are_ignored_by_the_type_check(self) -> None:
        def odd(x: Nowhere) -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
            return x

        flow(pipeline(llm(), odd))


class TestCombinators:
    def test_switch_on_an_intent_step_becomes_a_graph_of_two_steps(self) -> None:
        root_step = spec(switch({"a": llm(), "b": llm("other")}, on=intent(model="small"), default=llm()))
        assert root_step["op"] == "graph"
        intent_step, switch_step = root_step["steps"]
        assert intent_step["intents"] == {"a": {}, "b": {}}
        assert switch_step["on"] == {"$ref": "steps.intent"}
        assert switch_step["default"]["op"] == "llm"

    def test_switch_on_a_function_refers_to_the_result_of_the_code_step(self) -> None:
        root_step = spec(
            switch({"long": llm()}, on=code(lambda x: "long" if len(x) > 9 else "short").named("size"))
        )
        assert root_step["steps"][1]["on"] == {"$ref": "steps.size"}

    def test_lambda_conditions_are_serialized_as_source_code(self) -> None:
        root_step = spec(switch({(lambda x: x > 1): llm()}))
        assert root_step["cases"][0]["when"] == {"$code": "lambda x: x > 1"}
        assert spec(loop(llm(), limit=3, until=lambda x: not x))["until"] == {"$code": "lambda x: not x"}
        assert spec(branch(input.flag, llm()))["condition"] == {"$ref": "input.flag"}

    def test_a_condition_that_cannot_run_in_the_sandbox_is_refused(self) -> None:
        lock = threading.Lock()
        error = refused(branch(lambda x: lock.locked(), llm()))
        assert "is a condition and must run in the daemon, but it uses 'lock'" in error.message

    def test_a_code_step_that_cannot_run_in_the_sandbox_is_refused(self) -> None:
        lock = threading.Lock()
        with pytest.raises(InvalidRequest, match=r"The lambda cannot run in the sandbox: it uses 'lock'"):
            code(lambda x: (lock, x))

    def test_an_empty_pipeline_or_a_non_step_is_refused_as_a_flow(self) -> None:
        with pytest.raises(InvalidRequest, match="At least one step is required"):
            pipeline()
        with pytest.raises(InvalidRequest, match="is not a step"):
            flow(3)  # type: ignore[arg-type]

    def test_a_diverter_type_checks_each_branch_against_its_own_value(self) -> None:
        def number(x: int) -> int:
            return x

        error = refused(pipeline(two=parallel(llm(), llm()), each=diverter(llm(), number)))
        assert "accepts a whole number as 'x', but the step 'two' provides text" in error.message

    def test_graph_dependencies_and_item_references_are_serialized(self) -> None:
        root_step = spec(graph(a=llm(), b=warp(tool("t", x=item), over=output("a")), after={"b": ["a"]}))
        assert root_step["after"] == {"b": ["a"]}
        assert root_step["steps"][1]["step"]["arguments"] == {"x": {"$ref": "item"}}


def test_an_http_step_defaults_to_the_get_method() -> None:
    assert http("https://example.com").fields == {"url": "https://example.com", "method": "GET"}
    assert http("https://example.com", method="POST", body={}).fields["method"] == "POST"


def test_a_pipeline_in_a_with_statement_is_refused_with_the_right_syntax() -> None:
    with pytest.raises(InvalidRequest, match="Steps are arguments"), pipeline():
        raise AssertionError
    with pytest.raises(InvalidRequest, match="pass its steps as arguments"), pipeline(str.upper):
        raise AssertionError


@pytest.mark.parametrize(
    ("word", "counterpart"),
    [
        ("ifs", "branch"),
        ("Ifs", "branch"),
        ("IFS", "branch"),
        ("Switch", "switch"),
        ("Loop", "loop"),
        ("Pipeline", "pipeline"),
        ("Parallel", "parallel"),
        ("Diverter", "diverter"),
        ("Warp", "warp"),
        ("Bind", "bind"),
        ("Retriever", "retrieve"),
        ("TrainableModule", "llm"),
        ("ReactAgent", "agent"),
        ("GPTAPI", "llm"),
    ],
)
def test_a_word_of_another_framework_names_its_counterpart(word: str, counterpart: str) -> None:
    with pytest.raises(ImportError, match=f"has no '{word}'. Use '{counterpart}'"):
        exec(f"from portico.flow import {word}")
    assert hasattr(portico.flow, counterpart)


def test_every_counterpart_exists_and_an_unknown_word_is_an_attribute_error() -> None:
    assert set(portico.flow.ELSEWHERE.values()) <= set(portico.flow.__all__)
    assert not set(portico.flow.ELSEWHERE) & set(portico.flow.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        portico.flow.nothing  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from portico.flow import nothing")


@pytest.mark.parametrize(
    "compose",
    [
        lambda: bind(lambda q: q, q=builtins.input),
        lambda: bind(lambda q: q, builtins.input),
        lambda: llm(user="{q}").bind(q=builtins.input),
        lambda: pipeline(a=lambda q: q).bind(a={"q": builtins.input}),
    ],
)
def test_python_s_own_input_is_refused_with_what_to_write(compose: Callable[[], StepLike]) -> None:
    with pytest.raises(InvalidRequest, match=r"'from portico\.flow import input'"):
        compose()
