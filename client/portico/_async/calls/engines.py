# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.engines`."""

from __future__ import annotations

from collections.abc import Sequence

from portico._async.group import Group
from portico._request import at, check_path_name, without_none
from portico.schemas.engines import Engine, EngineParameter, Finding


class Engines(Group):
    """Programs that run models, and the separate environments of the heavy ones."""

    async def list(self) -> Sequence[Engine]:
        """List all engines by name. If an engine has an environment, its entry says whether the environment is
        installed.
        """
        return await self._transport.request("GET", "/api/engines", list[Engine])

    async def install(self, name: str, *, rebuild: bool | None = None) -> str:
        """Build the environment of an engine, in a durable run.

        ``rebuild``: rebuild the environment even if it is complete.
        """
        return await self._transport.request(
            "POST",
            at("api", "engines", check_path_name(name, "an engine"), "install"),
            str,
            json=without_none(rebuild=rebuild),
            key="run",
        )

    async def parameters(self, name: str) -> Sequence[EngineParameter]:
        """List the parameters of an engine, if the engine publishes them."""
        return await self._transport.request(
            "GET",
            at("api", "engines", check_path_name(name, "an engine"), "parameters"),
            list[EngineParameter],
        )

    async def doctor(self, name: str) -> Sequence[Finding]:
        """Check the environment of an engine in detail."""
        return await self._transport.request(
            "POST",
            at("api", "engines", check_path_name(name, "an engine"), "doctor"),
            list[Finding],
            slow=True,
        )

    async def remove(self, name: str) -> None:
        """Delete the environment of an engine; it can be built again."""
        return await self._transport.request(
            "DELETE", at("api", "engines", check_path_name(name, "an engine")), None, slow=True
        )
