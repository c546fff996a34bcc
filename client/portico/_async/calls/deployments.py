# Generated from the verbs of portico.schemas by scripts/sdk: change them there.
"""Calls of `portico.schemas.deployments`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._async.group import Group
from portico._request import at, check_path_name, without_none
from portico.schemas.deployments import Deployment


class Deployments(Group):
    """Models on engines."""

    async def list(self) -> Sequence[Deployment]:
        """List all deployments by name."""
        return await self._transport.request("GET", "/api/deployments", list[Deployment])

    async def get(self, name: str) -> Deployment:
        """Return a deployment by name or alias."""
        return await self._transport.request(
            "GET", at("api", "deployments", check_path_name(name, "a model")), Deployment
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
        """Register a model. The model is fetched and loaded at its first call or by ``load``.

        A model to register; ``engine`` and ``task`` are detected unless set.

        ``replicas`` is a number of processes, or the sources of the additional processes. ``launcher`` starts
        the processes; if empty, the launcher from the settings starts them. ``resources`` are requested from
        a scheduler for each process.

        ``engine``: (default: ``auto``).

        ``task``: (default: ``auto``).

        ``replicas``: (default: ``1``).

        ``answers``: (default: ``auto``).
        """
        return await self._transport.request(
            "POST",
            "/api/deployments",
            Deployment,
            json=without_none(
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
        """Set parameters of a model's engine. The model is unloaded and starts with the new parameters at its
        next call.

        Parameters to set. A null value removes the parameter; parameters not listed stay unchanged.
        """
        return await self._transport.request(
            "PATCH",
            at("api", "deployments", check_path_name(name, "a model")),
            Deployment,
            json=without_none(parameters=parameters),
        )

    async def remove(self, name: str) -> None:
        """Delete a deployment. The model's files stay on disk."""
        return await self._transport.request(
            "DELETE", at("api", "deployments", check_path_name(name, "a model")), None
        )

    async def load(self, name: str) -> Deployment:
        """Load a model, and wait until it is ready."""
        return await self._transport.request(
            "POST", at("api", "deployments", check_path_name(name, "a model"), "load"), Deployment, slow=True
        )

    async def unload(self, name: str) -> Deployment:
        """Unload a model once its calls in progress have finished."""
        return await self._transport.request(
            "POST",
            at("api", "deployments", check_path_name(name, "a model"), "unload"),
            Deployment,
            slow=True,
        )

    async def logs(self, name: str, lines: int | None = None) -> Sequence[str]:
        """Return the last lines of the log of a deployment's engine.

        ``lines``: (default: ``100``).
        """
        return await self._transport.request(
            "GET",
            at("api", "deployments", check_path_name(name, "a model"), "logs"),
            list[str],
            query=without_none(lines=lines),
        )
