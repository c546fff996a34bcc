# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.daemon`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._sync.group import Group
from portico.schemas.daemon import ConfiguredGuard, Plugin


class Plugins(Group):
    """Extensions of the daemon from installed distributions."""

    def list(self) -> Sequence[Plugin]:
        """List the engines, chunkers, tools and providers that installed distributions add. This imports all of
        them.
        """
        return self._transport.request("GET", "/api/plugins", list[Plugin])


class ContentGuards(Group):
    """Checks on the inputs and outputs of models, apps, tools and stores."""

    def list(self) -> Sequence[ConfiguredGuard]:
        """List the configured guards in the order in which they run."""
        return self._transport.request("GET", "/api/guards", list[ConfiguredGuard])
