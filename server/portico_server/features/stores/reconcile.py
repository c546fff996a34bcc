"""Applies the configuration of stores to a running daemon."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from portico_server.config import StoreSpec
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import SYSTEM
from portico_server.db.stores import StoreRow
from portico_server.features.sources import spec as sources
from portico_server.features.stores.store import StoreView
from portico_server.features.stores.stores import StoreService


class StoreReconciler:
    """Compares stores with their configuration, and changes what differs."""

    def __init__(self, stores: StoreService) -> None:
        self._stores = stores
        self._putting = (
            asyncio.Lock()
        )  # two concurrent creations of the same store or group would reject each other
        self.applied: set[str] = set()
        """Names of the stores in the configurations that were applied since startup."""

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

    async def begin(self, spec: StoreSpec) -> list[str]:
        """Create or change a store from the startup configuration. Return the ids of the runs that this starts.

        If a configuration that was applied later names the store, leave the store unchanged.
        """
        return [] if spec.name in self.applied else await self.put(spec)

    async def put(self, spec: StoreSpec) -> list[str]:
        """Create a store, or apply its configuration to it. Return the ids of the runs that this starts."""
        async with self._putting:
            return await self._put(spec)

    async def _put(self, spec: StoreSpec) -> list[str]:
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
