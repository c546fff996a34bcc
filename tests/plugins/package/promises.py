"""The contract tests of this package's plugins, used as a plugin author would use them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from portico_harbour.chunker import STANZA
from portico_harbour.tool import tool

from portico.testing.chunkers import CHUNKER_CHECKS, ChunkerCheck
from portico.testing.engines import CHAT_CHECKS, EngineCheck
from portico.testing.model_fixture import model_fixture
from portico.testing.providers import PROVIDER_CHECKS, ProviderCheck
from portico.testing.tools import TOOL_CHECKS, ToolCase, ToolCheck
from portico_server.models.spec import ModelSpec

TIDE = ToolCase(tool, good=[{"hours": 0}, {"hours": 3.5}], bad=[{"hours": 99}], wrong=[{}, {"hours": "now"}])


@pytest.mark.parametrize("check", CHAT_CHECKS, ids=lambda check: check.__name__)
def test_engine(check: EngineCheck, tmp_path: Path) -> None:
    async def run() -> None:
        async with model_fixture(tmp_path) as fixture:
            await fixture.models.add(ModelSpec("m", "reverse://", parameters={"context_length": 512}))
            await fixture.models.load("m")
            await check(fixture)

    asyncio.run(run())


@pytest.mark.parametrize("check", CHUNKER_CHECKS, ids=lambda check: check.__name__)
def test_chunker(check: ChunkerCheck) -> None:
    check(STANZA, False)


@pytest.mark.parametrize("check", TOOL_CHECKS, ids=lambda check: check.__name__)
def test_tool(check: ToolCheck) -> None:
    asyncio.run(check(TIDE))


@pytest.mark.parametrize("check", PROVIDER_CHECKS, ids=lambda check: check.__name__)
def test_provider(check: ProviderCheck) -> None:
    check("pier")
