"""Dependencies of the work of all jobs, created once by the daemon."""

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
from portico_server.features.training.spec import FineTuningSpec
from portico_server.features.training.training_events import Trainer
from portico_server.features.training.training_queue import TrainingQueue
from portico_server.launchers.local import LOCAL

WORKING_STATUSES: Final = ("validating_files", "queued", "running")


class Uploads(Protocol):
    """The file operations of the daemon that training needs."""

    async def readable(self, file_id: str, caller: Principal) -> FileRow: ...

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
    """The job was paused or cancelled while it was being worked on."""


@dataclass(frozen=True, slots=True)
class JobContext:
    """Dependencies of the work. ``trainer`` returns the trainer for a base model; ``packages`` are the optional
    packages that trainers can use.
    """

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
    """Seconds between two requests for the status of a job at a provider."""
    launcher: str = LOCAL.name
    """The default launcher of training jobs."""

    def scheduled(self, spec: FineTuningSpec) -> Mapping[str, Any]:
        """Return the resources to request from a scheduler; empty for training on this machine, which needs no
        scheduler.
        """
        return spec.resources if (spec.launcher or self.launcher) != LOCAL.name else {}

    def folder_of(self, job_id: str) -> Path:
        """Return the job's own folder."""
        return self.folder / job_id
