"""All adapters of the daemon: imported, validated, stored by content, served under their own names, removed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from portico_server.core import pools
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.registry import Registry
from portico_server.core.relay import AdapterScale
from portico_server.db import adapters
from portico_server.db.adapters import AdapterRow
from portico_server.db.database import Database
from portico_server.models.adapters.served import AdaptedModel, AdapterInfo, FindDeployment
from portico_server.models.adapters.stored import (
    StoredAdapter,
    adapter_folder,
    delete_adapter,
    is_complete,
    remove_partial,
    store_adapter,
)
from portico_server.models.catalog import engines_that
from portico_server.models.deployment import Deployment
from portico_server.models.protocol import TriesAdapters
from portico_server.models.spec import AdapterSpec, check_name, check_scale

logger = logging.getLogger(__name__)


class AdapterService:
    """The adapters of the daemon.

    Adapters are stored in ``folder``. ``find`` returns a model by name or alias, and ``gone`` receives names that are
    no longer valid. Changes to the adapters of one base model are applied one after another.
    """

    def __init__(
        self,
        database: Database,
        registry: Registry,
        folder: Path,
        find: FindDeployment,
        on_removed: Callable[[str], None],
    ) -> None:
        self._database = database
        self._registry = registry
        self._folder = folder
        self._find = find
        self._on_removed = on_removed
        self._models: dict[str, AdaptedModel] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        # While this lock is held, no files are deleted between the check that an adapter's files exist and
        # the registration of the adapter.
        self._files = asyncio.Lock()
        self._coming: list[Path] = []

    async def start(self) -> None:
        """Register the adapters in the database without loading them."""
        if (
            self._database.postgres is None
        ):  # with PostgreSQL, another daemon may be copying files at this moment
            await pools.MODELS.run(remove_partial, self._folder)
        for row in await self._database.read(adapters.list_adapters):
            self._enter(await self._read(row))

    async def _read(self, row: AdapterRow) -> AdaptedModel:
        facts = row.spec["facts"]
        adapter = AdapterScale(row.name, adapter_folder(self._folder, facts), float(row.spec["scale"]))
        if not await pools.MODELS.run(is_complete, self._folder, facts):
            logger.error("the files of the adapter %s no longer exist in %s", row.name, adapter.path)
        return AdaptedModel(
            adapter,
            row.base,
            facts,
            self._find,
            owner=row.owner,
            created_at=row.created_at,
            is_configured=False,
        )

    async def refresh(self) -> None:
        """Apply the changes of other daemons on the same database, which may have added, scaled or removed adapters."""
        before = {name: model for name, model in self._models.items() if not model.configured}
        adapter_rows = {row.name: row for row in await self._database.read(adapters.list_adapters)}
        for name, model in before.items():
            row = adapter_rows.get(name)
            if row is not None and (row.base, row.spec["scale"]) == (model.base, model.adapter.scale):
                continue
            if self._models.get(name) is model:
                self._leave(model)
                await self._detach(model)
        for name, row in adapter_rows.items():
            if name in self._models:
                continue
            model = await self._read(row)
            try:
                self._enter(model)
                deployment = self._find(row.base)
                if deployment is not None:
                    await deployment.attach(model.adapter)
            except PorticoError as error:
                logger.error("skipping the adapter %s of another daemon: %s", name, error.message)

    def of(self, base: str) -> tuple[AdapterScale, ...]:
        """Return the adapters with which a base model must be started, oldest first."""
        return tuple(model.adapter for model in self._models.values() if model.base == base)

    def get(self, name: str) -> AdapterInfo:
        """Return an adapter by name or alias. Raises `NotFound`."""
        return self._model(name).info()

    def files(self, name: str) -> AdapterScale:
        """Return the path and scale of an adapter. Raises `NotFound`."""
        return self._model(name).adapter

    def has(self, name: str) -> bool:
        """Return whether an adapter has this name. Aliases do not count."""
        return name in self._models

    def _model(self, name: str) -> AdaptedModel:
        adapted_model = self._models.get(name) or self._models.get(self._registry.aliases.get(name, ""))
        if adapted_model is None:
            raise NotFound(
                f"Adapter '{name}' not found.{nearest(name, self._models)}",
                code="adapter_not_found",
                param="name",
            )
        return adapted_model

    async def configure(self, base: str, specs: tuple[AdapterSpec, ...]) -> None:
        """Set the configured adapters of a model. Adapters that were added to the model in other ways stay.

        The configured adapters are checked against the model when the model is loaded. Invalid adapters raise the
        errors of `add`.
        """
        for model in list(self._models.values()):
            if model.base == base and model.configured:
                self._leave(model)
        if not specs:
            return
        deployment = self._base(base)
        for spec in specs:
            self._check_free(spec.name)
            async with self._files:
                stored_adapter = await self._take_in(Path(spec.path), deployment)
            adapter = AdapterScale(spec.name, stored_adapter.path, float(spec.scale))
            self._enter(
                AdaptedModel(
                    adapter,
                    base,
                    stored_adapter.facts,
                    self._find,
                    owner=None,
                    created_at=time.time(),
                    is_configured=True,
                )
            )

    async def add(
        self, base: str, path: Path, name: str, *, scale: float = 1.0, owner: str | None = None
    ) -> AdapterInfo:
        """Copy an adapter, and serve ``base`` with the adapter as ``name`` from now on, also after a restart.

        The adapter is tested first. If the engine must restart, calls in progress are completed and later calls wait.
        Raises `Conflict` for a name in use, `NotFound`, and `InvalidRequest` for an adapter that is invalid, does not
        fit or is rejected by the engine. After an error, nothing has changed.
        """
        check_name(name, "name")
        check_scale(name, scale)
        deployment = self._base(base)
        base = deployment.spec.name
        async with self._locks[base]:
            self._check_free(name)
            async with self._registry.claims.hold(
                owner, name
            ):  # the chat app of a store may already have this name
                pass
            async with self._files:
                stored_adapter = await self._take_in(path, deployment)
                self._coming.append(stored_adapter.path)
            adapter = AdapterScale(name, stored_adapter.path, float(scale))
            model = AdaptedModel(
                adapter,
                base,
                stored_adapter.facts,
                self._find,
                owner=owner,
                created_at=time.time(),
                is_configured=False,
            )
            try:
                await deployment.try_adapter(adapter)
                await self._attach(deployment, model)
            finally:
                self._coming.remove(stored_adapter.path)
                await self._forget_files(model)
        logger.info("added the adapter %s of %s", name, base)
        return model.info()

    async def _attach(self, deployment: Deployment, model: AdaptedModel) -> None:
        """Load, store and register an adapter. If a step fails, undo the others."""
        self._check_free(model.name)
        self._models[model.name] = model  # from now on, every start of the engine includes the adapter
        try:
            await deployment.attach(model.adapter)
            if not deployment.takes(model.adapter):
                raise InvalidRequest(
                    f"The engine of '{model.base}' cannot load the adapter '{model.name}'; see the daemon's "
                    "log for the reason.",
                    code="adapter_invalid",
                    param="path",
                )
            spec = {"scale": model.adapter.scale, "facts": dict(model.facts)}
            info = model.info()
            row = AdapterRow(model.name, info.owner, spec, info.created_at, model.base)
            await self._database.write(adapters.add_adapter, row)
        except BaseException:
            del self._models[model.name]
            await deployment.detach(model.name)
            raise
        self._enter(model)

    async def scale(self, name: str, scale: float) -> AdapterInfo:
        """Set the factor by which an adapter's effect is multiplied. Raises `NotFound`, `InvalidRequest`."""
        model = self._model(name)
        check_scale(model.name, scale)
        if model.configured:
            raise _configured(model)
        async with self._locks[model.base]:
            before = model.adapter.scale
            model.scale(float(scale))
            deployment = self._find(model.base)
            try:
                if deployment is not None:
                    await deployment.attach(model.adapter)
                spec = {"scale": model.adapter.scale, "facts": dict(model.facts)}
                await self._database.write(adapters.change_adapter, model.name, spec)
            except BaseException:
                model.scale(before)
                raise
        self._registry.announce("model")
        return model.info()

    async def remove(self, name: str) -> None:
        """Remove an adapter once the calls in progress are complete. Raises `NotFound`."""
        model = self._model(name)
        if model.configured:
            raise _configured(model)
        async with self._locks[model.base]:
            self._leave(model)
            await self._database.write(adapters.remove_adapter, model.name)
            self._on_removed(model.name)
            await self._detach(model)
            await self._forget_files(model)

    async def _detach(self, model: AdaptedModel) -> None:
        deployment = self._find(model.base)
        if deployment is not None:
            try:
                await deployment.detach(model.name)
            except PorticoError as error:  # a problem of the model, which the next call of the model reports
                logger.warning("unloading the adapter %s: %s", model.name, error.message)

    def _enter(self, model: AdaptedModel) -> None:
        self._registry.add(model)
        self._models[model.name] = model

    def _leave(self, model: AdaptedModel) -> None:
        self._registry.remove(model.name, model.card.owner)
        self._models.pop(model.name, None)

    async def _take_in(self, path: Path, deployment: Deployment) -> StoredAdapter:
        kind = deployment.process.launch.kind
        is_scripted = isinstance(kind, TriesAdapters) and kind.adapter_format == "script"
        return await pools.MODELS.run(store_adapter, path, self._folder, is_scripted=is_scripted)

    async def _forget_files(self, model: AdaptedModel) -> None:
        """Delete the files of an adapter, unless another adapter uses the same files."""
        async with self._files:
            paths = [*self._coming, *(adapted_model.path for adapted_model in self._models.values())]
            if self._database.postgres is not None:  # other daemons store their adapters in the same folder
                adapter_rows = await self._database.read(adapters.list_adapters)
                paths += [adapter_folder(self._folder, row.spec["facts"]) for row in adapter_rows]
            if model.path not in paths:
                await pools.MODELS.run(delete_adapter, self._folder, model.facts)

    def _base(self, name: str) -> Deployment:
        """Return the base model ``name``. Raise an error unless the model's engine supports adapters."""
        deployment = self._find(name)
        if deployment is None:
            raise NotFound(
                f"There is no model '{name}' to add an adapter to.",
                code="model_not_found",
                param="base",
            )
        kind = deployment.process.launch.kind
        if not isinstance(kind, TriesAdapters):
            raise InvalidRequest(
                f"The engine '{kind.name}' of '{deployment.spec.name}' does not support adapters. "
                + (
                    "Add adapters of a remote model on its own server, and add the result as a separate "
                    "model."
                    if "hosted" in deployment.card.capabilities
                    else f"Chat models on {engines_that(TriesAdapters)} support them."
                ),
                code="adapters_unsupported",
                param="base",
            )
        if "chat" not in deployment.card.capabilities:
            raise InvalidRequest(
                f"'{deployment.spec.name}' is not a chat model; only chat models support adapters.",
                code="adapters_unsupported",
                param="base",
            )
        return deployment

    def _check_free(self, name: str) -> None:
        servable = self._models.get(name) or self._registry.get(name)
        if servable is not None:
            raise Conflict(
                f"The name '{name}' is in use by a {servable.card.kind}. Remove that first, or choose "
                "another name.",
                code="name_taken",
                param="name",
            )

    # `list` is the last method, because its name hides the built-in `list` in the code that follows.
    def list(self, base: str | None = None) -> list[AdapterInfo]:
        """List all adapters, or those of the model ``base``, by name. Raises `NotFound`."""
        if base is not None:
            deployment = self._find(base)
            base = deployment.spec.name if deployment is not None else base
            if deployment is None and not self.of(base):
                raise NotFound(f"Model '{base}' not found.", code="model_not_found", param="base")
        models = sorted(self._models.values(), key=lambda model: model.name)
        return [model.info() for model in models if base in (None, model.base)]


def _configured(model: AdaptedModel) -> Conflict:
    return Conflict(
        f"The adapter '{model.name}' is defined in the configuration file; change it there.",
        code="configured",
        param="name",
    )
