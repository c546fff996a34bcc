"""Deployed apps: named flows and agents with versions."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol

from portico_server.core.binding import binding
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError
from portico_server.core.ids import is_id, new_id
from portico_server.core.limits import UsageLimits
from portico_server.core.names import check_name
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.core.servable import Servable
from portico_server.core.words import whole_number
from portico_server.db import apps, canaries, usage
from portico_server.db.apps import AppRow, VersionRow
from portico_server.db.database import Database
from portico_server.db.rows import json_bytes
from portico_server.db.usage import DAY_S
from portico_server.features.apps.app_index import AppIndex, digest_of
from portico_server.features.apps.places import change_places
from portico_server.runs.quotas import MINUTE_S, Quotas, StorageQuota

logger = logging.getLogger(__name__)

MAX_VERSION_CHARS: Final = 9
"""Maximum number of digits in a version number."""

MAX_NOTE_CHARS: Final = 500
"""Maximum length of a version's note, in characters."""


class AppKind(Protocol):
    """A kind of app: how its specifications are checked and how Servables are built from them."""

    async def check(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Raise `InvalidRequest` that names the error in a specification."""

    def build(self, name: str, spec: Mapping[str, Any], row: AppRow) -> Servable:
        """Return the Servable for a checked specification."""


class DeployedApps:
    """Puts deployed apps into the registry. Runs in progress keep the version with which they began."""

    def __init__(
        self, database: Database, registry: Registry, quotas: Quotas, storage: StorageQuota | None = None
    ) -> None:
        self._database = database
        self._storage = storage or StorageQuota()
        self._registry = registry
        self._quotas = quotas
        self._kinds: dict[str, Callable[[], Awaitable[AppKind]]] = {}
        self.index = AppIndex()

    def kind(self, name: str, load: Callable[[], Awaitable[AppKind]]) -> None:
        """Add a kind of app. ``load`` imports it the first time that an app of this kind is checked or built."""
        self._kinds[name] = load

    async def start(self) -> None:
        """Register all deployed apps."""
        for row, version in await self._database.read(apps.all_of):
            await self._take(row, version)

    async def _take(self, row: AppRow, version: VersionRow) -> None:
        try:
            await self._serve(row, version)
        except PorticoError as error:
            self.index.put_broken(row, error.message)
            logger.warning("the app %s is not available: %s", row.name, error.message)
            return
        if row.limits:
            await self._hold(row)

    async def refresh(self) -> None:
        """Apply the changes that other daemons on the same database made: deployed and removed apps, and new limits."""
        before = self.index.all_rows()
        deployed_rows = await self._database.read(apps.all_of)
        for app_id in before.keys() - {row.id for row, _version in deployed_rows}:
            self._leave(before[app_id])
        for row, version in deployed_rows:
            if before.get(row.id) == row:
                continue
            if row.id in before and not row.limits:
                self._quotas.forget(row.id)
            await self._take(row, version)

    async def _hold(self, row: AppRow) -> None:
        """Apply the limits of an app. Usage before this daemon started counts towards them."""
        meter = self._quotas.limit(row.id, row.name, UsageLimits.parse(row.limits))
        if meter is None:
            return
        now = time.time()

        async def sum_spent(since: float) -> tuple[int, int]:
            return await self._database.read(
                usage.spent_by,
                (row.name, row.id),
                since,
                by=row.owner,
                without=self.index.owners(row.name) if row.owner is None else (),
            )

        requests, tokens = await sum_spent(now - MINUTE_S)
        _, today = await sum_spent(now - now % DAY_S)
        meter.resume(requests=requests, tokens=tokens, spent_tokens=today)

    async def deploy(
        self,
        name: str,
        kind: str,
        spec: Mapping[str, Any],
        caller: Principal,
        *,
        note: str = "",
        expected_version: int | None = None,
    ) -> tuple[AppRow, VersionRow]:
        """Make ``spec`` the current version of ``name``, from the next call on; ``name`` may be the id of an app.

        Apps deployed by an admin are shared. Raise `InvalidRequest` if the specification is invalid. Raise `Conflict`
        if the name belongs to another object, if it belongs to a shared app and the caller is not an admin, or if
        ``expected_version`` is not the current version.
        """
        row = await self._check(name, kind, spec, caller)
        if row is not None:
            return await self._deployed_again(row, kind, spec, caller, note, expected_version)
        owner, now = owner_of(caller), time.time()
        await self._storage.admit(self._database, owner, json_bytes(spec))
        new = AppRow(new_id("app_"), name, owner, kind, 1, None, now, now)
        async with self._registry.claims.hold(owner, name):
            version = await self._database.write(apps.create, new, caller.id, spec, digest_of(spec), note)
            await self._serve(new, version)
        return new, version

    async def _deployed_again(
        self,
        row: AppRow,
        kind: str,
        spec: Mapping[str, Any],
        caller: Principal,
        note: str,
        expected_version: int | None,
    ) -> tuple[AppRow, VersionRow]:
        await self._storage.admit(self._database, row.owner, json_bytes(spec))
        row, version = await self._database.write(
            apps.deploy, row.id, kind, caller.id, spec, digest_of(spec), note, expected_version
        )
        await self._serve(row, version)
        return row, version

    async def _of(self, kind: str) -> AppKind:
        load = self._kinds.get(kind)
        if load is None:
            raise InvalidRequest(
                f"'{kind}' is not a kind of app; it must be one of {', '.join(self._kinds)}.", param="kind"
            )
        return await load()

    async def _serve(self, row: AppRow, version: VersionRow) -> None:
        kind = await self._of(row.kind)
        servable = kind.build(row.name, version.spec, row)
        self._registry.add(servable, replace=True)
        self.index.put(row, version)

    async def versions(self, ref: str, caller: Principal) -> Sequence[VersionRow]:
        """List all versions, newest first. Raises the same errors as `AppIndex.readable`."""
        row, _version = self.index.readable(ref, caller)
        return await self._database.read(apps.versions, row.id)

    async def version(self, ref: str, number: int, caller: Principal) -> VersionRow:
        """Return a version. Raises `NotFound`, and the same errors as `AppIndex.readable`."""
        row, _version = self.index.readable(ref, caller)
        version_row = await self._database.read(apps.version, row.id, number)
        if version_row is None:
            newest = (await self._database.read(apps.versions, row.id))[0].version
            raise NotFound(
                f"'{row.name}' has no version {number}; its newest version is {newest}.",
                code="version_not_found",
                param="version",
            )
        return version_row

    async def named_version(self, target: str) -> Servable | None:
        """Return the Servable for ``NAME@NUMBER``, a version of a shared app, or ``None`` if the version does not
        exist. Raise `PorticoError` if it can no longer be built.
        """
        name, _, digits = target.rpartition("@")
        number = whole_number(digits, MAX_VERSION_CHARS)
        if not name or number is None:
            return None
        found_version = await self._database.read(apps.shared_version, name, number)
        if found_version is None:
            return None
        row, version = found_version
        kind = await self._of(row.kind)
        return kind.build(row.name, version.spec, replace(row, version=version.version))

    async def roll_back(
        self, ref: str, caller: Principal, *, to: int | None = None
    ) -> tuple[AppRow, VersionRow]:
        """Restore an earlier version: ``to``, or the version before the current one."""
        row, _current = self.index.changeable(ref, caller)
        number = row.version - 1 if to is None else to
        version_row = await self.version(row.id, number, caller)
        kind = await self._of(row.kind)
        await kind.check(row.name, version_row.spec, caller)
        app_row = await self._database.write(apps.point, row.id, number)
        if app_row is None:
            raise Conflict("The app was removed in the meantime.", code="app_removed", param="name")
        await self._serve(app_row, version_row)
        return app_row, version_row

    async def update(
        self,
        ref: str,
        changes: Mapping[str, Any],
        caller: Principal,
        *,
        note: str = "",
        expected_version: int | None = None,
    ) -> tuple[AppRow, VersionRow]:
        """Deploy a new version in which ``changes`` replaces values in the specification (`change_places`).

        Runs in progress end with the version with which they began; sessions continue with the new version. Raise
        `Conflict` if another version was deployed in the meantime.
        """
        row, current = self.index.changeable(ref, caller)
        spec = change_places(current.spec, changes)
        description = note or f"set {', '.join(changes)}"
        return await self.deploy(
            row.id,
            row.kind,
            spec,
            caller,
            note=description[:MAX_NOTE_CHARS],
            expected_version=row.version if expected_version is None else expected_version,
        )

    async def variant(
        self, name: str, changes: Mapping[str, Any], caller: Principal, version: int | None = None
    ) -> Servable:
        """Return the app, or an earlier version of it, with changed values in its specification. Only this caller can
        use the variant. Raises the same errors as `update`, and `NotFound` for an unknown version.
        """
        row, base = self.index.readable(name, caller)
        if version is not None:
            base = await self.version(row.id, version, caller)
        spec = change_places(base.spec, changes)
        kind = await self._of(row.kind)
        await kind.check(row.name, spec, caller)
        return kind.build(row.name, spec, replace(row, version=base.version))

    async def stage(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """Store a new version, as `update` does, that only ``NAME@NUMBER`` calls. Return its number."""
        row, current = self.index.changeable(name, caller)
        spec = change_places(current.spec, changes)
        await self._check(row.id, row.kind, spec, caller)
        await self._storage.admit(self._database, row.owner, json_bytes(spec))
        version = await self._database.write(
            apps.add_version, row.id, caller.id, spec, digest_of(spec), note[:MAX_NOTE_CHARS]
        )
        return version.version

    async def limit(self, ref: str, limits: UsageLimits, caller: Principal) -> AppRow:
        """Set an app's limits for all callers. Past usage counts towards them, except calls in progress."""
        row, _version = self.index.changeable(ref, caller)
        await self._database.write(apps.limit, row.id, limits.to_json() or None)
        row, version = self.index.changeable(row.id, caller)  # it may have another version, or be removed
        row = replace(row, limits=limits.to_json() or None)
        self.index.put(row, version)
        await self._hold(row)
        return row

    async def remove(self, ref: str, caller: Principal) -> None:
        """Remove an app and all its versions. Runs in progress continue."""
        row, _version = self.index.changeable(ref, caller)
        if row.owner is None:
            await self._database.read(partial(canaries.require_unused, versions=True), row.name)
        await self._database.write(apps.remove, row.id)
        self._leave(row)

    def _leave(self, row: AppRow) -> None:
        self.index.remove(row)
        self._quotas.forget(row.id)
        self._registry.remove(row.name, row.owner)

    async def check(self, name: str, kind: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Raise the errors of `deploy` without deploying."""
        await self._check(name, kind, spec, caller)

    async def _check(self, name: str, kind: str, spec: Mapping[str, Any], caller: Principal) -> AppRow | None:
        """Return the app that would get a new version, or ``None`` if the app would be new. Raises the same errors as
        `deploy`.
        """
        app_kind = await self._of(kind)
        if is_id(name, "app_"):
            row: AppRow | None = self.index.changeable(name, caller)[0]
        else:
            check_name(name, "an app")
            caller.require(f"apps:{name}:deploy")
            owner = owner_of(caller)
            row = self.index.find_owned(owner, name)
            if row is None:
                async with self._registry.claims.hold(owner, name):
                    row = self.index.find_broken(owner, name)
        await app_kind.check(name if row is None else row.name, spec, caller)
        return row

    async def names(self, row: AppRow, spec: Mapping[str, Any], caller: Principal) -> Sequence[str]:
        """Return the registry keys of everything that a version of an app calls. If a name does not exist, raise the
        same error as `deploy`.
        """
        kind = await self._of(row.kind)
        with binding() as bound:
            await kind.check(row.name, spec, caller)
        return sorted(bound.known)
