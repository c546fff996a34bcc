"""The services that protocol adapters may use; `portico_server.services` builds them once.

`portico_server.api.endpoint` passes them to FastAPI endpoints as parameters. This module imports neither a framework
nor the services, which only type checkers need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from portico_server.api.auth.oauth_clients import OAuthClients
    from portico_server.api.auth.service import Auth
    from portico_server.api.auth.sign_ins import SignIns
    from portico_server.blobs.bucket import BlobPlaces
    from portico_server.configuration_file import ConfigurationFile
    from portico_server.core.base_models import BaseModel
    from portico_server.core.late_work import LateWork
    from portico_server.core.registry import Registry
    from portico_server.core.tool_search import ToolSearch
    from portico_server.db.database import Database
    from portico_server.db.feed import Feed
    from portico_server.feature_table import Features
    from portico_server.features.answers.store_apps import StoreApps
    from portico_server.features.answers.trust import ReaderTest
    from portico_server.features.apps.deployed import DeployedApps
    from portico_server.features.files.files import FileStorage
    from portico_server.features.files.uploads import UploadStorage
    from portico_server.features.guards.guard import ContentGuard
    from portico_server.features.mcp_servers.host import McpHost
    from portico_server.features.prompts.library import PromptLibrary
    from portico_server.features.sandbox.code_tools import CodeTools
    from portico_server.features.sandbox.containers import ContainerService
    from portico_server.features.skills.library import SkillLibrary
    from portico_server.features.stored_chats.stored_chats import StoredChats
    from portico_server.features.stores.stores import StoreService
    from portico_server.features.tools.served import ServedTools
    from portico_server.features.tools.sources.sources import AddedTools
    from portico_server.features.training.training_events import Trainer
    from portico_server.models.cluster import ClusterService
    from portico_server.models.service import ModelService
    from portico_server.older_daemons import OlderDaemonWatch
    from portico_server.plugins import InstalledPlugins
    from portico_server.problems import Problems
    from portico_server.reconcile import Reconciler
    from portico_server.runs.artifacts import ArtifactStore
    from portico_server.runs.questions import QuestionService
    from portico_server.runs.quotas import StorageQuota
    from portico_server.runs.retention import Retention
    from portico_server.runs.runner import Runner
    from portico_server.runs.scheduler import Scheduler
    from portico_server.runs.usage import UsageLog
    from portico_server.settings import LoadedSettings, Settings


class ApiServices(Protocol):
    """The services that every protocol adapter receives."""

    loaded: LoadedSettings
    features: Features
    database: Database
    feed: Feed
    registry: Registry
    runner: Runner
    usage: UsageLog
    scheduler: Scheduler
    questions: QuestionService
    models: ModelService
    cluster: ClusterService
    files: FileStorage
    uploads: UploadStorage
    stores: StoreService
    store_apps: StoreApps
    artifacts: ArtifactStore
    places: BlobPlaces
    apps: DeployedApps
    reconciler: Reconciler
    configuration_file: ConfigurationFile
    retention: Retention
    tool_search: ToolSearch
    code: CodeTools
    late_work: LateWork
    prompts: PromptLibrary
    chats: StoredChats
    trust: ReaderTest
    auth: Auth
    sign_ins: SignIns
    oauth_clients: OAuthClients
    plugins: InstalledPlugins
    guards: Sequence[ContentGuard]
    """The configured guards, in the order in which they run."""
    startup: list[str]
    """The ids of the runs that the daemon started during its startup."""
    start_apps: list[str]
    """The names of the apps for the folders passed with ``--docs``, in the order of the folders."""
    url: str
    """The base URL of the daemon, such as ``http://127.0.0.1:8642``."""
    started_at: float
    """Time when the daemon started, in seconds since 1970."""
    stop: Callable[[], None]
    """Requests the daemon to stop, as SIGTERM does."""
    problems: Problems
    """The parts of the configuration that could not be applied at startup."""
    older_daemons: OlderDaemonWatch

    @property
    def settings(self) -> Settings: ...

    @property
    def containers(self) -> ContainerService: ...

    @property
    def skills(self) -> SkillLibrary: ...

    @property
    def added(self) -> AddedTools: ...

    @property
    def mcp(self) -> McpHost: ...

    @property
    def served(self) -> ServedTools: ...


class BuildServices(ApiServices, Protocol):
    """The services from which features build their own. ``trainer`` replaces the daemon's own trainers in tests."""

    storage: StorageQuota
    trainer: Callable[[BaseModel], Trainer] | None
