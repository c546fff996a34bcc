"""A sandbox with its packages, built once and shared by every run of the tests."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.daemon import ROOT

from portico_server.tools.sandbox import namespace
from portico_server.tools.sandbox.environment import Environment
from portico_server.tools.sandbox.local import LocalSandbox

ENVIRONMENTS = Path(os.environ.get("PORTICO_TEST_ENVIRONMENTS", ROOT / ".portico-test" / "environments"))
"""Packages of notebooks that tests install once and share."""


async def _quiet(_message: str) -> None:
    """Progress that nobody looks at."""


@pytest.fixture(scope="session")
def environment() -> Environment:
    """The environment of notebooks, whole."""
    reason = namespace.missing()
    if reason is not None:
        pytest.skip(reason)
    found = Environment(ENVIRONMENTS)
    asyncio.run(found.ensure(_quiet))
    return found


@pytest.fixture
def sandbox(environment: Environment) -> LocalSandbox:
    return LocalSandbox(environment)
