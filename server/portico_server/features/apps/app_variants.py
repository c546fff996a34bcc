"""Variants of an app in which some values are changed. Evaluations request them from deployed apps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.servable import Servable


@dataclass(frozen=True, slots=True)
class AppParts:
    """The parts of an app that can be exchanged, by their places in its specification.

    ``prompts`` maps each instruction of a model to its texts: that of this ``version`` first, then those of the other
    versions, newest first. ``tools`` maps the name of a tool to its entry's place and to the entry.
    """

    version: int
    models: Mapping[str, str]
    prompts: Mapping[str, Sequence[str]]
    examples: Sequence[str]
    stores: Mapping[str, str]
    searches: Mapping[str, Mapping[str, Any]]
    tools: Mapping[str, tuple[str, Mapping[str, Any]]]


class AppVariants(Protocol):
    """The deployed apps of the daemon, injected by the composition root."""

    def names(self, caller: Principal) -> Sequence[str]:
        """Return the names of the apps that the caller may call."""

    async def variant(
        self, name: str, changes: Mapping[str, Any], caller: Principal, version: int | None = None
    ) -> Servable:
        """Return the app, or an earlier ``version`` of it, with ``changes``, which maps paths in the app to values. The
        app is checked as a whole; the deployed app does not change.

        Raises `NotFound` for an unknown app, version or path, `InvalidRequest` if the result is invalid, and
        `Forbidden` if the caller may call the app but not read it.
        """

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Deploy the app with ``changes``; return the version number. Raises the same errors as `variant`, and
        `Forbidden` if the caller may not deploy.
        """

    async def parts(self, name: str, caller: Principal) -> AppParts:
        """Return the parts of the current version of an app. Raises `NotFound`, and `Forbidden` if the caller may call
        the app but not read it.
        """

    async def stage(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Store the app with ``changes`` as a version that only ``NAME@NUMBER`` calls; return the version number.
        Raises the same errors as `settle`.
        """
