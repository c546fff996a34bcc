"""The parts of the daemon that a face may use, put together once by `portico_server.app`.

FastAPI endpoints get them as parameters through `portico_server.api.depends`; this module imports no framework.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from portico_server.core.registry import Registry
from portico_server.db.database import Database
from portico_server.engines.models import Models
from portico_server.knowledge.files import Files
from portico_server.knowledge.stores import Stores
from portico_server.runs.artifacts import Artifacts
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import Loaded, Settings
from portico_server.tools.added.added import AddedTools
from portico_server.tools.mcp_host.host import McpHost


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
    artifacts: Artifacts
    mcp: McpHost
    added: AddedTools
    startup: list[str]
    url: str
    """The base URL of the daemon, such as ``http://127.0.0.1:8642``."""
    started_at: float
    stop: Callable[[], None]
    """Asks the daemon to end, as SIGTERM does."""

    @property
    def settings(self) -> Settings:
        return self.loaded.settings
