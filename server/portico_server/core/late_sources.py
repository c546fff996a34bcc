"""Waiting for objects that a daemon starts one after another once it serves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from portico_server.core.errors import Unavailable
from portico_server.core.servable import noun_and_name

PREPARED_TIMEOUT_S: Final = 60.0
"""Seconds that a resumed run waits for the objects that its names mean."""

STARTED_TIMEOUT_S: Final = 30.0
"""Seconds that a call waits for an object that is starting, after a start of the daemon."""

STARTING_RETRY_S: Final = 5.0
"""Seconds until a client should repeat a call for an object that has not started yet."""


class LateSource(Protocol):
    """A part of the daemon whose objects start one after another once it serves: tools, and apps that need them."""

    async def wait_for_start(self, key: str) -> None:
        """Wait while an object that may have a key (``tool/``: any tool) is starting, but not for one whose start has
        failed.
        """

    async def prepared(self, key: str) -> None:
        """Wait until an object that may have a key exists, whatever has failed so far."""


class LateSources:
    """All late sources of a daemon."""

    def __init__(self) -> None:
        self._sources: list[LateSource] = []

    def add(self, source: LateSource) -> None:
        """Add a source to wait for before a name is considered unknown, or an object of a durable run removed."""
        self._sources.append(source)

    async def wait_for_start(self, key: str) -> None:
        """Wait for an object that may have a key and is starting. Raises `Unavailable` if that takes too long."""
        try:
            async with asyncio.timeout(STARTED_TIMEOUT_S) as until:
                for late in self._sources:
                    await late.wait_for_start(key)
        except TimeoutError:
            if not until.expired():
                raise
            noun, name = noun_and_name(key)
            raise Unavailable(
                f"The {noun} '{name}' may belong to something that is still starting. Try again in "
                f"{STARTING_RETRY_S:g} s.",
                code="starting",
                param=noun,
                retry_after=STARTING_RETRY_S,
            ) from None

    async def prepared(self, key: str) -> None:
        """Wait for a limited time until an object that may have a key exists."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PREPARED_TIMEOUT_S):
                for late in self._sources:
                    await late.prepared(key)

    async def tools_started(self) -> None:
        """Wait while any tool is starting, for a late source whose objects need tools."""
        for late in self._sources:
            await late.wait_for_start("tool/")
