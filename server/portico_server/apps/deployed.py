"""Deployed apps: flows and agents that answer under a name, each in versions."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import orjson

from portico_server.apps.entry import AppEntry
from portico_server.core.binding import binding, bound_id
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, Forbidden, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.ids import is_id, new_id
from portico_server.core.limits import UsageLimits
from portico_server.core.names import check_name
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.registry import Registry, owner_of
from portico_server.core.servable import Servable
from portico_server.core.words import whole_number
from portico_server.db import apps, canaries, usage
from portico_server.db.apps import AppRow, VersionRow
from portico_server.db.database import Database
from portico_server.db.rows import json_bytes
from portico_server.db.usage import DAY_S
from portico_server.runs.quotas import MINUTE_S, Quotas, StorageQuota

# Changing one place of a specification: ``outline.system``, ``chapters.step.options.temperature``.


_PART: Final = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")


def changed(spec: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The specification with other values in some places; ``None`` takes a field away. ``spec`` stays as it is.

    A place is the names that lead to a field, with dots between: a name of a step or of anything else that has one, a
    field, a number in brackets for an item of a list. A step that is the only one of its name may be named at once,
    wherever it is. Raises `NotFound` for a place that is not there.
    """
    made: dict[str, Any] = copy.deepcopy(dict(spec))
    for place, value in changes.items():
        _put(made, place, value)
    return made


def _put(spec: dict[str, Any], place: str, value: Any) -> None:
    parts = _parts(place)
    node: Any = spec
    for number, part in enumerate(parts[:-1]):
        found = _below(node, part)
        if found is None and number == 0:
            found = _anywhere(spec, part, place)
        if found is None and number == len(parts) - 2 and isinstance(node, dict) and _is_whole(node):
            # An object that was left out so far, such as the options of a model; the check knows its fields.
            found = node[part] = {}
        if found is None:
            raise _nowhere(place, part, node, [name for name, _step in _all(spec)] if not number else [])
        node = found
    last = parts[-1]
    at = whole_number(last)
    if isinstance(node, list) and at is not None and at < len(node):
        node[at] = value
    elif not isinstance(node, dict):
        raise _nowhere(place, last, node)
    elif value is None:
        node.pop(last, None)
    else:
        node[last] = value


def _is_whole(node: Mapping[str, Any]) -> bool:
    """A step, or an agent."""
    return "op" in node or "portico_agent" in node


def _parts(place: str) -> list[str]:
    parts = [name or number for name, number in _PART.findall(place)]
    if not parts or "".join(match[0] for match in _PART.finditer(place)) != place:
        raise InvalidRequest(
            f"'{place[:200]}' is not a place in a specification. Write the names that lead to a field, such as "
            "'outline.system' or 'chapters.step.options.temperature'.",
            param="set",
        )
    return parts


def _below(node: Any, part: str) -> Any:
    """What ``part`` means right below a node: a field, an item, or something of that name; ``None`` if nothing."""
    if isinstance(node, list):
        number = whole_number(part)
        if number is not None:
            return node[number] if number < len(node) else None
        return next((child for name, child in _children({"steps": node}) if name == part), None)
    if not isinstance(node, dict):
        return None
    # The steps of a combinator come before its fields: a step may be named as it likes.
    for name, child in _children(node):
        if name == part:
            return child
    found = node.get(part)
    return found if isinstance(found, dict | list) else None


