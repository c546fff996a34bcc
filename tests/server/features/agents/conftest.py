"""Fixtures with agents and a scripted model for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.features.agents.agent_fixture import AgentFixture, open_agent_fixture


@pytest.fixture
async def agent_fixture(tmp_path: Path) -> AsyncIterator[AgentFixture]:
    async with open_agent_fixture(tmp_path) as fixture:
        yield fixture
