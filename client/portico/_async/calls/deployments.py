# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.deployments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, given, named
from portico.schemas.deployments import Deployment


class Deployments(Group):
    """Models on engines."""

    async def list(self) -> Sequence[Deployment]:
        """All deployments, by name."""
        return await self._transport.request("GET", "/api/deployments", list[Deployment])

    async def get(self, name: str) -> Deployment:
        """One deployment, by name or alias."""
        return await self._transport.request(
            "GET", at("api", "deployments", named(name, "a model")), Deployment
        )

    async def change(self, name: str, parameters: Mapping[str, Any]) -> Deployment:
        """Set parameters of a model's engine; it is unloaded, and starts with them at its next call.

        Parameters to be set; those that are null are taken away, all others stay.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "deployments", named(name, "a model")),
            Deployment,
            json=given(parameters=parameters),
        )

    async def remove(self, name: str) -> None:
        """Forget a model; its files stay."""
        return await self._transport.request("DELETE", at("api", "deployments", named(name, "a model")), None)

    async def load(self, name: str) -> Deployment:
        """Load a model, and wait until it is ready."""
        return await self._transport.request(
            "POST", at("api", "deployments", named(name, "a model"), "load"), Deployment, slow=True
        )

    async def unload(self, name: str) -> Deployment:
        """Unload a model, after the calls in flight."""
        return await self._transport.request(
            "POST", at("api", "deployments", named(name, "a model"), "unload"), Deployment, slow=True
        )

    async def logs(self, name: str, lines: int | None = None) -> Sequence[str]:
        """The last lines that the engine wrote.

        ``lines``: (default: ``100``).
        """
        return await self._transport.request(
            "GET",
            at("api", "deployments", named(name, "a model"), "logs"),
            list[str],
            query=given(lines=lines),
        )
