"""Results too large for an answer are stored in full as an artifact and returned as a link, the head and the tail."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import RegistryFixture, open_registry

from portico_server.blobs.place import FolderBlobs
from portico_server.core.context import Context
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import ToolCall, ToolResult
from portico_server.db.database import Database
from portico_server.features.tools.tool import (
    HEAD_CHARS,
    MAX_STRUCTURED_BYTES,
    MAX_TEXT_CHARS,
    TAIL_CHARS,
    Tool,
)
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore

ME = Principal("key_me", frozenset({"tools:*:call"}))


@dataclass
class Bench:
    daemon: RegistryFixture
    artifacts: ArtifactStore | None

    async def answer(self, result: ToolResult, schema: Mapping[str, Any] | None = None) -> ToolResult:
        """Return the answer of a tool whose result is ``result``."""

        async def work(_arguments: Mapping[str, Any], _context: Context) -> ToolResult:
            return result

        toolbox = Toolbox(self.daemon.registry, self.artifacts)
        toolbox.remove("flood")
        toolbox.add(
            Tool("flood", "Flood", "Floods.", {"type": "object"}, work, output_schema=schema, source="test")
        )
        tool_result, _events = await self.daemon.call("tool/flood", ToolCall({}), ME)
        assert isinstance(tool_result, ToolResult)
        return tool_result

    async def kept(self, result: ToolResult) -> bytes:
        assert self.artifacts is not None
        [artifact] = result.artifacts
        assert artifact.link in result.text
        return await self.artifacts.read(artifact.id, ME)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    database = Database.at(tmp_path / "artifacts.db")
    database.prepare()
    async with open_registry(tmp_path) as daemon:
        yield Bench(
            daemon, ArtifactStore(database, FolderBlobs(database, tmp_path / "artifacts", ARTIFACT_BLOBS))
        )
    database.close()


async def test_a_long_text_is_kept_and_its_ends_are_shown(bench: Bench) -> None:
    text = "the beginning " + "x" * MAX_TEXT_CHARS + " the end"
    result = await bench.answer(ToolResult(text, {"n": 1}))
    assert len(result.text) < HEAD_CHARS + TAIL_CHARS + 200
    assert result.text.startswith("the beginning ") and result.text.endswith(" the end")
    assert f"{len(text)} characters in total" in result.text
    assert await bench.kept(result) == text.encode()
    assert result.artifacts[0].name == "flood.txt" and result.structured == {"n": 1}


async def test_a_result_within_the_limits_is_returned_unchanged(bench: Bench) -> None:
    result = ToolResult("x" * MAX_TEXT_CHARS, {"text": "y" * (MAX_STRUCTURED_BYTES - 100)})
    assert await bench.answer(result) == result


async def test_a_long_error_text_is_stored_in_full_and_stays_an_error(bench: Bench) -> None:
    assert bench.artifacts is not None
    result = await bench.answer(ToolResult("é" * (MAX_TEXT_CHARS + 1), is_error=True))
    assert result.is_error and (await bench.kept(result)).decode() == "é" * (MAX_TEXT_CHARS + 1)


async def test_a_large_structure_is_kept_as_json(bench: Bench) -> None:
    structure = {"rows": ["y" * 1000] * 1100, "big": 2**80}
    result = await bench.answer(ToolResult("1100 rows", structure))
    assert result.structured is None and not result.is_error and result.text.endswith("1100 rows")
    assert json.loads(await bench.kept(result)) == structure
    assert result.artifacts[0].media_type == "application/json"


async def test_a_too_large_structure_required_by_the_output_schema_is_an_error(bench: Bench) -> None:
    result = await bench.answer(ToolResult("rows", {"rows": "y" * MAX_STRUCTURED_BYTES}), {"type": "object"})
    assert result.is_error and "is too large to return" in result.text
    assert len(await bench.kept(result)) > MAX_STRUCTURED_BYTES


async def test_a_long_text_without_artifact_storage_is_omitted_with_a_note(bench: Bench) -> None:
    result = await Bench(bench.daemon, None).answer(
        ToolResult("x" * (MAX_TEXT_CHARS + 1), {"y": "y" * MAX_STRUCTURED_BYTES})
    )
    assert result.artifacts == () and result.structured is None
    assert "is omitted" in result.text and len(result.text) < HEAD_CHARS + TAIL_CHARS + 300


async def test_a_stored_result_is_readable_only_by_its_caller(bench: Bench) -> None:
    result = await bench.answer(ToolResult("x" * (MAX_TEXT_CHARS + 1)))
    assert bench.artifacts is not None
    assert await bench.artifacts.list(Principal("key_you", frozenset())) == []
    assert [row.id for row in await bench.artifacts.list(LOCAL)] == [result.artifacts[0].id]
