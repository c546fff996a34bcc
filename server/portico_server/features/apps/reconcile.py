"""Applies the apps and agents of a configuration."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Protocol

from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep, Do, entry_step
from portico_server.core.errors import NotFound, PorticoError
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import SYSTEM, Principal
from portico_server.features.apps.configured import ConfiguredApps
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.apps.entry import AppEntry

KEY = "apps"


class DeployedServices(Protocol):
    """The services of the daemon that the reconciler of apps uses."""

    apps: DeployedApps
    configured_apps: ConfiguredApps


class AppReconciler:
    """Compares the apps of a configuration with the shared apps."""

    def __init__(self, apps: DeployedApps, configured_apps: ConfiguredApps) -> None:
        self._apps = apps
        self._configured_apps = configured_apps

    async def steps(self, specs: Sequence[AppEntry], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each app, dependencies first.

        An app that refers to entries that the configuration adds is checked when these entries exist.
        """
        new = {
            *plan.new,
            *((KEY, entry.name) for entry in specs if self._apps.index.find_shared(entry.name) is None),
        }
        steps: list[ConfigurationStep] = []
        app_entries: dict[str, AppEntry] = {}
        for entry in specs:
            step = entry_step(KEY, entry.name, self._differing(entry), self._deploying([entry], plan.caller))
            steps.append(step)
            if step.do is None:
                continue
            try:
                await self._apps.check(entry.name, entry.kind, entry.spec, plan.caller)
            except PorticoError as error:
                if not _is_coming(error, new - {(KEY, entry.name)}):
                    raise
                app_entries[entry.name] = entry
        # Apps whose references exist are deployed first. The other apps may depend on each other, so the last
        # step deploys all of them.
        late = [ConfigurationStep(step.change) for step in steps if step.change.name in app_entries]
        steps = [step for step in steps if step.change.name not in app_entries]
        if late:
            late[-1] = replace(late[-1], do=self._deploying(list(app_entries.values()), plan.caller))
        return steps + late

    def _differing(self, entry: AppEntry) -> tuple[str, ...] | None:
        """Return the fields in which an app differs from its entry, or ``None`` if the app does not exist."""
        row = self._apps.index.find_shared(entry.name)
        if row is None:
            return None
        fields = []
        if not self._apps.index.is_current(entry.name, entry.kind, entry.spec):
            fields.append("spec")
        if entry.limits is not None and entry.limits != UsageLimits.parse(row.limits):
            fields.append("limits")
        return tuple(fields)

    def _deploying(self, entries: Sequence[AppEntry], caller: Principal) -> Do:
        return lambda: self._configured_apps.deploy(entries, caller)

    async def begin(self, specs: Sequence[AppEntry]) -> None:
        await self._apps.start()
        await self._configured_apps.deploy(specs)

    async def names(self, key: str) -> Sequence[str]:
        """Return the names of all shared apps; of the shared agents, if the key is ``agents``."""
        rows = (row for row, _version in self._apps.index.list(SYSTEM))
        return [row.name for row in rows if key == KEY or row.kind == "agent"]

    async def remove(self, name: str) -> None:
        await self._apps.remove(name, SYSTEM)


def _is_coming(error: PorticoError, new: Set[tuple[str, str]]) -> bool:
    """Return whether the entry that an app refers to is missing, but may be added by the same configuration."""
    if error.status != NotFound.status:
        return False
    if error.code == "tool_not_found":
        # The names of the tools of an API or an MCP server are unknown until it is added.
        return any(kind in ("tools", "mcp") for kind, _name in new)
    return any(f"'{name}'" in error.message for _kind, name in new)


def build(services: DeployedServices) -> AppReconciler:
    """Return the reconciler of the keys ``apps`` and ``agents``."""
    return AppReconciler(services.apps, services.configured_apps)
