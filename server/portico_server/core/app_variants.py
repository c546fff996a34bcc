"""Variants of an app in which some values are changed. Evaluations request them from deployed apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.principal import Principal
from portico_server.core.servable import Servable


class AppVariants(Protocol):
    """The deployed apps of the daemon, injected by the composition root."""

    def known(self, caller: Principal) -> Sequence[str]:
        """Return the names of the apps that the caller may call."""

    async def variant(self, name: str, changes: Mapping[str, Any], caller: Principal) -> Servable:
        """Return the app with ``changes``, which maps paths in the app to values. The app is checked as a whole; the
        deployed app does not change.

        Raises `NotFound` for an unknown app or path, `InvalidRequest` if the result is invalid, and `Forbidden` if the
        caller may call the app but not read it.
        """

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Deploy the app with ``changes``; return the version number. Raises the same errors as `variant`, and
        `Forbidden` if the caller may not deploy.
        """
