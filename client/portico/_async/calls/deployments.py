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

    async def add(
        self,
        name: str,
        source: str,
        *,
        engine: str | None = None,
        task: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        api_key: str | None = None,
        aliases: Sequence[str] | None = None,
        description: str | None = None,
        keep_alive: float | None = None,
        pin: bool | None = None,
        memory_mb: int | None = None,
        queue_limit: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        replicas: int | Sequence[str] | None = None,
        prompt: Mapping[str, Any] | None = None,
        answers: str | None = None,
        launcher: str | None = None,
        resources: Mapping[str, int | str] | None = None,
    ) -> Deployment:
        """Register a model; it is fetched and loaded at its first call, or by ``load``.

        A model to be registered; ``engine`` and ``task`` are found out unless they are given. ``replicas`` is
        a number of processes, or the sources of the further ones. ``launcher`` starts them, the setting's if
        it is empty; ``resources`` are what they ask a scheduler for.

        ``engine``: (default: ``auto``).

        ``task``: (default: ``auto``).

        ``replicas``: (default: ``1``).

        ``answers``: (default: ``auto``).
        """
        return await self._transport.request(
            "POST",
            "/api/deployments",
            Deployment,
            json=given(
                name=name,
                source=source,
                engine=engine,
                task=task,
                parameters=parameters,
                api_key=api_key,
                aliases=aliases,
                description=description,
                keep_alive=keep_alive,
                pin=pin,
                memory_mb=memory_mb,
                queue_limit=queue_limit,
                defaults=defaults,
                replicas=replicas,
                prompt=prompt,
                answers=answers,
                launcher=launcher,
                resources=resources,
            ),
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
