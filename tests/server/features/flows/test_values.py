"""Values that double with every step: refused before they are created, with the place named."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.api_server import api_server
from tests.server.features.flows.steps import Bench, code, pipeline, ref, spec

from portico.errors import InvalidRequest
from portico_server.core.errors import PorticoError, TooMany
from portico_server.features.flows.budget import MAX_RUNS_PER_KEY, ValueBudget
from portico_server.features.flows.format import formatted
from portico_server.features.flows.join import join_outputs
from portico_server.features.flows.spec import OutputFormat

ROUNDS = 40
"""Number of doublings: sixteen bytes become a terabyte."""


def same(name: str, value: Any) -> dict[str, Any]:
    """Return a step whose output is the value of an expression."""
    return {
        "op": "branch",
        "name": name,
        "input": value,
        "condition": {"$eq": [1, 2]},
        "then": code("lambda x: x"),
    }


def template(_number: int) -> dict[str, Any]:
    return {"$template": "{a}{a}", "$with": {"a": ref("value")}}


def pair(_number: int) -> list[Any]:
    return [ref("value"), ref("value")]


def twice_named(_number: int) -> dict[str, Any]:
    return {"a": ref("value"), "b": ref("value")}


@pytest.mark.parametrize("made", [template, pair, twice_named])
def test_a_value_that_an_expression_doubles_is_refused_above_16_mib(bench: Bench, made: Any) -> None:
    steps = [same(f"s{number}", made(number)) for number in range(ROUNDS)]
    with pytest.raises(InvalidRequest, match="larger than 16 MiB") as caught:
        bench(pipeline(*steps), "sixteen bytes...")
    assert caught.value.code == "value_too_large"


@pytest.mark.parametrize("join", ["sum", "text", "list", "dict"])
def test_joined_outputs_above_16_mib_are_refused(bench: Bench, join: str) -> None:
    parallel_steps = [
        {
            "op": "parallel",
            "name": f"p{number}",
            "join": join,
            "steps": [same("a", ref("value")), same("b", ref("value"))],
        }
        for number in range(ROUNDS)
    ]
    with pytest.raises(InvalidRequest, match="larger than 16 MiB") as caught:
        bench(pipeline(*parallel_steps), "sixteen bytes...")
    assert caught.value.code == "value_too_large"


def test_a_loop_state_above_16_mib_is_refused(bench: Bench) -> None:
    step = {**same("s", [ref("state"), ref("state")]), "save": "kept"}
    with pytest.raises(InvalidRequest, match="larger than 16 MiB"):
        bench({"op": "loop", "name": "l", "limit": ROUNDS, "state": {"kept": "x"}, "step": step}, "x")


def test_arguments_of_a_function_above_16_mib_are_refused(bench: Bench) -> None:
    steps = [same(f"s{number}", pair(number)) for number in range(19)]
    step = code("lambda *a: len(a)", "c", args=[ref("value") for _ in range(8)])
    with pytest.raises(InvalidRequest, match="larger than 16 MiB"):
        bench(pipeline(*steps, step), "x")


def test_a_large_value_below_the_limit_is_accepted(bench: Bench) -> None:
    steps = [same(f"s{number}", template(number)) for number in range(10)]
    assert len(bench(pipeline(*steps), "x" * 1024)) == 2**20


def test_a_deep_value_is_not_blown_up_by_its_layout(bench: Bench) -> None:
    deep: Any = ["x"] * 100_000
    for _level in range(60):
        deep = [deep]
    template = {"$template": "{a}", "$with": {"a": ref("value")}}
    assert len(bench(same("s", template), deep)) < 500_000


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]", "aliases are not allowed, and line 2 has an alias"),
        ("[" * 5000, "nested deeper than 64 levels"),
        ("a: " + "1:" * 5000 + "1", "a number of more than 100 characters"),
        ("2001-01-01: x", "a value that JSON does not support"),
        ("a: 2001-99-99", "a value that JSON does not support"),
        ("a: [", "its YAML is invalid"),
    ],
)
def test_yaml_answers_with_aliases_deep_nesting_or_unsupported_values_are_refused(
    bench: Bench, text: str, says: str
) -> None:
    step = {"op": "llm", "name": "m", "model": "echo", "format": {"type": "yaml", "attempts": 1}}
    with pytest.raises(InvalidRequest, match=says) as caught:
        bench(step, text)
    assert caught.value.code == "format_failed"


def test_a_number_outside_the_range_of_json_fails_the_step(bench: Bench) -> None:
    with pytest.raises(InvalidRequest) as caught:
        bench(
            {"op": "llm", "name": "m", "model": "echo", "format": {"type": "json", "attempts": 1}}, "9" * 400
        )
    assert caught.value.code in ("not_json", "format_failed")


async def test_values_made_by_steps_count_against_the_memory_limit_of_the_run(tmp_path: Path) -> None:
    doubled = [same(f"s{number}", template(number)) for number in range(13)]
    template_steps = [
        same(f"m{number}", {"$template": f"{number}{{a}}", "$with": {"a": ref("value")}})
        for number in range(9)
    ]
    async with api_server(tmp_path, flow_run_mb=1) as api:
        body = {
            "flow": spec(pipeline(*doubled, *template_steps), durability="off"),
            "input": "sixteen bytes...",
        }
        answer = await api.client.post("/api/flows/run", json=body)
    assert '"code":"value_too_large"' in answer.text
    assert "exceed 1 MiB" in answer.text


async def test_the_runs_of_one_key_share_a_memory_limit() -> None:
    budget = ValueBudget(1, 1)
    runs = [budget.fresh("greedy") for _number in range(MAX_RUNS_PER_KEY)]
    for run in runs:
        run.take(2**20, "a")
    with pytest.raises(TooMany) as caught:
        budget.fresh("greedy").take(1, "b")
    assert (caught.value.code, caught.value.param) == ("too_many_at_once", "b")
    budget.fresh("modest").take(2**20, "a")
    budget.fresh().take(2**20, "a")
    runs[0].release()
    budget.fresh("greedy").take(2**20, "a")


async def test_computing_large_values_does_not_block_the_event_loop() -> None:
    budget = ValueBudget().fresh("a")
    markers: list[str] = []

    def note() -> None:
        markers.append("something else")

    lists = [[[]] * 100 for _number in range(1_000)]
    asyncio.get_running_loop().call_soon(note)
    await budget.take_value(lists[:10], "a")
    assert await budget.compute(join_outputs, "sum", "", ["a", "b"], [[1], [2, 3]], "a", budget) == [1, 2, 3]
    assert not markers  # small work is not worth a thread
    await budget.take_value([list(row) for row in lists], "a")
    assert markers.pop()
    asyncio.get_running_loop().call_soon(note)
    names = [f"s{number}" for number in range(1_000)]
    assert len(await budget.compute(join_outputs, "sum", "", names, lists, "a", budget)) == 100_000
    assert markers.pop()
    with pytest.raises(PorticoError, match="cannot add a str to a list"):
        await budget.compute(join_outputs, "sum", "", ["a", "b"], [[1], "x"], "a", budget)
    for values, total in [
        ([1, 2.5, True], 4.5),
        (["a", "b"], "ab"),
        ([{"a": 1}, {"a": 2}], {"a": 2}),
        ([None], None),
    ]:
        assert join_outputs("sum", "", names[: len(values)], values, "a", budget) == total


async def test_very_long_answers_are_parsed_in_linear_time() -> None:
    async def word(text: str) -> Any:
        form = OutputFormat(type="json", schema={"enum": ["yes", "no"]})
        return await formatted(form, text, Mock())

    async def last(text: str) -> Any:
        return await formatted(OutputFormat(type="last"), text, Mock())

    assert await word(" **Yes!** ") == "yes"
    for text in ("!" * 2_000_000 + "a", "[" + "1," * 2_000_000 + "1]"):
        with pytest.raises(PorticoError) as caught:
            await word(text)
        assert caught.value.code == "format_failed"
    ends = ("\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029")
    for end in ends:
        assert await last(f"a{end} b {end} {end}") == "b"
    assert [await last(text) for text in ("", " \n ", "a", "a\n" * 100_000)] == ["", "", "a", "a"]


async def test_large_steps_of_many_runs_do_not_block_the_event_loop() -> None:
    budget = ValueBudget()
    done: list[int] = []

    async def run(number: int) -> None:
        account = budget.fresh("a")
        for _step in range(3):
            account.take(2**20, "a")
            done.append(number)
            await account.give_way()

    running = [asyncio.create_task(run(number)) for number in range(4)]
    await asyncio.sleep(0)  # all have started
    rounds = 0
    while not all(task.done() for task in running):
        count_before = len(done)
        await asyncio.sleep(0)
        assert len(done) <= count_before + 1
        rounds += 1
    assert rounds >= 8
