"""Canaries from an admin's view: started, monitored, promoted and rolled back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from portico.schemas.canaries import CanaryEntry
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, NotFound, nearest
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.db import canaries as rows
from portico_server.db.canaries import CanaryCounts, CanaryRow, Decision, Outcome
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow
from portico_server.db.rows import database_time as clock
from portico_server.features.canaries.comparison import BaselineComparison
from portico_server.features.canaries.judging import SampleJudging
from portico_server.features.canaries.live_judge import FindJudge
from portico_server.features.canaries.routing import SplitRouting
from portico_server.features.canaries.spec import AliasSpec, CanarySpec, current_spec, stored_spec
from portico_server.features.canaries.split import ReadReply
from portico_server.features.canaries.tally import CanaryTally
from portico_server.features.canaries.targets import check_target
from portico_server.features.canaries.verdict import decide
from portico_server.runs.runner import Runner

logger = logging.getLogger(__name__)

MAX_JUDGED_AT_ONCE: Final = 4
"""Maximum number of answers that one daemon judges at the same time."""

MAX_REASON_CHARS: Final = 500
"""Maximum length of the reason for ending a canary, in characters."""


@dataclass(frozen=True, slots=True)
class CanaryView:
    """A canary with its counts, its history, and the conditions that its promotion still waits for."""

    row: CanaryRow
    spec: CanarySpec
    counts: CanaryCounts
    entries: Sequence[CanaryEntry]
    waits_for: Sequence[str]


class CanaryService:
    """The canaries of all aliases. Canaries are shared, as aliases are: an admin starts and ends them."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        find_judge: FindJudge,
        read_reply: ReadReply,
    ) -> None:
        self._database = database
        self._registry = registry
        self._find_judge = find_judge
        self._tally = CanaryTally(database)
        self.comparison = BaselineComparison(registry, runner)
        self._judging = SampleJudging(find_judge, self.comparison, self._tally.count)
        self.routing = SplitRouting(
            database, registry, runner, self._tally.count, self._judging.add, read_reply
        )
        self.keys: Callable[[], Sequence[KeyRow]] = tuple
        """Returns the API keys of this daemon."""

    async def set(self, alias: str, spec: CanarySpec, caller: Principal) -> CanaryView:
        """Start a canary, or change the weight and the rules of a running canary with the same target.

        Raises `NotFound` for missing names, `InvalidRequest` for targets that cannot replace each other, and
        `Conflict` if another canary of the alias is running.
        """
        caller.require("admin")
        baseline = await self.baseline(alias)
        await check_target(self._registry, alias, baseline, spec)
        document = {**spec.document(), "key_ids": self._key_ids(spec.keys)}
        if spec.eval is not None:
            document["eval_id"] = await (await self._find_judge()).find(spec.eval, caller)

        def write(connection: Any) -> CanaryRow:
            moment = clock(connection)
            row = CanaryRow(
                new_id("canary_"), alias, alias, baseline, spec.target, document, caller.id, moment
            )
            return rows.put(connection, row, baseline)

        row = await self._database.write(write)
        await self.routing.install(row)
        return await self.get(alias, caller)

    async def differing(self, alias_spec: AliasSpec) -> tuple[str, ...] | None:
        """Return the fields in which an alias and its canary differ from a configuration, or ``None`` if the alias
        does not exist.

        A promoted canary counts as matching the configuration, and a rolled-back canary does not start again until the
        configuration changes. Raises `Conflict` if another canary is running.
        """
        alias_target = await self._database.read(rows.alias_target, alias_spec.name)
        if alias_target is None:
            return None
        newest = next(iter(await self._database.read(rows.of_alias, alias_spec.name)), None)
        target = () if alias_target == alias_spec.target else ("target",)
        running = newest if newest is not None and newest.running is not None else None
        if running is not None and target:
            raise rows.running_conflict(running)
        spec = alias_spec.canary
        if spec is None:
            return target
        if alias_target == spec.target:
            return ()
        sides = (alias_spec.target, spec.target)
        if newest is not None and sides == (newest.baseline, newest.target):
            is_unchanged = stored_spec(newest).document() == spec.document()
            if is_unchanged and (running is not None or newest.outcome == "rolled_back"):
                return target
        elif running is not None:
            raise rows.running_conflict(running)
        return (*target, "canary")

    async def check(self, alias_spec: AliasSpec, caller: Principal) -> None:
        """Raise `PorticoError` unless the canary in a configuration can start."""
        if alias_spec.canary is not None:
            await check_target(self._registry, alias_spec.name, alias_spec.target, alias_spec.canary)
            self._key_ids(alias_spec.canary.keys)
            if alias_spec.canary.eval is not None:
                await (await self._find_judge()).find(alias_spec.canary.eval, caller)

    async def baseline(self, alias: str) -> str:
        """Return the target of an alias whose calls can be split. Raises `NotFound`, and `Conflict` for an alias that
        the next start resets.
        """
        alias_target = await self._database.read(rows.alias_target, alias)
        if alias_target is not None:
            return alias_target
        target = self._registry.aliases.get(alias)
        if target is None:
            raise NotFound(
                f"The alias '{alias[:80]}' does not exist.{nearest(alias, self._registry.aliases)} Create "
                "it: portico models alias NAME TARGET.",
                code="alias_not_found",
                param="alias",
            )
        raise Conflict(
            f"The alias '{alias}' is defined by Portico or by a configuration, which would reset the alias "
            f"at the next start. Define the alias yourself first: portico models alias '{alias}' '{target}'.",
            code="configured",
            param="alias",
        )

    def _key_ids(self, names: Sequence[str]) -> list[str]:
        keys = self.keys()
        key_ids = []
        for number, name in enumerate(names):
            ids = [row.id for row in keys if name in (row.id, row.name)]
            if not ids:
                hint = nearest(name, [row.name for row in keys])
                raise NotFound(
                    f"The key '{name[:80]}' does not exist.{hint}",
                    code="key_not_found",
                    param=f"keys[{number}]",
                )
            key_ids += ids
        return key_ids

    async def list(self, caller: Principal) -> Sequence[CanaryView]:
        """Return the newest canary of each alias, sorted by alias."""
        caller.require("admin")
        await self.flush()
        return [await self._view(row) for row in await self._database.read(rows.latest)]

    async def get(self, alias: str, caller: Principal) -> CanaryView:
        """Return the newest canary of an alias. Raises `NotFound`."""
        return (await self.all_of(alias, caller))[0]

    async def all_of(self, alias: str, caller: Principal) -> Sequence[CanaryView]:
        """Return the stored canaries of an alias, newest first. Raises `NotFound`."""
        caller.require("admin")
        views = await self.history(alias)
        if not views:
            aliases = [row.alias for row in await self._database.read(rows.latest)]
            raise NotFound(
                f"The alias '{alias[:80]}' has had no canary.{nearest(alias, aliases)}",
                code="canary_not_found",
                param="alias",
            )
        return views

    async def history(self, alias: str) -> Sequence[CanaryView]:
        """Return the stored canaries of an alias, newest first; empty if it has had none."""
        await self.flush()
        return [await self._view(row) for row in await self._database.read(rows.of_alias, alias)]

    async def _view(self, row: CanaryRow) -> CanaryView:
        spec = current_spec(row)
        counts = await self._database.read(rows.counts, row.id)
        waits = decide(spec, counts).waits_for if row.running is not None else ()
        return CanaryView(row, spec, counts, await self._database.read(rows.entries, row.id), waits)

    async def end(self, alias: str, outcome: Outcome, reason: str, caller: Principal) -> CanaryView:
        """End the canary of an alias: promote its target, or roll back to the previous target.

        Raises `NotFound`, and `Conflict` if the canary has ended.
        """
        view = await self.get(alias, caller)
        canary_row = await self._database.write(
            rows.end, alias, Decision(outcome, reason or "By hand."), caller.id
        )
        if canary_row is None:
            await self.routing.restore(alias)
            word = (view.row.outcome or "ended").replace("_", " ")
            raise Conflict(f"The canary of '{alias}' was already {word}.", code="canary_ended", param="alias")
        await self.routing.follow(canary_row)
        return await self.get(alias, caller)

    async def run(self) -> None:
        """Write counts, judge answers, and promote or roll back canaries, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_JUDGED_AT_ONCE):
                group.create_task(self._judging.run(self.routing.row))
            while True:
                await self._tally.wait()
                await self.flush()

    async def flush(self) -> None:
        """Write the counts, and apply the rules that end canaries, so that a reader sees all calls counted so far."""
        for row in await self._tally.flush():
            logger.info("the canary of %s was %s: %s", row.alias, row.outcome or "promoted", row.reason or "")
            await self.routing.follow(row)
