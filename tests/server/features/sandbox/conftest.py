"""A sandbox with its packages, built once and shared by all test runs."""

from __future__ import annotations

import asyncio

import pytest
from tests.environments import ENVIRONMENTS

from portico_server.features.sandbox import namespace
from portico_server.features.sandbox.environment import Environment
from portico_server.features.sandbox.local import LocalSandbox


async def _quiet(_message: str) -> None:
    """Ignore progress messages."""


@pytest.fixture(scope="session")
def environment() -> Environment:
    """Return the complete environment of notebooks."""
    reason = namespace.missing()
    if reason is not None:
        pytest.skip(reason)
    sandbox_environment = Environment(ENVIRONMENTS)
    asyncio.run(sandbox_environment.ensure(_quiet))
    return sandbox_environment


@pytest.fixture
def sandbox(environment: Environment) -> LocalSandbox:
    return LocalSandbox(environment)
