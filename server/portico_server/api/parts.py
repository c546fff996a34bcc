"""The parts of the daemon that a face may use, put together once by `portico_server.app`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.engines.models import Models
from portico_server.knowledge.files import Files
from portico_server.knowledge.stores import Stores
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import Loaded, Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """Handed to every face; ``startup`` lists the ids of the runs that the start of the daemon began."""

    loaded: Loaded
    database: Database
    registry: Registry
    runner: Runner
    scheduler: Scheduler
    models: Models
    files: Files
    stores: Stores
    startup: list[str]
    stop: Callable[[], None]
    """Asks the daemon to end, as SIGTERM does."""

    @property
    def settings(self) -> Settings:
        return self.loaded.settings


def _parts(request: Request) -> Parts:
    parts: Parts = request.scope["portico.parts"]
    return parts


def _caller(request: Request) -> Principal:
    caller: Principal = request.scope["portico.caller"]
    return caller


TheParts = Annotated[Parts, Depends(_parts)]
"""For a FastAPI endpoint's parameter: the daemon's parts."""

Caller = Annotated[Principal, Depends(_caller)]
"""For a FastAPI endpoint's parameter: who is calling, as the door found out."""
