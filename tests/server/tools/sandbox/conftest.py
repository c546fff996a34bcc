"""A sandbox with its packages, built once and shared by every run of the tests."""

from __future__ import annotations

import asyncio

import pytest
from tests.environments import ENVIRONMENTS

from portico_server.tools.sandbox import namespace
from portico_server.tools.sandbox.environment import Environment
from portico_server.tools.sandbox.local import LocalSandbox


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