def _named(item: Any) -> dict[str, Any] | None:
    """An item of a list that has a name, or holds what has one: a case of a switch its step, an entry its agent."""
    if not isinstance(item, dict) or "name" in item or "op" in item:
        return item if isinstance(item, dict) else None
    inner = item.get("step") or item.get("agent")
    return inner if isinstance(inner, dict) else item


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The steps and agents right below an object, by name; a step without one is called as the daemon calls it."""
    found: list[tuple[int, Any]] = [(1, node.get(key)) for key in ("step", "then", "else", "default")]
    for key in ("steps", "cases", "agents"):
        items = node.get(key)
        numbered = enumerate(items if isinstance(items, list) else (), 1)
        found += [(number if key == "steps" else 1, _named(item)) for number, item in numbered]
    for number, child in found:
        if isinstance(child, dict) and ("name" in child or "op" in child):
            yield str(child.get("name") or f"{child.get('op')}{number}"), child


def _anywhere(spec: dict[str, Any], name: str, place: str) -> dict[str, Any] | None:
    """The one thing of this name in the whole specification."""
    found = [node for known, node in _all(spec) if known == name]
    if len(found) > 1:
        raise InvalidRequest(
            f"'{place}': {len(found)} steps are named '{name}'. Name the ones around it too, from the outside.",
            code="ambiguous_place",
            param=f"set.{place}",
        )
    return found[0] if found else None


def _all(spec: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    stack = [spec]
    while stack:
        for name, child in _children(stack.pop()):
            yield name, child
            stack.append(child)


def _nowhere(place: str, part: str, node: Any, further: Sequence[str] = ()) -> NotFound:
    known = list(further)
    if isinstance(node, dict):
        known += [*(str(key) for key in node), *(name for name, _child in _children(node))]
    hint = nearest(part, known) or (f" There are {', '.join(known[:20])}." if known else "")
    return NotFound(
        f"'{place}' leads nowhere: there is no '{part}'.{hint}", code="place_not_found", param="set"
    )


logger = logging.getLogger(__name__)

MAX_VERSION_CHARS: Final = 9
"""Digits of the number of a version."""

MAX_NOTE_CHARS: Final = 500
"""Characters of what a version says about itself."""

Build = Callable[[str, Mapping[str, Any], AppRow], Servable]
"""The Servable of a specification that was checked: (name, specification, row)."""

Check = Callable[[str, Mapping[str, Any], Principal], Awaitable[None]]
"""Raise `InvalidRequest` that names what is wrong with a specification: (name, specification, caller)."""


@dataclass(frozen=True, slots=True)
class AppKind:
    """A kind of app: how its specification is checked and becomes a Servable."""

    check: Check
    build: Build


class DeployedApps:
    """Puts deployed apps into the registry; runs in progress keep the version that they began with."""

    def __init__(
        self, database: Database, registry: Registry, quotas: Quotas, storage: StorageQuota | None = None
    ) -> None:
        self._database = database
        self._storage = storage or StorageQuota()
        self._registry = registry
        self._quotas = quotas
        self._kinds: dict[str, AppKind] = {}
        self._rows: dict[str, tuple[AppRow, VersionRow]] = {}
        """By id."""
        self._ids: dict[tuple[str | None, str], str] = {}
        """By owner and name."""
        self._broken: dict[str, AppRow] = {}
        """Those that do not answer, by id; another version may mend them."""
        self._waiting: list[AppEntry] = []
        """Those of the configuration that need a tool which is not here yet."""
        self._deploying = asyncio.Lock()
        self._tool_added = asyncio.Event()
        """Set when tools have come since it was tried to deploy those that wait."""
        self.unusable: dict[str, str] = {}
        """Apps that could not be read at the start, and why: their rows stay, they do not answer."""

    def kind(self, name: str, kind: AppKind) -> None:
        self._kinds[name] = kind

    async def start(self) -> None:
        """Let all deployed apps answer."""
        for row, version in await self._database.read(apps.all_of):
            await self._take(row, version)

    async def _take(self, row: AppRow, version: VersionRow) -> None:
        try:
            self._serve(row, version)
        except PorticoError as error:
            self._ids[row.owner, row.name] = row.id
            self._broken[row.id] = row
            self.unusable[row.name if row.owner is None else row.id] = error.message
            logger.warning("the app %s does not answer: %s", row.name, error.message)
            return
        if row.limits:
            await self._hold(row, resume=True)

    async def refresh(self) -> None:
        """Take over what other daemons on the same database deployed, limited or removed."""
        before = {**{key: known for key, (known, _version) in self._rows.items()}, **self._broken}
        listed = await self._database.read(apps.all_of)
        for app_id in before.keys() - {row.id for row, _version in listed}:
            self._leave(before[app_id])
        for row, version in listed:
            if before.get(row.id) == row:
                continue
            if row.id in before and not row.limits:
                self._quotas.forget(row.id)
            await self._take(row, version)

    async def given(self, entries: Iterable[AppEntry], caller: Principal = SYSTEM) -> None:
        """Deploy the apps of a configuration, in the order in which they need each other.

        One that needs a tool which is not here yet waits for it, see `run`, and so does one that needs such an app.
        Raises what is wrong with another one.
        """
        wrong: list[tuple[AppEntry, PorticoError]] = []
        for entry in await self._deployed(entries, caller):
            try:
                await self.entered(entry, caller)
            except PorticoError as error:
                wrong.append((entry, error))
        while waits := [one for one in wrong if self._may_come(one[1])]:
            wrong = [one for one in wrong if one not in waits]
            for waiting, reason in waits:
                logger.warning("the app %s waits: %s", waiting.name, reason.message)
                self.unusable[waiting.name] = reason.message
                self._waiting.append(waiting)
        if wrong:
            raise wrong[0][1]

    def _may_come(self, error: PorticoError) -> bool:
        """Whether what an app lacks is a tool, or an app that waits."""
        if error.code == "model_not_found":
            return any(f"'{entry.name}'" in error.message for entry in self._waiting)
        return error.code == "tool_not_found"

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
        row = self.shared(entry.name)
        assert row is not None
        if entry.limits is not None and entry.limits != UsageLimits.parse(row.limits):
            await self.limit(row.id, entry.limits, caller)

    async def run(self) -> None:
        """Deploy those that wait for tools as soon as these are here, until cancelled."""
        self._tool_added.set()  # some may have come since they were looked for
        self._registry.watch(lambda kind: self._tool_added.set() if kind == "tool" else None)
        while self._waiting:
            await self._tool_added.wait()
            await self._deploy_waiting()

    async def _deploy_waiting(self) -> None:
        async with self._deploying:
            if self._tool_added.is_set():
                self._tool_added.clear()
                self._waiting = await self._deployed(self._waiting, SYSTEM)

    async def started(self, key: str) -> None:
        """Wait for an app of this name that itself waits for tools which are being started."""
        if any(entry.name == key for entry in self._waiting):
            await self._registry.late_sources.tools_started()
            await self._deploy_waiting()

    async def prepared(self, key: str) -> None:
        """As `started`: a durable run of an app begins where the app is."""
        await self.started(key)

    async def _hold(self, row: AppRow, *, resume: bool = False) -> None:
        """Hold an app to its limits; with ``resume``, what was used before this start counts."""
        meter = self._quotas.limit(row.id, row.name, UsageLimits.parse(row.limits))
        if meter is None or not resume:
            return
        others = [owner for owner, name in self._ids if name == row.name and owner is not None]
        now = time.time()

        async def spent(since: float) -> tuple[int, int]:
            return await self._database.read(
                usage.spent_by,
                (row.name, row.id),
                since,
                by=row.owner,
                without=others if row.owner is None else (),
            )

        requests, tokens = await spent(now - MINUTE_S)
        _, today = await spent(now - now % DAY_S)
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
        """Make ``spec`` the version of ``name`` that answers, from the next call on; ``name`` may be the id of an app.

        What an admin deploys is shared. Raises `InvalidRequest` if the specification is wrong, `Conflict` if the name
        belongs to something else, is shared and the caller is not an admin, or if ``expected`` is not the version that
        answers now.
        """
        row = await self._checked(name, kind, spec, caller)
        if row is not None:
            return await self._deployed_again(row, kind, spec, caller, note, expected)
        owner, now = owner_of(caller), time.time()
        await self._storage.admit(self._database, owner, json_bytes(spec))
        new = AppRow(new_id("app_"), name, owner, kind, 1, None, now, now)
        async with self._registry.claims.hold(owner, name):
            version = await self._database.write(apps.create, new, caller.id, spec, digest_of(spec), note)
            self._serve(new, version)
        return new, version

    async def _deployed_again(
        self,
        row: AppRow,
        kind: str,
        spec: Mapping[str, Any],
        caller: Principal,
        note: str,
        expected: int | None,
    ) -> tuple[AppRow, VersionRow]:
        await self._storage.admit(self._database, row.owner, json_bytes(spec))
        row, version = await self._database.write(
            apps.deploy, row.id, kind, caller.id, spec, digest_of(spec), note, expected
        )
        self._serve(row, version)
        return row, version

    def _of(self, kind: str) -> AppKind:
        known = self._kinds.get(kind)
        if known is None:
            raise InvalidRequest(
                f"'{kind}' is not a kind of app; it is one of {', '.join(self._kinds)}.", param="kind"
            )
        return known

    def _serve(self, row: AppRow, version: VersionRow) -> None:
        servable = self._of(row.kind).build(row.name, version.spec, row)
        self._registry.add(servable, replace=True)
        self._rows[row.id] = (row, version)
        self._ids[row.owner, row.name] = row.id
        self._broken.pop(row.id, None)
        self.unusable.pop(row.name if row.owner is None else row.id, None)

    def _named(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow] | None:
        """What the caller means by a name or an id: its own app, then a shared one, another key's by its id alone."""
        app_id = bound_id(ref) or self._ids.get((caller.id, ref)) or self._ids.get((None, ref)) or ref
        found = self._rows.get(app_id)
        return found if found is not None and caller.sees(found[0].owner) else None

    def find(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """The app of a name or an id, and the version that answers.

        Raises `NotFound` if there is none for this caller.
        """
        found = self._named(ref, caller)
        if found is None or not caller.allows(f"apps:{found[0].name}:call"):
            known = [
                row.name
                for row, _version in self._rows.values()
                if row.owner in (None, caller.id) and caller.allows(f"apps:{row.name}:call")
            ]
            raise NotFound(
                f"There is no deployed app '{ref[:200]}'.{nearest(ref, known)}",
                code="app_not_found",
                param="name",
            )
        return found

    def readable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """`find` for who reads its specification: prompts, instructions and code. Raises `Forbidden` unless the app is
        the caller's own, or the caller is an admin: the right to call it is not enough.
        """
        row, version = self.find(ref, caller)
        if not caller.owns(row.owner):
            raise Forbidden(
                f"Only admins read the specification of '{row.name}', which is shared. This key may call the app: GET "
                "/api/apps/NAME has its description and its schemas."
            )
        return row, version

    def changeable(self, ref: str, caller: Principal) -> tuple[AppRow, VersionRow]:
        """`find` for who changes it, or takes it elsewhere. Raises `Forbidden` for a shared app, unless the caller is
        an admin.
        """
        row, version = self.find(ref, caller)
        caller.require(f"apps:{row.name}:deploy")
        if row.owner is None:
            caller.require("admin")
        return row, version

    def shared(self, name: str) -> AppRow | None:
        """The row of the shared app of a name."""
        return self.row(self._ids.get((None, name), ""))

    def row(self, app_id: str) -> AppRow | None:
        """The row of a deployed app, whoever may call it."""
        found = self._rows.get(app_id)
        return found[0] if found is not None else None

    def list(self, caller: Principal, *, everyone: bool = False) -> Sequence[tuple[AppRow, VersionRow]]:
        """The deployed apps that the caller may call by name; ``everyone``: for an admin, all that there are."""
        return [
            (row, version)
            for row, version in sorted(self._rows.values(), key=lambda pair: (pair[0].name, pair[0].id))
            if (everyone and caller.admin)
            or (self._named(row.name, caller) == (row, version) and caller.allows(f"apps:{row.name}:call"))
        ]

    async def versions(self, ref: str, caller: Principal) -> Sequence[VersionRow]:
        """All versions, newest first. Raises as `readable`."""
        row, _version = self.readable(ref, caller)
        return await self._database.read(apps.versions, row.id)

    async def version(self, ref: str, number: int, caller: Principal) -> VersionRow:
        """One version. Raises `NotFound`, and as `readable`."""
        row, _version = self.readable(ref, caller)
        found = await self._database.read(apps.version, row.id, number)
        if found is None:
            newest = (await self._database.read(apps.versions, row.id))[0].version
            raise NotFound(
                f"'{row.name}' has no version {number}; its newest is {newest}.",
                code="version_not_found",
                param="version",
            )
        return found

    async def named_version(self, target: str) -> Servable | None:
        """What answers for ``NAME@NUMBER``, a version of a shared app, if there is one. Raises `PorticoError` if it
        cannot be built any more.
        """
        name, _, digits = target.rpartition("@")
        number = whole_number(digits, MAX_VERSION_CHARS)
        if not name or number is None:
            return None
        found = await self._database.read(apps.shared_version, name, number)
        if found is None:
            return None
        row, version = found
        return self._of(row.kind).build(row.name, version.spec, replace(row, version=version.version))

    async def roll_back(
        self, ref: str, caller: Principal, *, to: int | None = None
    ) -> tuple[AppRow, VersionRow]:
        """Let an earlier version answer again: ``to``, or the one before this."""
        row, _current = self.changeable(ref, caller)
        number = row.version - 1 if to is None else to
        found = await self.version(row.id, number, caller)
        await self._of(row.kind).check(row.name, found.spec, caller)
        moved = await self._database.write(apps.point, row.id, number)
        if moved is None:
            raise Conflict("The app was removed meanwhile.", code="app_removed", param="name")
        self._serve(moved, found)
        return moved, found

    async def update(
        self,
        ref: str,
        changes: Mapping[str, Any],
        caller: Principal,
        *,
        note: str = "",
        expected: int | None = None,
    ) -> tuple[AppRow, VersionRow]:
        """Another version with other values in some places (`portico_server.apps.deployed`); the rest stays as it is.

        Runs in progress end with the version that they began with; sessions continue with the new one. Raises
        `Conflict` if somebody else deployed meanwhile.
        """
        row, current = self.changeable(ref, caller)
        spec = changed(current.spec, changes)
        description = note or f"set {', '.join(changes)}"
        return await self.deploy(
            row.id,
            row.kind,
            spec,
            caller,
            note=description[:MAX_NOTE_CHARS],
            expected=row.version if expected is None else expected,
        )

    def known(self, caller: Principal) -> Sequence[str]:
        """`portico_server.core.interfaces.AppVariants` of deployed apps."""
        return [row.name for row, _version in self.list(caller)]

    async def variant(self, name: str, changes: Mapping[str, Any], caller: Principal) -> Servable:
        """The app with other values in some places, which nobody else can call. Raises as `update`."""
        row, current = self.readable(name, caller)
        spec = changed(current.spec, changes)
        kind = self._of(row.kind)
        await kind.check(row.name, spec, caller)
        return kind.build(row.name, spec, row)

    async def settle(self, name: str, changes: Mapping[str, Any], caller: Principal, note: str) -> int:
        """`update` for who has only the changes; the number of the version."""
        row, _version = await self.update(name, changes, caller, note=note)
        return row.version

    async def limit(self, ref: str, limits: UsageLimits, caller: Principal) -> AppRow:
        """Hold an app to limits, whoever calls it; what it has used so far counts, save calls in progress."""
        row, version = self.changeable(ref, caller)
        await self._database.write(apps.limit, row.id, limits.to_json() or None)
        row = replace(row, limits=limits.to_json() or None)
        self._rows[row.id] = (row, version)
        await self._hold(row, resume=True)
        return row

    async def remove(self, ref: str, caller: Principal) -> None:
        """Remove an app with all its versions; runs in progress continue."""
        row, _version = self.changeable(ref, caller)
        if row.owner is None:
            await self._database.read(partial(canaries.require_unused, versions=True), row.name)
        await self._database.write(apps.remove, row.id)
        self._leave(row)

    def _leave(self, row: AppRow) -> None:
        self._rows.pop(row.id, None)
        self._broken.pop(row.id, None)
        self._ids.pop((row.owner, row.name), None)
        self._quotas.forget(row.id)
        self._registry.remove(row.name, row.owner)

    async def check(self, name: str, kind: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """What `deploy` would raise, without deploying."""
        await self._checked(name, kind, spec, caller)

    async def _checked(
        self, name: str, kind: str, spec: Mapping[str, Any], caller: Principal
    ) -> AppRow | None:
        """The app that would get another version, ``None`` if it would be new. Raises as `deploy`."""
        known = self._of(kind)
        if is_id(name, "app_"):
            row: AppRow | None = self.changeable(name, caller)[0]
        else:
            check_name(name, "an app")
            caller.require(f"apps:{name}:deploy")
            app_id = self._ids.get((owner_of(caller), name), "")
            row = self.row(app_id)
            if row is None:
                async with self._registry.claims.hold(owner_of(caller), name):
                    row = self._broken.get(app_id)
        await known.check(name if row is None else row.name, spec, caller)
        return row

    async def names(self, row: AppRow, spec: Mapping[str, Any], caller: Principal) -> Sequence[str]:
        """What a version of an app calls by name, as keys of the registry. Raises as `deploy` for what is not here."""
        with binding() as bound:
            await self._of(row.kind).check(row.name, spec, caller)
        return sorted(bound.known)

    def same(self, name: str, kind: str, spec: Mapping[str, Any]) -> bool:
        """Whether this is what answers under the shared name now."""
        row = self.shared(name)
        return row is not None and row.kind == kind and self._rows[row.id][1].digest == digest_of(spec)


def digest_of(spec: Mapping[str, Any]) -> str:
    """The digest of a specification, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(spec, option=orjson.OPT_SORT_KEYS)).hexdigest()
