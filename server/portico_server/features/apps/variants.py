"""Variants of deployed apps, for evaluations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico_server.core.principal import Principal
from portico_server.core.servable import Servable
from portico_server.features.apps.app_variants import AppParts
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.apps.parts import parts_of


class DeployedVariants:
    """The `portico_server.features.apps.app_variants.AppVariants` of this daemon."""

    def __init__(self, apps: DeployedApps) -> None:
        self._apps = apps

    def names(self, caller: Principal) -> Sequence[str]:
        return [row.name for row, _version in self._apps.index.list(caller)]

    async def variant(
        self, name: str, changes: Mapping[str, Any], caller: Principal, version: int | None = None
    ) -> Servable:
        return await self._apps.variant(name, changes, caller, version)

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        row, _version = await self._apps.update(name, changes, caller, note=note)
        return row.version

    async def parts(self, name: str, caller: Principal) -> AppParts:
        _row, current = self._apps.index.readable(name, caller)
        versions = await self._apps.versions(name, caller)
        other_specs = [version.spec for version in versions if version.version != current.version]
        return parts_of(current.spec, current.version, other_specs)

    async def stage(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        return await self._apps.stage(name, changes, caller, note)
