"""An app as it would be with other values in some places: what evaluations ask of deployed apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.principal import Principal
from portico_server.core.servable import Servable


class AppVariants(Protocol):
    """The deployed apps of the daemon, wired in by the composition root."""

    def known(self, caller: Principal) -> Sequence[str]:
        """The names of the apps that the caller may call."""

    async def variant(self, name: str, changes: Mapping[str, Any], caller: Principal) -> Servable:
        """The app with ``changes`` by their places, checked as a whole; what is deployed stays as it is.

        Raises `NotFound` for an app or a place that is not there, `InvalidRequest` for what the app cannot be,
        `Forbidden` where the caller may call the app and not read it.
        """

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Deploy the app with ``changes``; the number of the version. Raises as `variant`, and `Forbidden`."""
