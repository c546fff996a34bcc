"""Deployed apps: flows and agents that answer under a name, each in versions."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from portico_server.apps.change import changed
from portico_server.apps.entry import AppEntry
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.limits import Limits
from portico_server.core.names import check_name
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Servable
from portico_server.db import apps, usage
from portico_server.db.apps import AppRow, VersionRow
from portico_server.db.database import Database
from portico_server.runs.quotas import DAY, MINUTE, Quotas

logger = logging.getLogger(__name__)

LONGEST_NOTE: Final = 500
"""Characters of what a version says about itself."""

Build = Callable[[str, Mapping[str, Any], AppRow], Servable]
"""The Servable of a specification that was checked: (name, specification, row)."""

Check = Callable[[str, Mapping[str, Any], Principal], Awaitable[None]]
"""Raise `InvalidRequest` that names what is wrong with a specification: (name, specification, caller)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of app: how its specification is checked and becomes a Servable."""

    check: Check
    build: Build


class Apps:
    """Puts deployed apps into the registry; runs in progress keep the version that they began with."""

    def __init__(self, database: Database, registry: Registry, quotas: Quotas) -> None:
        self._database = database
        self._registry = registry
        self._quotas = quotas
        self._kinds: dict[str, Kind] = {}
        self._rows: dict[str, tuple[AppRow, VersionRow]] = {}
        self._waiting: list[AppEntry] = []
        self.unusable: dict[str, str] = {}
        """Apps that could not be read at the start, and why: their rows stay, they do not answer."""

    def kind(self, name: str, kind: Kind) -> None:
        self._kinds[name] = kind

    async def start(self) -> None:
        """Let all deployed apps answer."""
        for row, version in await self._database.read(apps.all_of):
            try:
                self._serve(row, version)
            except PorticoError as error:
                self.unusable[row.name] = error.message
                logger.warning("the app %s does not answer: %s", row.name, error.message)
                continue
            if row.limits:
                await self._hold(row, resume=True)

    async def given(self, entries: Iterable[AppEntry], caller: Principal = SYSTEM) -> None:
        """Deploy the apps of a configuration, in the order in which they need each other.

        One that needs a tool which is not here yet waits for it, see `run`. Raises what is wrong with another one.
        """
        for entry in await self._deployed(entries, caller):
            try:
                await self.entered(entry, caller)
            except PorticoError as error:
                if error.code != "tool_not_found":
                    raise
                logger.warning("the app %s waits: %s", entry.name, error.message)
                self.unusable[entry.name] = error.message
                self._waiting.append(entry)

    async def _deployed(self, entries: Iterable[AppEntry], caller: Principal) -> list[AppEntry]:
        """Deploy what can be, until nothing more can; those that are left."""
        left = list(entries)
        while left:
            failed: list[AppEntry] = []
            for entry in left:
                try:
                    await self.entered(entry, caller)
                except PorticoError:
                    failed.append(entry)  # what is wrong is said when it is tried for the last time
            if len(failed) == len(left):
                break
            left = failed
        return left

    async def entered(self, entry: AppEntry, caller: Principal) -> None:
        """Deploy an app of a configuration, unless it is so already, and hold it to its limits."""
        if not self.same(entry.name, entry.kind, entry.spec):
            await self.deploy(entry.name, entry.kind, entry.spec, caller, note="configuration")
        row = self._rows[entry.name][0]
        if entry.limits is not None and entry.limits != Limits.parse(row.limits):
            await self.limit(entry.name, entry.limits, caller)

    async def run(self) -> None:
        """Deploy those that wait for tools as soon as these are here, until cancelled."""
        news = asyncio.Event()
        news.set()  # some may have come since they were looked for
        self._registry.watch(lambda kind: news.set() if kind == "tool" else None)
        while self._waiting:
            await news.wait()
            news.clear()
            self._waiting = await self._deployed(self._waiting, SYSTEM)

    async def _hold(self, row: AppRow, *, resume: bool = False) -> None:
        """Hold an app to its limits; with ``resume``, what was used before this start counts."""
        meter = self._quotas.limit(row.name, row.name, Limits.parse(row.limits))
        if meter is None or not resume:
            return
        now = time.time()
        requests, tokens = await self._database.read(usage.spent_by, row.name, now - MINUTE)
        _, today = await self._database.read(usage.spent_by, row.name, now - now % DAY)
        meter.resume(requests=requests, tokens=tokens, spent=today)

    async def deploy(
        self,
        name: str,
        kind: str,
        spec: Mapping[str, Any],
        caller: Principal,
        *,
        note: str = "",
        expected: int | None = None,
    ) -> tuple[AppRow, VersionRow]:
        """Make ``spec`` the version of ``name`` that answers, from the next call on.

        Raises `InvalidRequest` if it is wrong, `Conflict` if the name belongs to something else, or if ``expected``
        is not the version that answers now.
        """
        await self.check(name, kind, spec, caller)
        owner = None if caller.admin else caller.id
        row, version = await self._database.write(
            apps.deploy, name, kind, owner, caller.id, spec, digest_of(spec), note, expected
        )
        self._serve(row, version)
        return row, version

    def _of(self, kind: str) -> Kind:
        known = self._kinds.get(kind)
        if known is None:
            raise InvalidRequest(
                f"'{kind}' is no kind of app; it is one of {', '.join(self._kinds)}.", param="kind"
            )
        return known

    def _free(self, name: str, caller: Principal) -> None:
        """The name is free, or the caller's own app's."""
        if name in self._rows:
            if not caller.sees(self._rows[name][0].owner):
                raise Conflict(f"The name '{name}' is taken.", code="name_taken", param="name")
            return
        if self._registry.get(name) is not None:
            raise Conflict(
                f"The name '{name}' belongs to a model; choose another one.", code="name_taken", param="name"
            )

    def _serve(self, row: AppRow, version: VersionRow) -> None:
        servable = self._of(row.kind).build(row.name, version.spec, row)
        self._rows[row.name] = (row, version)
        self.unusable.pop(row.name, None)
        self._registry.add(servable, replace=True)

    def find(self, name: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """The app and the version that answers. Raises `NotFound` if there is none for this caller."""
        found = self._rows.get(name)
        if found is None or not caller.sees(found[0].owner) or not caller.allows(f"apps:{name}:call"):
            known = [row.name for row, _version in self._rows.values() if caller.sees(row.owner)]
            raise NotFound(
                f"There is no deployed app '{name}'.{nearest(name, known)}",
                code="app_not_found",
                param="name",
            )
        return found

    def row(self, name: str) -> AppRow | None:
        """The row of a deployed app, whoever may call it."""
        found = self._rows.get(name)
        return found[0] if found is not None else None

    def list(self, caller: Principal) -> Sequence[tuple[AppRow, VersionRow]]:
        """The deployed apps that the caller may call, by name."""
        return [
            (row, version)
            for name, (row, version) in sorted(self._rows.items())
            if caller.sees(row.owner) and caller.allows(f"apps:{name}:call")
        ]

    async def versions(self, name: str, caller: Principal) -> Sequence[VersionRow]:
        """All versions, newest first."""
        self.find(name, caller)
        return await self._database.read(apps.versions, name)

    async def version(self, name: str, number: int, caller: Principal) -> VersionRow:
        """One version. Raises `NotFound`."""
        self.find(name, caller)
        found = await self._database.read(apps.version, name, number)
        if found is None:
            raise NotFound(f"'{name}' has no version {number}.", code="version_not_found", param="version")
        return found

    async def roll_back(
        self, name: str, caller: Principal, *, to: int | None = None
    ) -> tuple[AppRow, VersionRow]:
        """Let an earlier version answer again: ``to``, or the one before this."""
        row, _current = self.find(name, caller)
        caller.require(f"apps:{name}:deploy")
        number = row.version - 1 if to is None else to
        found = await self.version(name, number, caller)
        await self._of(row.kind).check(name, found.spec, caller)
        moved = await self._database.write(apps.point, name, number)
        assert moved is not None
        self._serve(moved, found)
        return moved, found

    async def update(
        self,
        name: str,
        changes: Mapping[str, Any],
        caller: Principal,
        *,
        note: str = "",
        expected: int | None = None,
    ) -> tuple[AppRow, VersionRow]:
        """Another version with other values in some places (`portico_server.apps.change`); the rest stays as it is.

        Runs in progress end with the version that they began with; sessions go on with the new one. Raises
        `Conflict` if somebody else deployed meanwhile.
        """
        row, current = self.find(name, caller)
        caller.require(f"apps:{name}:deploy")
        spec = changed(current.spec, changes)
        said = note or f"set {', '.join(changes)}"
        return await self.deploy(
            name,
            row.kind,
            spec,
            caller,
            note=said[:LONGEST_NOTE],
            expected=row.version if expected is None else expected,
        )

    def known(self, caller: Principal) -> Sequence[str]:
        """`portico_server.core.variant.Variants` of deployed apps."""
        return [row.name for row, _version in self.list(caller)]

    async def variant(self, name: str, changes: Mapping[str, Any], caller: Principal) -> Servable:
        """The app with other values in some places, which nobody else can call. Raises as `update`."""
        row, current = self.find(name, caller)
        spec = changed(current.spec, changes)
        kind = self._of(row.kind)
        await kind.check(name, spec, caller)
        return kind.build(name, spec, row)

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """`update` for who has only the changes; the number of the version."""
        row, _version = await self.update(name, changes, caller, note=note)
        return row.version

    async def limit(self, name: str, limits: Limits, caller: Principal) -> AppRow:
        """Hold an app to limits, whoever calls it; what it has used so far counts, save calls in progress."""
        row, version = self.find(name, caller)
        caller.require(f"apps:{name}:deploy")
        await self._database.write(apps.limit, name, limits.to_json() or None)
        row = replace(row, limits=limits.to_json() or None)
        self._rows[name] = (row, version)
        await self._hold(row, resume=True)
        return row

    async def remove(self, name: str, caller: Principal) -> None:
        """Remove an app with all its versions; runs in progress go on."""
        self.find(name, caller)
        caller.require(f"apps:{name}:deploy")
        await self._database.write(apps.remove, name)
        self._rows.pop(name, None)
        self._quotas.forget(name)
        self._registry.remove(name)

    async def check(self, name: str, kind: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """What `deploy` would raise, without deploying."""
        known = self._of(kind)
        check_name(name, "an app")
        caller.require(f"apps:{name}:deploy")
        self._free(name, caller)
        await known.check(name, spec, caller)

    def same(self, name: str, kind: str, spec: Mapping[str, Any]) -> bool:
        """Whether this is what answers under the name now."""
        found = self._rows.get(name)
        return found is not None and found[0].kind == kind and found[1].digest == digest_of(spec)


def digest_of(spec: Mapping[str, Any]) -> str:
    """What tells two specifications apart, whatever the order of their keys."""
    return hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()
