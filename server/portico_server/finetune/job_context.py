"""What the work of every job needs, made once by the daemon."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final, Protocol

from portico_server.core.base_models import BaseModel, BaseModels
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.training_passages import ReadableStores
from portico_server.db.database import Database
from portico_server.db.files import FileRow
from portico_server.finetune.spec import FineTuningSpec
from portico_server.finetune.training_events import Trainer
from portico_server.finetune.training_queue import TrainingQueue
from portico_server.launchers.local import LOCAL

WORKING_STATUSES: Final = ("validating_files", "queued", "running")


class Uploads(Protocol):
    """The files of the daemon, as far as training needs them."""

    async def get(self, file_id: str, caller: Principal) -> FileRow: ...

    def open(self, sha256: str) -> AbstractAsyncContextManager[Path]: ...

    async def create(
        self,
        filename: str,
        purpose: str,
        chunks: AsyncIterator[bytes],
        caller: Principal,
        *,
        expires_at: float | None = None,
        owner: str | None = None,
    ) -> FileRow: ...


class StoppedError(Exception):
    """The job was paused or cancelled while it was worked on."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """What the work needs. ``trainer`` gives what trains a base; ``packages`` are the optional ones that it has."""

    database: Database
    registry: Registry
    bases: BaseModels
    files: Uploads
    trainer: Callable[[BaseModel], Trainer]
    folder: Path
    holder: str
    packages: frozenset[str]
    queue: TrainingQueue
    stores: ReadableStores
    poll_s: float = 10.0
    """Seconds between two looks at a job at a provider."""
    launcher: str = LOCAL.name
    """Starts the trainings that name none."""

    def scheduled(self, spec: FineTuningSpec) -> Mapping[str, Any]:
        """What a scheduler is asked for; on this machine there is none."""
        return spec.resources if (spec.launcher or self.launcher) != LOCAL.name else {}

    def folder_of(self, job_id: str) -> Path:
        """The job's own folder."""
        return self.folder / job_id
