"""Applies the stores of a configuration."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from portico.schemas.configuration import Problem
from portico_server.core.configuration_step import ConfigurationPlan, ConfigurationStep, entry_step
from portico_server.core.errors import Conflict, InvalidRequest, NotFound
from portico_server.core.principal import SYSTEM
from portico_server.db.enforcement import OLDER_DAEMON_CODE
from portico_server.db.stores import StoreRow
from portico_server.features.sources import spec as sources
from portico_server.features.stores.configuration import StoreSpec
from portico_server.features.stores.store import StoreView
from portico_server.features.stores.stores import StoreService
from portico_server.problems import Problems

KEY = "stores"


class StoresAtStart(Protocol):
    """What the daemon was started with, and what it reports of it."""

    docs: Sequence[Path]
    startup: list[str]
    start_apps: list[str]


class StartedStores(StoresAtStart, Protocol):
    """The services of the daemon that the reconciler of stores uses."""

    stores: StoreService
    problems: Problems


class StoreReconciler:
    """Compares stores with their configuration, and changes what differs."""

    def __init__(self, stores: StoreService, problems: Problems, start: StoresAtStart) -> None:
        self._stores = stores
        self._problems = problems
        self._start = start
        self._putting = (
            asyncio.Lock()
        )  # two concurrent creations of the same store or group would reject each other
        self._applied_names: set[str] = set()
        """Names of the stores in the configurations that were applied since startup."""

    async def steps(self, specs: Sequence[StoreSpec], plan: ConfigurationPlan) -> list[ConfigurationStep]:
        """Return a step for each store."""
        steps = []
        for number, spec in enumerate(specs):
            fields = await self.differing(spec, f"{KEY}[{number}]", plan.models)
            steps.append(entry_step(KEY, spec.name, fields, partial(self._put, spec)))
        if not plan.is_dry_run:
            self._applied_names |= {spec.name for spec in specs}
        return steps

    async def names(self, key: str) -> Sequence[str]:
        return [row.name for row in await self._stores.list(SYSTEM) if row.owner is None]

    async def remove(self, name: str) -> None:
        await self._stores.delete(name, SYSTEM)

    async def begin(self, specs: Sequence[StoreSpec]) -> None:
        """Apply the stores of the daemon's own file, and create a store for each folder of documents."""
        for number, spec in enumerate(specs):
            await self._begin_store(spec, f"{KEY}[{number}]")
        for path in self._start.docs:
            folder = path.resolve()
            name = await self._name_for(folder)
            store = await self._stores.follow(name, folder, SYSTEM)
            self._start.start_apps.append(store.name)
            self._report_runs(await self._stores.sync(store))

    async def _begin_store(self, spec: StoreSpec, at: str) -> None:
        """Apply a store. If an older daemon on the database ignores its rights, record it until they can be applied."""

        async def retry() -> bool:
            await self._begin_without_missing(spec, at)
            return True

        try:
            await retry()
        except Conflict as error:
            if error.code != OLDER_DAEMON_CODE:
                raise
            problem = Problem(spec.name, f"{at}.{error.param}", error.message)
            self._problems.add(problem, retry=retry)

    async def _begin_without_missing(self, spec: StoreSpec, at: str) -> None:
        """Apply a store. While an embedding model is missing, the store uses the default model, and groups with that
        model are left out.
        """
        missing = self.missing_models(spec)
        self._report_runs(*await self._put_at_start(self.without(spec, missing) if missing else spec))
        if not missing:
            return

        async def holds() -> bool:
            return await self._exists(spec.name)

        wrong = {problem.name: problem.place for problem in await self._problems.current()}
        for field, (model, error) in missing.items():
            cause = f" It was omitted: {wrong[model]}." if model in wrong else ""
            until = (
                "the store lacks this group"
                if field.startswith("groups")
                else "a new store uses the default embedding model, and an existing store keeps its own"
            )
            reason = f"{error.message}{cause} Until it is added, {until}."
            retry = partial(self._attach_model, spec, field)
            self._problems.add(Problem(spec.name, f"{at}.{field}", reason), holds, retry)

    async def _attach_model(self, spec: StoreSpec, field: str) -> bool:
        """Attach the model that a field of the store names, if the model is now available. Return whether it is
        available.
        """
        missing = self.missing_models(spec)
        if field in missing:
            return False
        if await self._exists(spec.name):
            await self._put_at_start(self.without(spec, missing))
        return True

    async def _exists(self, name: str) -> bool:
        return any(row.name == name for row in await self._stores.list(SYSTEM))

    async def _name_for(self, folder: Path) -> str:
        """Return the folder's name as the name of a new store. If a store with this name mirrors another folder that
        still exists, prefix the name with the name of the folder's parent.
        """
        name = folder.name or "root"
        for row in await self._stores.list(SYSTEM):
            if row.owner is None and row.name == name and _is_another(row.folder, folder):
                return f"{folder.parent.name}-{name}"
        return name

    def _report_runs(self, *runs: str) -> None:
        startup = self._start.startup
        startup.extend(run for run in runs if run not in startup)

    async def differing(self, spec: StoreSpec, at: str, coming: Collection[str]) -> tuple[str, ...] | None:
        """Return the fields in which a store differs from its configuration, or ``None`` if the store does not exist.

        ``coming``: names of models that this configuration adds.
        """
        for field, (model, error) in self.missing_models(spec).items():
            if model not in coming:
                place = f"{at}.{field}"
                raise InvalidRequest(f"{place}: {error.message}", code=error.code, param=place) from error
        try:
            row = await self._stores.get(spec.name, SYSTEM)
        except NotFound:
            if spec.archive is not None:
                await self._require_archive(spec.archive, f"{at}.archive")
            return None
        fields = [
            name
            for name, differs in (
                ("folder", spec.folder is not None and row.folder != str(spec.folder)),
                ("source", spec.source is not None and _source(row) != _to_json(spec.source)),
                ("description", spec.description not in ("", row.description)),
                ("app", spec.app != row.app),
                ("answers", spec.answers not in ("", row.answers)),
                ("search", spec.search not in (None, row.search)),
                ("keep_removed", spec.keep_removed not in (None, row.keep_removed)),
                ("rights", spec.rights not in (None, row.rights or "off")),
                ("index", spec.index not in (None, row.next_index or row.index)),
                ("links", spec.links not in (None, row.links)),
                ("embedding_model", self._other_model(spec, row)),
            )
            if differs
        ]
        groups = await self._stores.groups.differing(row, self._groups(spec))
        return (*fields, *(f"groups.{name}" for name in groups))

    async def _require_archive(self, path: Path, at: str) -> None:
        """Raise `InvalidRequest` unless this archive looks like a valid archive of a store."""
        try:
            (await self._stores.portable.open(path)).close()
        except InvalidRequest as error:
            raise _misplaced(error, path, at) from error

    def _other_model(self, spec: StoreSpec, row: StoreRow) -> bool:
        if not spec.embedding_model:
            return False
        if self._is_missing_model(spec.embedding_model):
            return True
        embedding_model = self._stores.embedding(spec.embedding_model)
        return embedding_model not in (row.embedding_model, row.next_embedding_model)

    def missing_models(self, spec: StoreSpec) -> dict[str, tuple[str, InvalidRequest]]:
        """Return the missing embedding models of a store, by field, with the reason for each."""
        model_fields = {"embedding_model": spec.embedding_model} | {
            f"groups[{number}].embedding_model": group.embedding_model or ""
            for number, group in enumerate(spec.groups)
        }
        missing_models = {}
        for field, model in model_fields.items():
            try:
                self._stores.embedding(model)
            except InvalidRequest as error:
                missing_models[field] = model, error
        return missing_models

    def without(self, spec: StoreSpec, fields: Collection[str]) -> StoreSpec:
        """Return the spec without the embedding models and groups in ``fields``; a store then uses the default
        model.
        """
        groups = tuple(
            group for n, group in enumerate(spec.groups) if f"groups[{n}].embedding_model" not in fields
        )
        return replace(
            spec, embedding_model="" if "embedding_model" in fields else spec.embedding_model, groups=groups
        )

    def _groups(self, spec: StoreSpec) -> list[Any]:
        return [
            group
            if group.embedding_model is None or self._is_missing_model(group.embedding_model)
            else replace(group, embedding_model=self._stores.embedding(group.embedding_model))
            for group in spec.groups
        ]

    def _is_missing_model(self, model: str) -> bool:
        """Return whether a model is missing, including a model that the configuration adds later."""
        try:
            self._stores.embedding(model)
        except InvalidRequest:
            return True
        return False

    async def _put_at_start(self, spec: StoreSpec) -> list[str]:
        """Create or change a store from the startup configuration. Return the ids of the runs that this starts.

        If a configuration that was applied later names the store, leave the store unchanged.
        """
        return [] if spec.name in self._applied_names else await self._put(spec)

    async def _put(self, spec: StoreSpec) -> list[str]:
        """Create a store, or apply its configuration to it. Return the ids of the runs that this starts."""
        async with self._putting:
            return await self._put_one(spec)

    async def _put_one(self, spec: StoreSpec) -> list[str]:
        model, runs = spec.embedding_model or None, []
        if spec.folder is not None:
            row = await self._stores.follow(
                spec.name,
                spec.folder,
                SYSTEM,
                app=spec.app,
                embedding_model=model,
                description=spec.description,
                rights=spec.rights or "off",
            )
            runs.append(await self._stores.sync(row))
        else:
            try:
                row = await self._stores.get(spec.name, SYSTEM)
            except NotFound:
                if spec.archive is not None:
                    row, run = await self._import(spec.name, spec.archive)
                    runs += [] if run is None else [run]
                else:
                    row = await self._stores.create(
                        spec.name,
                        SYSTEM,
                        source=spec.source,
                        app=spec.app,
                        embedding_model=model,
                        description=spec.description,
                        rights=spec.rights or "off",
                    )
            changes: dict[str, Any] = {} if row.app == spec.app else {"app": spec.app}
            if spec.description not in ("", row.description):
                changes["description"] = spec.description
            if spec.source is not None:
                changes["source"] = spec.source
            if changes:
                row = await self._stores.update(row.id, SYSTEM, changes)
            if spec.source is not None:
                runs.append(await self._stores.sync(row))
        if spec.keep_removed not in (None, row.keep_removed):
            row = await self._stores.update(row.id, SYSTEM, {"keep_removed": spec.keep_removed})
        if spec.rights not in (None, row.rights or "off"):
            row = await self._stores.update(row.id, SYSTEM, {"rights": spec.rights})
        if spec.search not in (None, row.search):
            row = await self._stores.update(row.id, SYSTEM, {"search": spec.search})
        if spec.answers not in ("", row.answers):
            row = await self._stores.update(row.id, SYSTEM, {"answers": spec.answers})
        if spec.index not in (None, row.next_index or row.index):
            runs += [run for run in [await self._stores.jobs.move(row, spec.index)] if run]
        if spec.links not in (None, row.links):
            runs += [run for run in [await self._stores.jobs.link(row, bool(spec.links))] if run]
        if self._other_model(spec, row):
            runs.append(await self._stores.jobs.change_model(row, spec.embedding_model))
        return [*runs, *await self._stores.groups.apply(row, self._groups(spec))]

    async def _import(self, name: str, archive: Path) -> tuple[StoreView, str | None]:
        """Create a store from an archive.

        Return the id of the run that computes vectors missing from the archive, or ``None`` if no vectors are missing.
        """
        try:
            return await self._stores.portable.restore(archive, name, SYSTEM)
        except InvalidRequest as error:
            raise _misplaced(error, archive, f"stores.{name}.archive") from error


def _misplaced(error: InvalidRequest, path: Path, at: str) -> InvalidRequest:
    """Return the error for a rejected archive of a store, with the archive's path and its place in the
    configuration.
    """
    return InvalidRequest(f"{at}: {path}: {error.message}", code=error.code, param=at)


def _source(row: StoreRow) -> str | list[str] | None:
    return sources.source_of(row.source).written() if row.source is not None else None


def _to_json(source: str | tuple[str, ...]) -> str | list[str]:
    return source if isinstance(source, str) else list(source)


def _is_another(known_folder: str | None, folder: Path) -> bool:
    """Return whether a store's folder exists and differs from this folder."""
    return bool(known_folder) and known_folder != str(folder) and Path(str(known_folder)).is_dir()


def build(services: StartedStores) -> StoreReconciler:
    """Return the reconciler of the key ``stores``."""
    return StoreReconciler(services.stores, services.problems, services)
