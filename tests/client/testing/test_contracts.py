"""The contract suites detect broken promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from portico.testing import chunkers, tools
from portico_server.core.registry import Registry
from portico_server.core.request import ToolResult
from portico_server.features.chunkers.chunkers import CHUNKERS, ChunkingStrategy
from portico_server.features.chunkers.document import Part
from portico_server.features.tools.builtin import current_time
from portico_server.features.tools.tool import Tool


def case(**changes: Any) -> tools.ToolCase:
    """Return the tool ``current_time`` with faults injected."""

    def make(registry: Registry) -> Tool:
        return replace(current_time.tool(registry), **changes)

    return tools.ToolCase(make, good=[{}], bad=[{"timezone": "Mars"}], wrong=[{"timezone": 7}])


async def stubborn(arguments: Mapping[str, Any], _context: object) -> ToolResult:
    try:
        await asyncio.Event().wait() if not arguments else None
    except asyncio.CancelledError:
        return ToolResult("I go on.")
    return ToolResult("Done.")


async def careless(_arguments: Mapping[str, Any], _context: object) -> ToolResult:
    return ToolResult("now", {"time": 7})


@pytest.mark.parametrize(
    ("check", "changes"),
    [
        (tools.a_model_can_read_what_it_is_for, {"name": "no spaces"}),
        (tools.a_model_can_read_what_it_is_for, {"description": ""}),
        (tools.a_model_can_read_what_it_is_for, {"output_schema": {"type": "unknown"}}),
        (tools.a_result_is_text_and_matches_its_schema, {"work": careless}),
        (tools.wrong_arguments_are_refused, {"input_schema": {"type": "object"}, "work": careless}),
        (tools.what_cannot_succeed_is_said, {"work": careless}),
        (tools.a_call_can_be_cancelled, {"work": stubborn}),
    ],
)
async def test_each_tool_contract_check_fails_for_a_violating_tool(
    check: tools.ToolCheck, changes: dict[str, Any]
) -> None:
    await check(case())
    with pytest.raises(AssertionError):
        await check(case(**changes))


def whole(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    return list(parts)


def without_the_last(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    return CHUNKERS["sentence"].chunk(parts, size, overlap)[:-1]


def displaced(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    chunks = CHUNKERS["recursive"].chunk(parts, size, overlap)
    return [Part(part.text, replace(part.place, start=part.place.start + 1)) for part in chunks]


@pytest.mark.parametrize("chunk", [whole, without_the_last, displaced])
def test_the_chunker_contract_checks_fail_for_a_violating_chunker(chunk: Any) -> None:
    with pytest.raises(AssertionError):
        chunkers.nothing_is_lost_and_every_place_is_exact(ChunkingStrategy("x", chunk, "x"), False)
    if chunk is whole:
        with pytest.raises(AssertionError):
            chunkers.of_nothing_there_are_no_chunks(ChunkingStrategy("x", chunk, "x"), False)
