"""The sandboxes and containers in which tools run code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from portico_server.db.database import Database
from portico_server.runs.artifacts import ArtifactStore
from portico_server.runs.quotas import StorageQuota
from portico_server.settings import MB_BYTES, Settings

if TYPE_CHECKING:
    from portico_server.features.sandbox.containers import ContainerService
    from portico_server.features.sandbox.light import LightSandbox
    from portico_server.features.sandbox.notebooks import Notebooks
    from portico_server.features.sandbox.protocol import SandboxLimits
    from portico_server.features.skills.library import SkillLibrary


class CodeTools:
    """Builds each sandbox when it is first needed. No process is started before the first call."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        artifacts: ArtifactStore,
        skills: Callable[[], SkillLibrary],
        quota: StorageQuota,
    ) -> None:
        self._settings = settings
        self._database = database
        self._artifacts = artifacts
        self._skills = skills
        self._quota = quota
        self._light_sandboxes: list[LightSandbox] = []

    @cached_property
    def light(self) -> LightSandbox:
        """The interpreters of ``python_light``, ``calculator``, agents and flows."""
        return self.add_light()

    def add_light(self, workers: int | None = None) -> LightSandbox:
        """Return up to ``workers`` interpreters for a tool whose code can wait for hours."""
        from portico_server.features.sandbox.light import LightSandbox

        light_sandbox = LightSandbox(workers)
        self._light_sandboxes.append(light_sandbox)
        return light_sandbox

    @cached_property
    def limits(self) -> SandboxLimits:
        """The limits of a notebook."""
        from portico_server.features.sandbox.protocol import SandboxLimits

        settings = self._settings
        return SandboxLimits(seconds=settings.notebook_timeout, memory=settings.notebook_memory_mb * MB_BYTES)

    @cached_property
    def containers(self) -> ContainerService:
        """The containers, and all other sessions of notebooks."""
        from portico_server.features.sandbox.containers import ContainerService

        return ContainerService(
            self._database,
            self._notebooks,
            self._artifacts,
            self._skills(),
            self._quota,
            self._settings.notebook_memory_mb,
        )

    @cached_property
    def _notebooks(self) -> Notebooks:
        from portico_server.features.sandbox.environment import Environment
        from portico_server.features.sandbox.local import LocalSandbox
        from portico_server.features.sandbox.notebooks import Notebooks

        settings = self._settings
        environment = Environment(settings.environments, index=settings.pypi_index, offline=settings.offline)
        return Notebooks(
            LocalSandbox(environment), self.limits, limit=settings.notebooks, idle=settings.notebook_idle
        )

    async def revoke(self, owner: str) -> None:
        """Stop all code that runs for a revoked key."""
        if "containers" in vars(self):
            await self.containers.revoke(owner)

    async def expire(self, *, dry_run: bool = False) -> int:
        """Delete expired containers. Return the number of deleted containers."""
        from portico_server.db import containers as rows

        count = await self._database.read(rows.count_expired)
        return count if dry_run or not count else await self.containers.expire()

    async def close(self) -> None:
        """Stop all interpreters and kernels."""
        for light_sandbox in self._light_sandboxes:
            await light_sandbox.close()
        if "_notebooks" in vars(self):
            await self._notebooks.close()
