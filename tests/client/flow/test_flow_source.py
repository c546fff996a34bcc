"""Which functions travel, whether they behave the same in the sandbox, and why other functions stay."""

from __future__ import annotations

import builtins
import contextlib
import json
import linecache
import re as regular
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from tests.client.flow import outside
from tests.client.flow.outside import Shelf

from portico import _source
from portico._source import Bound, Portable, portable
from portico_server.core.errors import InvalidRequest
from portico_server.features.sandbox.light import LightSandbox


@pytest.fixture
async def light() -> AsyncIterator[LightSandbox]:
    sandbox = LightSandbox()
    yield sandbox
    await sandbox.close()


def source(function: Callable[..., Any]) -> str:
    result = portable(function)
    assert isinstance(result, Portable), result
    return result.source


def reason(function: Callable[..., Any]) -> str:
    result = portable(function)
    assert isinstance(result, Bound), result
    return result.reason


async def same(light: LightSandbox, function: Callable[..., Any], *args: Any) -> None:
    """Assert that the function returns the same value here and in the sandbox."""
    text = source(function)
    await light.check(text)
    assert await light.evaluate(text, args, {}) == function(*args)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (outside.round_down, 2.7),
        (outside.clean, "  a \n b "),
        (outside.uses_modules, "costs 4.2 crowns"),
        (outside.uses_constants, 1),
        (outside.uses_another, 2.5),
        (outside.factorial, 6),
        (outside.is_even, 5),
        (outside.with_defaults, 7),
        (outside.walrus, [1, 2, 3]),
        (outside.nested, [1, 2]),
        (outside.local_class, 4),
        (outside.汉字, "书"),
        (Shelf.static, 1),
        (Shelf.plain, 3),
    ],
)
async def test_a_function_returns_the_same_result_in_the_sandbox(
    light: LightSandbox, function: Any, argument: Any
) -> None:
    await same(light, function, argument)


class TestLambdas:
    async def test_several_lambdas_in_one_line_run_in_the_sandbox(self, light: LightSandbox) -> None:
        pair = [lambda x: x + 1, lambda x: x + 2]
        tuple_pair = (lambda x: x * 10, lambda x: (x, x))
        for function in (*pair, *tuple_pair):
            await same(light, function, 5)

    async def test_nested_lambdas_run_in_the_sandbox(self, light: LightSandbox) -> None:
        outer = lambda x: (lambda y: y + x)(x) + (lambda y: y * 2)(x)  # noqa: E731
        inner = (lambda: lambda x: x - 1)()
        await same(light, outer, 3)
        await same(light, inner, 3)

    async def test_lambdas_after_non_ascii_characters_run_in_the_sandbox(self, light: LightSandbox) -> None:
        names = {"价格": lambda x: f"价格：{x}", "é": lambda x: f"é{x}"}
        for function in names.values():
            await same(light, function, 1)

    async def test_a_multiline_lambda_runs_in_the_sandbox(self, light: LightSandbox) -> None:
        function = (  # noqa: E731
            lambda rows: [
                row["title"]  # only the title
                for row in rows
                if row["kept"]
            ]
        )  # fmt: skip
        await same(light, function, [{"title": "a", "kept": True}, {"title": "b", "kept": False}])

    async def test_captured_values_are_sent_with_the_lambda(self, light: LightSandbox) -> None:
        unit, words = "kg", ("a", "b")
        function = lambda x, times=len(words): [f"{x} {unit}"] * times  # noqa: B008, E731
        unit = "g"  # the value at composition time counts
        await same(light, function, 3)

    async def test_captured_modules_and_functions_are_available_in_the_sandbox(
        self, light: LightSandbox
    ) -> None:
        await same(light, lambda text: json.dumps(regular.sub("a", "b", text)), "banana")

    async def test_a_lambda_that_calls_another_lambda_runs_in_the_sandbox(self, light: LightSandbox) -> None:
        twice = lambda x: x * 2  # noqa: E731
        await same(light, lambda x: twice(x) + 1, 4)

    async def test_comprehension_scopes_are_preserved_in_the_sandbox(self, light: LightSandbox) -> None:
        x = 7
        await same(light, lambda rows: [[x for x in row] for row in rows] + [x], [[1], [2, 3]])  # noqa: C416
        await same(light, lambda n: {y: [z for z in range(y)] for y in range(n)}, 3)  # noqa: C416

    async def test_a_variadic_lambda_runs_in_the_sandbox(self, light: LightSandbox) -> None:
        text = source(lambda *parts, sep="+", **more: sep.join([*parts, *more]))
        assert await light.evaluate(text, ["a", "b"], {"c": 1}) == "a+b+c"


