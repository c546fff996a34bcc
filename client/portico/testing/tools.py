"""The contract of every tool: checks for authors of tools. Portico's own tools pass them too.

A check is a coroutine function that accepts a `ToolCase`: the function that creates the tool, and calls to try. It
raises `AssertionError` for a violation, as ``docs/plugins.md`` shows.
"""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from portico.testing.model_fixture import ModelFixture, model_fixture
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.request import ToolCall, ToolResult
from portico_server.features.tools.tool import Tool
from portico_server.features.tools.toolbox import Toolbox

__all__ = ["TOOL_CHECKS", "ToolCase", "ToolCheck"]

CANCEL_TIMEOUT_S = 20.0
"""Seconds within which a cancelled call must end."""

CANCELLED_AFTER_TURNS = (1, 2, 3, 5, 8)
"""Numbers of event loop iterations after which to cancel a call."""

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class ToolCase:
    """A tool and the calls to try. ``make`` is the function to which the entry point refers. A call with ``good``
    arguments succeeds. ``bad`` arguments match the schema but cannot succeed, such as the name of a missing object.
    ``wrong`` arguments violate the schema.
    """

    make: Callable[[Registry], Tool]
    good: Sequence[Mapping[str, Any]]
    bad: Sequence[Mapping[str, Any]] = ()
    wrong: Sequence[Mapping[str, Any]] = ()


ToolCheck: TypeAlias = Callable[[ToolCase], Awaitable[None]]


@asynccontextmanager
async def _add_tool(case: ToolCase) -> AsyncIterator[tuple[ModelFixture, Tool]]:
    with tempfile.TemporaryDirectory() as folder:
        async with model_fixture(Path(folder)) as new_model_fixture:
            tool = case.make(new_model_fixture.registry)
            Toolbox(new_model_fixture.registry).add(tool)
            yield new_model_fixture, tool


async def _call(new_model_fixture: ModelFixture, tool: Tool, arguments: Mapping[str, Any]) -> ToolResult:
    result = await new_model_fixture.runner.call("tool", f"tool/{tool.name}", ToolCall(arguments), LOCAL)
    assert isinstance(result, ToolResult)
    return result


async def a_model_can_read_what_it_is_for(case: ToolCase) -> None:
    """Check that the tool's name is valid in every API, that its schemas are JSON schemas, and that its description is
    a sentence.
    """
    async with _add_tool(case) as (_model_fixture, tool):
        assert _TOOL_NAME.fullmatch(tool.name)
        assert tool.title
        assert tool.description.endswith(".")
        assert tool.input_schema.get("type") == "object"
        for schema in (tool.input_schema, tool.output_schema or {}):
            json.dumps(schema)
            try:
                Draft202012Validator.check_schema(schema)
            except SchemaError as error:
                raise AssertionError(f"{tool.name}: {error.message}") from error


async def a_result_is_text_and_matches_its_schema(case: ToolCase) -> None:
    """Check that every good call succeeds, with a text, and that a structured result matches the tool's output
    schema.
    """
    async with _add_tool(case) as (new_model_fixture, tool):
        for arguments in case.good:
            result = await _call(new_model_fixture, tool, arguments)
            assert isinstance(result.text, str)
            assert not result.is_error, result.text
            if tool.output_schema is not None:
                structured_content = json.loads(json.dumps(result.structured))
                assert not list(
                    Draft202012Validator(dict(tool.output_schema)).iter_errors(structured_content)
                )


async def wrong_arguments_are_refused(case: ToolCase) -> None:
    """Check that arguments that violate the schema never reach the tool, and that the error names the argument."""
    async with _add_tool(case) as (new_model_fixture, tool):
        for arguments in case.wrong:
            try:
                await _call(new_model_fixture, tool, arguments)
            except InvalidRequest as error:
                assert error.param
                assert error.param.startswith("arguments")
            else:
                raise AssertionError(f"{tool.name} accepted {arguments}, which its schema should refuse")


async def what_cannot_succeed_is_said(case: ToolCase) -> None:
    """Check that a bad call either returns a result with ``is_error``, so that a model can correct it, or raises a
    `PorticoError`.
    """
    async with _add_tool(case) as (new_model_fixture, tool):
        for arguments in case.bad:
            try:
                result = await _call(new_model_fixture, tool, arguments)
            except PorticoError as error:
                assert error.message
            else:
                assert result.is_error
                assert result.text


async def a_call_can_be_cancelled(case: ToolCase) -> None:
    """Check that a cancelled call ends as cancelled at any point where it waits, and that the next call works."""
    async with _add_tool(case) as (new_model_fixture, tool):
        for arguments in case.good:
            for turns in CANCELLED_AFTER_TURNS:
                run = await new_model_fixture.runner.start(
                    "tool", f"tool/{tool.name}", ToolCall(arguments), LOCAL
                )
                for _turn in range(turns):
                    await asyncio.sleep(0)
                expected_status = "cancelled" if run.status == "running" else run.status
                async with asyncio.timeout(CANCEL_TIMEOUT_S):
                    await run.cancel()
                assert run.status == expected_status, (
                    f"cancelled after {turns} iterations of the loop, it is {run.status}"
                )
            assert not (await _call(new_model_fixture, tool, arguments)).is_error


TOOL_CHECKS: Final[tuple[ToolCheck, ...]] = (
    a_model_can_read_what_it_is_for,
    a_result_is_text_and_matches_its_schema,
    wrong_arguments_are_refused,
    what_cannot_succeed_is_said,
    a_call_can_be_cancelled,
)
