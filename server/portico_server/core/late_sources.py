"""Waiting for things that a daemon starts one after another once it serves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final, Protocol

from portico_server.core.errors import Unavailable
from portico_server.core.servable import noun_and_name

PREPARED_TIMEOUT_S: Final = 60.0
"""Seconds that a run which was taken up waits for what its names mean."""

STARTED_TIMEOUT_S: Final = 30.0
"""Seconds that a call waits for what is being started, after a start of the daemon."""

STARTING_RETRY_S: Final = 5.0
"""Seconds after which to call again what has not been started by then."""


class LateSource(Protocol):
    """A part of the daemon whose things come one after the other once it serves: tools, and apps that need them."""

    async def started(self, key: str) -> None:
        """Wait while what may have a key (``tool/``: any tool) is being started, and not for what could not be."""

    async def prepared(self, key: str) -> None:
        """Wait until what may have a key is there, whatever has failed so far."""


class LateSources:
    """All late sources of a daemon."""

    def __init__(self) -> None:
        self._sources: list[LateSource] = []

    def add(self, source: LateSource) -> None:
        """Ask ``source`` before a name is taken for unknown, or that of a durable run for gone."""
        self._sources.append(source)

    async def started(self, key: str) -> None:
        """Wait for what may have a key and is being started. Raises `Unavailable` if that takes long."""
        try:
            async with asyncio.timeout(STARTED_TIMEOUT_S) as until:
                for late in self._sources:
                    await late.started(key)
        except TimeoutError:
            if not until.expired():
                raise
            noun, name = noun_and_name(key)
            raise Unavailable(
                f"The {noun} '{name}' may come of something that is still being started. Try again in "
                f"{STARTING_RETRY_S:g} s.",
                code="starting",
                param=noun,
                retry_after=STARTING_RETRY_S,
            ) from None

    async def prepared(self, key: str) -> None:
        """Wait until what may have a key is there, for a limited time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PREPARED_TIMEOUT_S):
                for late in self._sources:
                    await late.prepared(key)

    async def tools_started(self) -> None:
        """Wait while any tool is being started, for a late source whose things need them."""
        for late in self._sources:
            await late.started("tool/")
