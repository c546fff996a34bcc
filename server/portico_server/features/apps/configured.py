"""The apps of a configuration. They are deployed in the order of their dependencies, once the tools that they need are
available.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from portico_server.core.errors import PorticoError
from portico_server.core.limits import UsageLimits
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.apps.entry import AppEntry

logger = logging.getLogger(__name__)


class ConfiguredApps:
    """Deploys the apps of configurations. If an app needs a tool that is still starting, the app waits for the tool."""

    def __init__(self, registry: Registry, apps: DeployedApps) -> None:
        self._registry = registry
        self._apps = apps
        self._index = apps.index
        self._waiting_entries: list[AppEntry] = []
        """Apps that wait for a tool or for another waiting app."""
        self._deploying = asyncio.Lock()
        self._tool_added = asyncio.Event()
        """Set when a tool was added after the last attempt to deploy the waiting apps."""

    async def deploy(self, entries: Iterable[AppEntry], caller: Principal = SYSTEM) -> None:
        """Deploy the apps of a configuration in the order of their dependencies.

        An app that needs an unavailable tool, or an app that waits, is deployed later by `run`. Raise the error of any
        other app that fails.
        """
        wrong: list[tuple[AppEntry, PorticoError]] = []
        for entry in await self._deploy_possible(entries, caller):
            try:
                await self._deploy_entry(entry, caller)
            except PorticoError as error:
                wrong.append((entry, error))
        while waits := [failure for failure in wrong if self._may_come(failure[1])]:
            wrong = [failure for failure in wrong if failure not in waits]
            for app_entry, reason in waits:
                logger.warning("the app %s is waiting: %s", app_entry.name, reason.message)
                self._index.unusable[app_entry.name] = reason.message
                self._waiting_entries.append(app_entry)
        if wrong:
            raise wrong[0][1]

    def _may_come(self, error: PorticoError) -> bool:
        """Return whether an error means that an app lacks a tool, or lacks an app that waits."""
        if error.code == "model_not_found":
            return any(f"'{entry.name}'" in error.message for entry in self._waiting_entries)
        return error.code == "tool_not_found"

    async def _deploy_possible(self, entries: Iterable[AppEntry], caller: Principal) -> list[AppEntry]:
        """Repeatedly deploy the apps whose dependencies are available. Return the remaining entries."""
        remaining_entries = list(entries)
        while remaining_entries:
            app_entries: list[AppEntry] = []
            for entry in remaining_entries:
                try:
                    await self._deploy_entry(entry, caller)
                except PorticoError:
                    app_entries.append(entry)  # the last attempt reports the app's error
            if len(app_entries) == len(remaining_entries):
                break
            remaining_entries = app_entries
        return remaining_entries

    async def _deploy_entry(self, entry: AppEntry, caller: Principal) -> None:
        """Deploy an app of a configuration unless it is already deployed, and apply its limits."""
        if not self._index.is_current(entry.name, entry.kind, entry.spec):
            await self._apps.deploy(entry.name, entry.kind, entry.spec, caller, note="configuration")
        row = self._index.find_shared(entry.name)
        assert row is not None
        if entry.limits is not None and entry.limits != UsageLimits.parse(row.limits):
            await self._apps.limit(row.id, entry.limits, caller)

    async def run(self) -> None:
        """Deploy the waiting apps as soon as their tools are available. Runs until no app waits or the task is
        cancelled.
        """
        self._tool_added.set()  # tools may have become available before the watch begins
        self._registry.watch(lambda kind: self._tool_added.set() if kind == "tool" else None)
        while self._waiting_entries:
            await self._tool_added.wait()
            await self._deploy_waiting()

    async def _deploy_waiting(self) -> None:
        async with self._deploying:
            if self._tool_added.is_set():
                self._tool_added.clear()
                self._waiting_entries = await self._deploy_possible(self._waiting_entries, SYSTEM)

    async def wait_for_start(self, key: str) -> None:
        """If an app with this name waits for tools that are starting, wait for the tools and deploy the app."""
        if any(entry.name == key for entry in self._waiting_entries):
            await self._registry.late_sources.tools_started()
            await self._deploy_waiting()

    async def prepared(self, key: str) -> None:
        """Prepare a durable run of an app: wait for the app as `wait_for_start` does."""
        await self.wait_for_start(key)

    def problem(self, key: str) -> str:
        """Return nothing: an app that waits for its tools has no problem of its own."""
        return ""
