# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.daemon`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico.schemas.daemon import ConfiguredGuard, Plugin


class Plugins(Group):
    """Extensions of the daemon from installed distributions."""

    async def list(self) -> Sequence[Plugin]:
        """List the engines, chunkers, tools and providers that installed distributions add. This imports all of
        them.
        """
        return await self._transport.request("GET", "/api/plugins", list[Plugin])


class ContentGuards(Group):
    """Checks on the inputs and outputs of models, apps, tools and stores."""

    async def list(self) -> Sequence[ConfiguredGuard]:
        """List the configured guards in the order in which they run."""
        return await self._transport.request("GET", "/api/guards", list[ConfiguredGuard])
