"""Canaries as an admin sees them: set, watched, promoted, rolled back; and what counts and decides meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from portico.schemas.canaries import CanaryEntry
from portico_server.canaries.spec import AliasSpec, CanarySpec, parse
from portico_server.canaries.split import LiveSample, ModelSplit, Split, SplitParts, is_small
from portico_server.canaries.verdict import CanaryVerdict, decide
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, PorticoError, nearest
from portico_server.core.ids import new_id
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.servable import Card, Servable
from portico_server.core.skills import LiveJudge
from portico_server.db import canaries as rows
from portico_server.db.canaries import CanaryCounts, CanaryRow, Decision, Outcome, Side, SideCounts
from portico_server.db.database import Database
from portico_server.db.keys import KeyRow
from portico_server.db.rows import now as clock
from portico_server.runs.runner import Runner

logger = logging.getLogger(__name__)

WRITE_INTERVAL_S: Final = 0.5
"""Seconds between two writes of what was counted; a `kill -9` loses at most the counts of one period."""

RETRY_INTERVAL_S: Final = 5.0
"""Seconds after which counts that could not be written are tried again."""

MAX_JUDGED_AT_ONCE: Final = 4
"""Answers that one daemon has judged at once."""

MAX_WAITING_SAMPLES: Final = 64
"""Answers that wait for that; of more, the new ones are not judged."""

MAX_REASON_CHARS: Final = 500
"""Characters of why somebody ends a canary."""


@dataclass(frozen=True, slots=True)
class CanaryView:
    """A canary with what was counted, what was done to it, and what its promotion waits for."""

    row: CanaryRow
    spec: CanarySpec
    counts: CanaryCounts
    entries: Sequence[CanaryEntry]
    waits_for: Sequence[str]


class CanaryService:
    """The canaries of all aliases. They are shared, as aliases are: an admin sets and ends them."""

    def __init__(self, database: Database, registry: Registry, runner: Runner, judge: LiveJudge) -> None:
        self._database = database
        self._registry = registry
        self._runner = runner
        self._live = judge
        self._splits: dict[str, tuple[CanaryRow, Split]] = {}
        """By alias."""
        self._versions: dict[str, Servable] = {}
        """Versions of apps that are sides, by target."""
        self._counted: dict[str, CanaryCounts] = {}
        """What has not been written yet, by the id of the canary."""
        self._some = asyncio.Event()
        self._writing = asyncio.Lock()
        self._pause = WRITE_INTERVAL_S
        self._samples: asyncio.Queue[tuple[str, Side, LiveSample]] = asyncio.Queue(MAX_WAITING_SAMPLES)
        self.keys: Callable[[], Sequence[KeyRow]] = tuple
        """The keys of this daemon."""
        self._parts = SplitParts(self._find, self._count, self._judge, self._answered)

    async def start(self) -> None:
        """Split the calls of those that run."""
        await self.refresh()

    async def refresh(self) -> None:
        """Take over what other daemons on the same database set or ended."""
        listed = {row.alias: row for row in await self._database.read(rows.running)}
        for alias in self._splits.keys() - listed.keys():
            await self._restore(alias)
        for alias, row in listed.items():
            known = self._splits.get(alias)
            # A model that was replaced has taken its aliases with it.
            if known is None or known[0] != row or self._registry.get(alias) is not known[1]:
                await self._install(row)

    # --- what admins do --------------------------------------------------------------------------------------

    async def set(self, alias: str, spec: CanarySpec, caller: Principal) -> CanaryView:
        """Let a canary begin, or give the one that runs with the same target another weight and other rules.

        Raises `NotFound` for what is not there, `InvalidRequest` for targets that cannot stand in for each other, and
        `Conflict` if another canary runs there.
        """
        caller.require("admin")
        baseline = await self._baseline(alias)
        await self._check(alias, baseline, spec)
        document = {**spec.document(), "key_ids": self._key_ids(spec.keys)}
        if spec.eval is not None:
            document["eval_id"] = await self._live.find(spec.eval, caller)

        def write(connection: Any) -> CanaryRow:
            moment = clock(connection)
            row = CanaryRow(
                new_id("canary_"), alias, alias, baseline, spec.target, document, caller.id, moment
            )
            return rows.put(connection, row, baseline)

        row = await self._database.write(write)
        await self._install(row)
        return await self.get(alias, caller)

    async def differing(self, wanted: AliasSpec) -> tuple[str, ...] | None:
        """What of an alias and its canary is not as a configuration wants it; ``None``: there is no such alias yet.

        A promotion is what the configuration waits for, and a canary that was taken back is not begun again before
        the configuration says something else of it. Raises `Conflict` where another canary runs.
        """
        meant = await self._database.read(rows.alias_target, wanted.name)
        if meant is None:
            return None
        newest = next(iter(await self._database.read(rows.of_alias, wanted.name)), None)
        target = () if meant == wanted.target else ("target",)
        running = newest if newest is not None and newest.running is not None else None
        if running is not None and target:
            raise rows.running_conflict(running)
        spec = wanted.canary
        if spec is None:
            return target
        if meant == spec.target:
            return ()
        sides = (wanted.target, spec.target)
        if newest is not None and sides == (newest.baseline, newest.target):
            same = _spec(newest).document() == spec.document()
            if same and (running is not None or newest.outcome == "rolled_back"):
                return target
        elif running is not None:
            raise rows.running_conflict(running)
        return (*target, "canary")

    async def check(self, wanted: AliasSpec, caller: Principal) -> None:
        """Raise `PorticoError` unless the canary that a configuration wants can begin."""
        if wanted.canary is not None:
            await self._check(wanted.name, wanted.target, wanted.canary)
            self._key_ids(wanted.canary.keys)
            if wanted.canary.eval is not None:
                await self._live.find(wanted.canary.eval, caller)

    async def _baseline(self, alias: str) -> str:
        found = await self._database.read(rows.alias_target, alias)
        if found is not None:
            return found
        meant = self._registry.aliases.get(alias)
        if meant is None:
            raise NotFound(
                f"There is no alias '{alias[:80]}'.{nearest(alias, self._registry.aliases)} Make one: portico models "
                "alias NAME TARGET.",
                code="alias_not_found",
                param="alias",
            )
        raise Conflict(
            f"The alias '{alias}' comes with Portico or from a configuration, which would set it back at the next "
            f"start. Make it yours first: portico models alias '{alias}' '{meant}'.",
            code="configured",
            param="alias",
        )

    async def _check(self, alias: str, baseline: str, spec: CanarySpec) -> None:
        """Raise `PorticoError` unless the target can stand in for the baseline."""
        target = spec.target
        if target in (alias, baseline):
            raise InvalidRequest(
                f"'{alias}' means '{baseline}' already. Name what it may mean next.", param="target"
            )
        if target in self._registry.aliases:
            raise InvalidRequest(
                f"'{target}' is an alias itself. Name what it means: '{self._registry.aliases[target]}'.",
                param="target",
            )
        here, there = await self._card(baseline), await self._card(target)
        if here is None or there is None:
            missing = baseline if here is None else target
            known = [card.name for card in self._shared()]
            raise NotFound(
                f"There is no model '{missing}' and no version of an app. A version is written NAME@NUMBER, as "
                f"portico apps versions NAME numbers them.{nearest(missing, known)}",
                code="model_not_found",
                param="target",
            )
        for card, name in ((here, baseline), (there, target)):
            if "chat" not in card.capabilities:
                raise InvalidRequest(
                    f"'{name}' answers no chat; calls are split between what does.",
                    code="unsupported_operation",
                    param="target",
                )
            if card.kind == "app" and name == card.name:
                at = f"{name}@{card.labels.get('version') or 'NUMBER'}"
                fix = (
                    f"Let the alias mean one first: portico models alias '{alias}' '{at}'."
                    if name == baseline
                    else f"Name one, such as '{at}'."
                )
                raise InvalidRequest(
                    f"'{name}' is whatever version of the app was deployed last, and calls are split between versions. "
                    f"{fix}",
                    code="version_needed",
                    param="target",
                )
        if here.kind != there.kind or here.id != there.id:
            raise InvalidRequest(
                f"Calls are split between two models, or two versions of one app: '{baseline}' and '{target}' are "
                "neither.",
                param="target",
            )

    def _shared(self) -> list[Card]:
        return [servable.card for servable in self._registry if servable.card.kind in ("model", "app")]

    async def _card(self, target: str) -> Card | None:
        found = self._registry.get(target) or await self._registry.version(target)
        return None if found is None else found.card

    def _key_ids(self, names: Sequence[str]) -> list[str]:
        known = self.keys()
        found = []
        for number, name in enumerate(names):
            ids = [row.id for row in known if name in (row.id, row.name)]
            if not ids:
                hint = nearest(name, [row.name for row in known])
                raise NotFound(
                    f"There is no key '{name[:80]}'.{hint}", code="key_not_found", param=f"keys[{number}]"
                )
            found += ids
        return found

    async def list(self, caller: Principal) -> Sequence[CanaryView]:
        """The newest canary of each alias, by alias."""
        caller.require("admin")
        await self.flush()
        return [await self._view(row) for row in await self._database.read(rows.latest)]

    async def get(self, alias: str, caller: Principal) -> CanaryView:
        """The newest canary of an alias. Raises `NotFound`."""
        return (await self.all_of(alias, caller))[0]

    async def all_of(self, alias: str, caller: Principal) -> Sequence[CanaryView]:
        """The canaries of an alias that are kept, the newest first. Raises `NotFound`."""
        caller.require("admin")
        await self.flush()
        found = await self._database.read(rows.of_alias, alias)
        if not found:
            known = [row.alias for row in await self._database.read(rows.latest)]
            raise NotFound(
                f"'{alias[:80]}' has had no canary.{nearest(alias, known)}",
                code="canary_not_found",
                param="alias",
            )
        return [await self._view(row) for row in found]

    async def _view(self, row: CanaryRow) -> CanaryView:
        spec = _spec(row)
        counts = await self._database.read(rows.counts, row.id)
        waits = decide(spec, counts).waits_for if row.running is not None else ()
        return CanaryView(row, spec, counts, await self._database.read(rows.entries, row.id), waits)

    async def end(self, alias: str, outcome: Outcome, reason: str, caller: Principal) -> CanaryView:
        """Let the alias mean the target from now on, or what it meant before. Raises `NotFound`, and `Conflict` if
        its canary has ended.
        """
        view = await self.get(alias, caller)
        ended = await self._database.write(
            rows.end, alias, Decision(outcome, reason or "By hand."), caller.id
        )
        await self._restore(alias)
        if ended is None:
            word = (view.row.outcome or "ended").replace("_", " ")
            raise Conflict(f"The canary of '{alias}' was {word} already.", code="canary_ended", param="alias")
        return await self.get(alias, caller)

    # --- calls -----------------------------------------------------------------------------------------------

    async def _install(self, row: CanaryRow) -> None:
        for target in (row.baseline, row.target):
            if self._registry.get(target) is None:
                try:
                    found = await self._registry.version(target)
                except PorticoError as error:
                    logger.error("%s, a side of the canary of %s: %s", target, row.alias, error.message)
                    found = None
                if found is not None:
                    self._versions[target] = found
        here = self._find(row.baseline)
        if here is None:
            logger.error("the canary of %s waits: there is no %s", row.alias, row.baseline)
            return
        kind = ModelSplit if here.card.kind == "model" else Split
        keys = frozenset(row.spec.get("key_ids") or ())
        split = kind(row.id, row.alias, row.baseline, _spec(row), keys, self._parts)
        self._splits[row.alias] = (row, split)
        self._registry.aliases.set(row.alias, row.baseline, split)

    async def _restore(self, alias: str) -> None:
        """Let an alias whose canary has ended mean one thing again."""
        self._splits.pop(alias, None)
        target = await self._database.read(rows.alias_target, alias)
        used = {name for row, _split in self._splits.values() for name in (row.baseline, row.target)}
        self._versions = {name: found for name, found in self._versions.items() if name in used}
        meant = None if target is None else await self._registry.version(target)
        if alias in self._splits:
            return  # another one has begun meanwhile
        if target is None:
            self._registry.aliases.remove(alias)
        else:
            self._registry.aliases.set(alias, target, meant)

    def _find(self, target: str) -> Servable | None:
        return self._versions.get(target) or self._registry.get(target)

    def _answered(self, context: Context, alias: str, target: str) -> None:
        """Have the usage row of a call say which side answered."""
        run = self._runner.get(context.run)
        if run is not None and run.name == alias:
            run.model = target

    def _count(self, canary_id: str, side: Side, more: SideCounts) -> None:
        known = self._counted.get(canary_id) or CanaryCounts()
        added = getattr(known, side) + more
        self._counted[canary_id] = replace(known, **{side: added})
        self._some.set()

    def _judge(self, canary_id: str, side: Side, sample: LiveSample) -> None:
        if not self._samples.full() and is_small(sample):
            self._samples.put_nowait((canary_id, side, sample))

    # --- in the background -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Write, judge and decide, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(MAX_JUDGED_AT_ONCE):
                group.create_task(self._judging())
            while True:
                await self._some.wait()
                await asyncio.sleep(self._pause)
                await self.flush()

    async def _judging(self) -> None:
        while True:
            canary_id, side, sample = await self._samples.get()
            row = next((row for row, _split in self._splits.values() if row.id == canary_id), None)
            if row is None:
                continue  # it has ended
            try:
                score = await self._live.judge(
                    str(row.spec.get("eval_id")), row.key, sample.item, sample.sample
                )
            except PorticoError as error:
                logger.warning("an answer of %s could not be judged: %s", row.alias, error.message)
                self._count(canary_id, side, SideCounts(unjudged=1))
            else:
                self._count(canary_id, side, SideCounts(samples=1, score=score))

    async def flush(self) -> None:
        """Write what was counted, and end what the rules end: a reader finds all that was counted before."""
        async with self._writing:
            self._some.clear()
            added, self._counted = self._counted, {}
            if not added:
                return
            try:
                ended = await self._database.write(rows.add_counts, added, _decide)
            except PorticoError as error:
                if self._pause == WRITE_INTERVAL_S:
                    logger.error("counts of canaries cannot be written, and wait: %s", error.message)
                self._keep(added)
                return
            self._pause = WRITE_INTERVAL_S
        for row in ended:
            logger.info("the canary of %s was %s: %s", row.alias, row.outcome, row.reason)
            await self._restore(row.alias)

    def _keep(self, added: dict[str, CanaryCounts]) -> None:
        for canary_id, counts in added.items():
            known = self._counted.get(canary_id) or CanaryCounts()
            self._counted[canary_id] = CanaryCounts(
                known.baseline + counts.baseline, known.canary + counts.canary
            )
        self._pause = RETRY_INTERVAL_S
        self._some.set()


def _spec(row: CanaryRow) -> CanarySpec:
    given = {name: value for name, value in row.spec.items() if name not in ("key_ids", "eval_id")}
    return parse({"target": row.target, **given})


def _decide(row: CanaryRow, counts: CanaryCounts) -> Decision | None:
    verdict: CanaryVerdict = decide(_spec(row), counts)
    return verdict.decision
