# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.daemon`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico.schemas.daemon import ConfiguredGuard, Plugin


class Plugins(Group):
    """What installed distributions add to the daemon."""

    async def list(self) -> Sequence[Plugin]:
        """What installed distributions add: engines, chunkers, tools and providers. All of it is imported for
        this.
        """
        return await self._transport.request("GET", "/api/plugins", list[Plugin])


class ContentGuards(Group):
    """What looks at the texts around models, apps, tools and stores."""

    async def list(self) -> Sequence[ConfiguredGuard]:
        """The guards of the configuration, in the order in which they are asked."""
        return await self._transport.request("GET", "/api/guards", list[ConfiguredGuard])
