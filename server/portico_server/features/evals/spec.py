"""Evaluations, runs and searches as values."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from portico_server.core.base_models import TrialTrainer
from portico_server.core.dataclass import dataclass
from portico_server.core.interfaces import Evaluator
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.training_passages import ReadableStores
from portico_server.db.database import Database
from portico_server.db.evals import EvalRow
from portico_server.db.files import FileRow
from portico_server.features.apps.app_variants import AppVariants
from portico_server.features.evals.chunk_groups import ChunkGroups
from portico_server.features.evals.criteria import Criterion
from portico_server.features.evals.sample import Filters
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler

WORKING: Final = ("queued", "in_progress")
"""Statuses of a run or a search that has not ended."""

STOPPED: Final = "stopped"
"""Status of a trial that was abandoned in favour of better trials."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """An evaluation: the schema of its items, and its criteria."""

    row: EvalRow
    criteria: tuple[Criterion, ...]

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON schema of an item."""
        schema: Mapping[str, Any] = self.row.spec["data_source_config"]["item_schema"]
        return schema


class EvalFiles(Protocol):
    """The file operations of the daemon that evaluations need."""

    async def readable(self, file_id: str, caller: Principal) -> FileRow: ...

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]: ...


@dataclass(frozen=True, slots=True)
class EvalServices:
    """Services for evaluations. ``wait_for_idle`` returns when no client is waiting for an answer from the given
    model; ``at_once`` is the maximum number of items processed simultaneously, over all runs.
    """

    database: Database
    registry: Registry
    runner: Runner
    scheduler: Scheduler
    files: EvalFiles
    light: Evaluator
    variants: AppVariants
    find_trainer: Callable[[], Awaitable[TrialTrainer]]
    filters: Filters
    stores: ReadableStores
    groups: ChunkGroups
    wait_for_idle: Callable[[str], Awaitable[None]]
    at_once: int


Progress = Callable[[int, int], Awaitable[None]]
"""Progress callback: ``(done, total)``, in items."""
