"""Waiting for objects that the daemon starts one after another after it has begun to serve."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from portico_server.core.errors import Unavailable
from portico_server.core.servable import noun_and_name

PREPARED_TIMEOUT_S: Final = 60.0
"""Maximum seconds that a durable run waits for an object that it needs."""

STARTED_TIMEOUT_S: Final = 30.0
"""Maximum seconds that a call waits for an object that the daemon is still starting."""

STARTING_RETRY_S: Final = 5.0
"""Seconds until a client should repeat a call for an object that has not started yet."""


class LateSource(Protocol):
    """A part of the daemon whose objects start one after another after the daemon has begun to serve: tools, and apps
    that need tools.
    """

    async def wait_for_start(self, key: str) -> None:
        """Wait while an object that may have this key (``tool/``: any tool) is starting. Do not wait for an object
        whose start has failed.
        """

    async def prepared(self, key: str) -> None:
        """Wait until an object that may have this key exists, even if earlier attempts to start it have failed."""

    def problem(self, key: str) -> str:
        """Return a sentence about an object that may have this key and is not available, or an empty string."""


class LateSources:
    """All late sources of a daemon."""

    def __init__(self) -> None:
        self._sources: list[LateSource] = []

    def add(self, source: LateSource) -> None:
        """Add a source. Calls wait for it before they report an unknown name, and durable runs before they report a
        removed object.
        """
        self._sources.append(source)

    async def wait_for_start(self, key: str) -> None:
        """Wait while an object that may have this key is starting. Raises `Unavailable` if the start takes too long."""
        try:
            async with asyncio.timeout(STARTED_TIMEOUT_S) as until:
                for late in self._sources:
                    await late.wait_for_start(key)
        except TimeoutError:
            if not until.expired():
                raise
            noun, name = noun_and_name(key)
            raise Unavailable(
                f"The {noun} '{name}' may belong to a part of the daemon that is still starting. Try again "
                f"in {STARTING_RETRY_S:g} s.",
                code="starting",
                param=noun,
                retry_after=STARTING_RETRY_S,
            ) from None

    async def prepared(self, key: str) -> None:
        """Wait until an object that may have this key exists. Raises `Unavailable` with the problem if that takes too
        long.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(PREPARED_TIMEOUT_S):
                for late in self._sources:
                    await late.prepared(key)
                return
        if problem := self.problem(key):
            noun, name = noun_and_name(key)
            raise Unavailable(
                f"The {noun} '{name}' was not available within {PREPARED_TIMEOUT_S:g} s. {problem} Resume the run "
                "once it is available.",
                param=noun,
            )

    def problem(self, key: str) -> str:
        """Return a sentence about an object that may have this key and is not available, or an empty string."""
        return next(filter(None, (late.problem(key) for late in self._sources)), "")

    async def tools_started(self) -> None:
        """Wait while any tool is starting. Called by a late source whose objects need tools."""
        for late in self._sources:
            await late.wait_for_start("tool/")
