"""Aliases set while a daemon runs: additional names of models and apps, stored in the database."""

from __future__ import annotations

import logging

from portico_server.core.errors import Conflict, NotFound, PorticoError, nearest
from portico_server.core.principal import LOCAL
from portico_server.core.registry import Registry
from portico_server.core.servable import Servable
from portico_server.db import models as rows
from portico_server.db.database import Database
from portico_server.models.adapters.service import AdapterService
from portico_server.models.built_in import BUILT_IN
from portico_server.models.deployments import Deployments
from portico_server.models.spec import check_name

logger = logging.getLogger(__name__)


class ModelAliases:
    """Sets and removes aliases in the registry and in the database."""

    def __init__(
        self, database: Database, registry: Registry, deployments: Deployments, adapters: AdapterService
    ) -> None:
        self._database = database
        self._registry = registry
        self._deployments = deployments
        self._adapters = adapters
        self._set: set[str] = set()
        """Aliases that are stored in the database."""

    async def start(self) -> None:
        """Register the aliases that are stored in the database."""
        for name, target in (await self._database.read(rows.list_aliases)).items():
            await self._point(name, target)

    async def refresh(self) -> None:
        """Apply the changes of other daemons on the same database, which may have set or removed aliases."""
        before = set(self._set)
        aliases = await self._database.read(rows.list_aliases)
        for name in before - aliases.keys():
            self._set.discard(name)
            self._registry.aliases.remove(name)
        for name, target in aliases.items():
            if self._registry.aliases.get(name) != target:
                await self._point(name, target)
            self._set.add(name)

    async def _point(self, name: str, target: str) -> None:
        """Store an alias and its target in the database."""
        try:
            behind = await self._registry.version(target)
        except PorticoError as error:
            logger.error("the alias %s is unavailable: %s", name, error.message)
            behind = None
        self._registry.aliases.set(name, target, behind)
        self._set.add(name)

    async def set(self, name: str, target: str) -> None:
        """Make ``name`` an alias of the model, app or app version ``target``, from now on and after a restart.

        Raises `Conflict` while a canary splits the calls of the alias.
        """
        check_name(name, "name")
        if name in self._deployments or self._adapters.has(name):
            raise Conflict(
                f"'{name}' is the name of a model, so it cannot be used as an alias.", param="name"
            )
        target = self._registry.aliases.get(target, target)
        if name in self._set and self._registry.aliases.get(name) == target:
            return
        behind = await self.check_target(name, target)
        async with self._registry.claims.hold(None, aliases=[name]):
            await self._database.write(rows.put_alias, name, target)
            self._set.add(name)
            self._registry.aliases.set(name, target, behind)

    def names(self) -> list[str]:
        """Return the aliases that were set. Aliases that a model defines or that the daemon requires are not
        included.
        """
        specs = (*BUILT_IN, *(deployment.spec for deployment in self._deployments.values()))
        return sorted(self._set.difference(*(spec.aliases for spec in specs)))

    async def remove(self, name: str) -> None:
        """Remove an alias that was set. Raise `Conflict` while a canary splits the calls of the alias."""
        await self._database.write(rows.remove_alias, name)
        self._set.discard(name)
        self._registry.aliases.remove(name)

    async def check_target(self, name: str, target: str) -> Servable | None:
        """Return the app version to which an alias refers, or ``None`` if the target is a model or an app. Raise
        `NotFound` if the target does not exist.
        """
        behind = await self._registry.version(target)
        if behind is None and target not in self._deployments and not await self._chats(target):
            raise NotFound(
                f"No model, app or app version (NAME@NUMBER) is named '{target}', so '{name}' cannot refer "
                f"to it.{nearest(target, self._deployments)}",
                code="model_not_found",
                param="target",
            )
        return behind

    async def _chats(self, name: str) -> bool:
        """Return whether ``name`` is the name of a model or an app, including the chat app of a store."""
        try:
            card = (await self._registry.resolve(name, LOCAL)).card
        except NotFound:
            return False
        return card.kind in ("model", "app")