class TestNotebooks:
    async def test_a_cell_has_its_source(self, light: LightSandbox) -> None:
        """A cell has its source, as in IPython: it is compiled under its own name, with its lines in `linecache`."""
        cell = "LIMIT = 4\ndef step(x):\n    return x + LIMIT\nchosen = [lambda x: x * LIMIT, lambda x: -x]\n"
        name = "<ipython-input-3-abcdef>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        space: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(cell, name, "exec"), space)
        for function in (space["step"], *space["chosen"]):
            await same(light, function, 3)

    def test_a_function_from_the_interactive_prompt_has_no_source(self) -> None:
        space: dict[str, Any] = {}
        exec(compile("step = lambda x: x + 1", "<stdin>", "exec"), space)
        assert reason(space["step"]) == "its source cannot be found"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (outside.holds_a_lock, "'LOCK', a lock of this process"),
        (outside.imports_numpy, "imports numpy"),
        (outside.asks, "'input', which the sandbox does not have"),
        (outside.yields, "'yield'"),
        (outside.deletes, "'del'"),
        (outside.remembers, "changes 'KEPT'"),
        (outside.stores, "changes 'TAX'"),
        (outside.counts, "'global'"),
        (outside.undefined, "'nowhere', which is not defined"),
        (outside.environment, "the module 'os'"),
        (outside.waits, "a coroutine"),
        (outside.decorated, "belongs to an object"),
        (outside.marked_one, "has a decorator"),
        (Shelf().method, "a method"),
        (partial(outside.round_down), "a partial"),
        (len, "a builtin_function_or_method"),
    ],
)
def test_a_function_that_cannot_be_sent_reports_the_reason(function: Any, why: str) -> None:
    assert why in reason(function)


def test_a_closure_over_unsendable_values_is_not_sent() -> None:
    lock = contextlib.nullcontext()
    assert "'lock', a nullcontext of this process" in reason(lambda x: (lock, x))
    large = "x" * (_source.MAX_VALUE_CHARS + 1)
    assert "too large" in reason(lambda x: large + x)
    count = 0

    def counting(x: int) -> int:
        nonlocal count
        count += x
        return count

    assert reason(counting) == "it changes 'count'"


def test_a_recursive_lambda_is_not_sent() -> None:
    down = lambda n: n if n < 1 else down(n - 1)  # noqa: E731
    assert "have too many nested calls" in reason(down)


async def test_supported_python_builtins_exist_in_the_sandbox(light: LightSandbox) -> None:
    """The sandbox has every Python built-in that is not on its list of missing ones."""
    names = [
        name
        for name, value in vars(builtins).items()
        if not name.startswith("_") and name not in _source.HERE and not _is_rare(value)
    ]
    assert len(names) > 40
    for name in names:
        await light.evaluate(f"lambda: [{name}, 1][1]", [], {})


def _is_rare(value: Any) -> bool:
    """Return whether a value is an exception class, which a lambda cannot catch."""
    return isinstance(value, type) and issubclass(value, BaseException)


class TestServerLooksFirst:
    async def test_unsupported_syntax_is_refused_before_the_function_is_called(
        self, light: LightSandbox
    ) -> None:
        with pytest.raises(InvalidRequest, match="yield"):
            await light.check("def f(x):\n    yield x")
        with pytest.raises(InvalidRequest, match="not valid Python"):
            await light.check("lambda x: (")
        await light.check("def f(x):\n    return 1 / 0")  # fails only when called
