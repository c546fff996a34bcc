"""The splits of this daemon: which aliases have a canary, and the targets on both sides."""

from __future__ import annotations

import logging
from collections.abc import Callable

from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.core.servable import Servable
from portico_server.db import canaries as rows
from portico_server.db.canaries import CanaryRow, Side, SideCounts
from portico_server.db.database import Database
from portico_server.features.canaries.samples import LiveSample
from portico_server.features.canaries.spec import current_spec
from portico_server.features.canaries.split import ModelSplit, ReadReply, Split, SplitParts
from portico_server.runs.runner import Runner

logger = logging.getLogger(__name__)


class SplitRouting:
    """Splits the calls of aliases that have a canary; each split reports its results to ``count`` and ``judge``."""

    def __init__(
        self,
        database: Database,
        registry: Registry,
        runner: Runner,
        count: Callable[[str, Side, SideCounts], None],
        judge: Callable[[str, Side, LiveSample], None],
        read_reply: ReadReply,
    ) -> None:
        self._database = database
        self._registry = registry
        self._runner = runner
        self._splits: dict[str, tuple[CanaryRow, Split]] = {}
        """Maps aliases to their canaries and splits."""
        self._versions: dict[str, Servable] = {}
        """Maps targets to the app versions that are a side of a split."""
        self._parts = SplitParts(self._find, count, judge, self._record_side, read_reply)

    def row(self, canary_id: str) -> CanaryRow | None:
        """Return the running canary with an id, or ``None``."""
        return next((row for row, _split in self._splits.values() if row.id == canary_id), None)

    async def refresh(self) -> None:
        """Load the canaries that other daemons on the same database have started or ended."""
        canary_rows = {row.alias: row for row in await self._database.read(rows.running)}
        for alias in self._splits.keys() - canary_rows.keys():
            await self.restore(alias)
        for alias, row in canary_rows.items():
            current_split = self._splits.get(alias)
            # An alias is lost when its model is replaced.
            if (
                current_split is None
                or current_split[0] != row
                or self._registry.get(alias) is not current_split[1]
            ):
                await self.install(row)

    async def install(self, row: CanaryRow) -> None:
        """Start splitting the calls of an alias, unless its canary has ended in the meantime."""
        for target in (row.baseline, row.target):
            if self._registry.get(target) is None:
                try:
                    found_servable = await self._registry.version(target)
                except PorticoError as error:
                    logger.error(
                        "%s, one side of the canary of %s, cannot be used: %s",
                        target,
                        row.alias,
                        error.message,
                    )
                    found_servable = None
                if found_servable is not None:
                    self._versions[target] = found_servable
        servable = self._find(row.baseline)
        if servable is None:
            logger.error("the canary of %s is waiting: %s does not exist", row.alias, row.baseline)
            return
        kind = ModelSplit if servable.card.kind == "model" else Split
        keys = frozenset(row.spec.get("key_ids") or ())
        split = kind(row.id, row.alias, row.baseline, current_spec(row), keys, self._parts)
        self._splits[row.alias] = (row, split)
        self._registry.aliases.set(row.alias, row.baseline, split)
        running_ids = {running_row.id for running_row in await self._database.read(rows.running)}
        current_split = self._splits.get(row.alias)
        if row.id not in running_ids and current_split is not None and current_split[1] is split:
            await self.restore(row.alias)

    async def follow(self, row: CanaryRow) -> None:
        """Apply what a rule or a person has decided about a canary: it has ended, or it now gets all calls."""
        if row.running is None:
            await self.restore(row.alias)
        else:
            await self.install(row)

    async def restore(self, alias: str) -> None:
        """Restore the single target of an alias whose canary has ended."""
        self._splits.pop(alias, None)
        target = await self._database.read(rows.alias_target, alias)
        used_names = {name for row, _split in self._splits.values() for name in (row.baseline, row.target)}
        self._versions = {
            name: found_servable for name, found_servable in self._versions.items() if name in used_names
        }
        servable = None if target is None else await self._registry.version(target)
        if alias in self._splits:
            return  # another canary has started in the meantime
        if target is None:
            self._registry.aliases.remove(alias)
        else:
            self._registry.aliases.set(alias, target, servable)

    def _find(self, target: str) -> Servable | None:
        return self._versions.get(target) or self._registry.get(target)

    def _record_side(self, context: Context, alias: str, target: str) -> None:
        """Record in the usage row of a call which side answered the call."""
        run = self._runner.get(context.run)
        if run is not None and run.name == alias:
            run.model = target
