# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.engines`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.engines import Engine, EngineParameter, Finding


class Engines(Group):
    """What runs models, and the environments of the heavy ones."""

    async def list(self) -> Sequence[Engine]:
        """All engines by name; those with an environment say whether it is there."""
        return await self._transport.request("GET", "/api/engines", list[Engine])

    async def install(self, name: str, *, rebuild: bool | None = None) -> str:
        """Build the environment of an engine, in a durable run.

        ``rebuild``: also if it is whole.
        """
        return await self._transport.request(
            "POST",
            at("api", "engines", named(name, "an engine"), "install"),
            str,
            json=given(rebuild=rebuild),
            key="run",
        )

    async def parameters(self, name: str) -> Sequence[EngineParameter]:
        """The parameters of an engine that lists them."""
        return await self._transport.request(
            "GET", at("api", "engines", named(name, "an engine"), "parameters"), list[EngineParameter]
        )

    async def doctor(self, name: str) -> Sequence[Finding]:
        """Look closely at the environment of an engine."""
        return await self._transport.request(
            "POST", at("api", "engines", named(name, "an engine"), "doctor"), list[Finding], slow=True
        )

    async def remove(self, name: str) -> None:
        """Delete the environment of an engine; it can be built again."""
        return await self._transport.request(
            "DELETE", at("api", "engines", named(name, "an engine")), None, slow=True
        )
