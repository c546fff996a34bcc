"""All parts of a daemon, built and connected in one place."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Coroutine, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico_server.api import internal
from portico_server.api.auth.oauth_clients import OAuthClients
from portico_server.api.auth.oidc import TokenVerifier
from portico_server.api.auth.service import Auth
from portico_server.api.auth.sign_ins import SignIns
from portico_server.blobs.bucket import BlobPlaces
from portico_server.configuration_file import ConfigurationFile
from portico_server.core.base_models import BaseModel
from portico_server.core.dataclass import dataclass
from portico_server.core.late_work import LateWork
from portico_server.core.registry import Registry
from portico_server.core.tool_search import ToolSearch
from portico_server.db.canaries import running as running_canaries
from portico_server.db.database import Database
from portico_server.db.feed import Feed
from portico_server.feature_table import Features, declarations_by_name
from portico_server.features.answers.store_apps import StoreApps
from portico_server.features.answers.trust import ReaderTest
from portico_server.features.apps.configured import ConfiguredApps
from portico_server.features.apps.deployed import DeployedApps
from portico_server.features.chunkers.chunkers import CHUNKERS
from portico_server.features.files.files import FILE_BLOBS, FileStorage
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.files.uploads import UploadStorage
from portico_server.features.prompts.library import PromptLibrary
from portico_server.features.sandbox.code_tools import CodeTools
from portico_server.features.stored_chats.stored_chats import StoredChats
from portico_server.features.stores.stores import StoreService
from portico_server.features.stores.tool_search import ToolIndex
from portico_server.features.tools.built_in_names import names_of
from portico_server.features.tools.entry import Approval, rule_of
from portico_server.features.tools.toolbox import Toolbox
from portico_server.features.training.training_events import Trainer
from portico_server.http.fetch.fetcher import OutwardFetcher
from portico_server.http.fetch.policy import AddressPolicy
from portico_server.models.catalog import ENGINES
from portico_server.models.client_model import ClientModels
from portico_server.models.cluster import ClusterService
from portico_server.models.service import ModelService
from portico_server.older_daemons import OlderDaemonWatch
from portico_server.plugins import InstalledPlugins, PluginTable
from portico_server.problems import Problems
from portico_server.reconcile import Reconciler
from portico_server.runs.artifacts import ARTIFACT_BLOBS, ArtifactStore
from portico_server.runs.questions import QuestionService
from portico_server.runs.quotas import StorageQuota
from portico_server.runs.retention import Retention
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.shared_usage import SharedUsage
from portico_server.runs.telemetry import Telemetry
from portico_server.runs.usage import UsageLog
from portico_server.settings import MB_BYTES, LoadedSettings, Settings, comma_separated

if TYPE_CHECKING:
    from portico_server.features.guards.guard import ContentGuard
    from portico_server.features.mcp_servers.host import McpHost
    from portico_server.features.sandbox.containers import ContainerService
    from portico_server.features.skills.library import SkillLibrary
    from portico_server.features.tools.served import ServedTools
    from portico_server.features.tools.sources.sources import AddedTools
    from portico_server.features.tools.tool import Tool

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Overrides:
    """Parts of a daemon that a test provides; ``None`` means the daemon's own part."""

    trainer: Callable[[BaseModel], Trainer] | None = None


class Services:
    """The parts of a daemon, in which each layer is built from the layers below it.

    Nothing runs yet: `portico_server.app` starts and ends the parts. ``url`` is the base URL of the daemon; ``stop``
    asks the daemon to end.
    """

    def __init__(
        self,
        settings: LoadedSettings,
        database: Database,
        url: str,
        stop: Callable[[], None],
        overrides: Overrides = Overrides(),  # noqa: B008  # frozen
    ) -> None:
        self.loaded = settings
        self.database = database
        self.url = url
        self.stop = stop
        self.started_at = time.time()
        self.trainer = overrides.trainer
        self.guards: Sequence[ContentGuard] = ()
        self.startup: list[str] = []
        self.start_apps: list[str] = []
        self.docs: Sequence[Path] = ()
        self.problems = Problems()
        self.older_daemons = OlderDaemonWatch(database)
        self.plugins = InstalledPlugins(self._plugin_tables)
        self.registry = Registry()
        self.feed = Feed(database)
        self.registry.claims.reserve(comma_separated(self.settings.reserved_names))
        self.outward = OutwardFetcher(AddressPolicy.of(self.settings.tool_hosts))
        self._run()
        self.features = Features(self)
        self._serve_models_and_stores()
        self._serve_tools()
        self._serve_apps()
        self.features.start()
        self.cluster = ClusterService(
            database, self.models, self.feed, self.scheduler.holder, url, self.started_at
        )
        self.reconciler = Reconciler(self.models, self.features)
        self.configuration_file = ConfigurationFile(
            self.reconciler, self.problems, self.registry.claims, self.features, database
        )
        issuers = OutwardFetcher(AddressPolicy.of(self.settings.oidc_hosts))
        tokens = TokenVerifier(self.settings, issuers)
        self.auth = Auth(database, self.settings, self.runner.quotas, tokens)
        self.sign_ins = SignIns(database, self.settings, tokens, issuers, self.auth)
        self.oauth_clients = OAuthClients(database, self.outward)
        self.stores.filtered = self.auth.keys.filtered
        self.storage.limit_of = self.auth.storage_limit
        self.scheduler.principals = self.auth.keys.principal
        self._follow()

    @property
    def settings(self) -> Settings:
        return self.loaded.settings

    def _run(self) -> None:
        settings, database = self.settings, self.database
        self.usage = UsageLog(database)
        self.questions = QuestionService(
            database, approvers="admin" if settings.approvals == "admin" else "owner"
        )
        self.runner = Runner(
            self.registry, self.usage, timeout=settings.request_timeout, questions=self.questions
        )
        if settings.otel_endpoint:
            self.runner.telemetry = Telemetry(settings.otel_endpoint)
        self.scheduler = Scheduler(database, self.runner, settings.unfinished_per_key)
        self.trust = ReaderTest(database, self.registry, self.scheduler)

    def _serve_models_and_stores(self) -> None:
        settings, database = self.settings, self.database
        self.models = ModelService(database, self.registry, self.runner, self.scheduler, settings)
        self.storage = StorageQuota()
        self.places = BlobPlaces(database, settings)
        self.files = FileStorage(
            database,
            self.places.of(FILE_BLOBS),
            max_bytes=settings.max_file_mb * MB_BYTES,
            quota=self.storage,
        )
        self.uploads = UploadStorage(database, self.files, max_bytes=settings.max_file_mb * MB_BYTES)
        self.stores = StoreService(
            database,
            self.registry,
            self.runner,
            self.scheduler,
            self.files,
            self.outward,
            settings,
            self.models.launchers.get,
        )
        self.models.offers["embedding"].on_replaced = self.stores.jobs.replace_model
        self.registry.add_source(self.stores.served)
        self.store_apps = StoreApps(self.registry, self.trust, settings.unsupported_claims)
        self.registry.add_source(self.store_apps)
        self.registry.add_source(ClientModels())
        self.tool_search: ToolSearch = ToolIndex(self.registry)

    def _serve_tools(self) -> None:
        settings, database = self.settings, self.database
        self.artifacts = ArtifactStore(database, self.places.of(ARTIFACT_BLOBS), self.storage)
        self.toolbox = Toolbox(
            self.registry,
            self.artifacts,
            Approval(rule_of(settings.tool_approval, "settings"), settings.approval_timeout),
        )
        self.toolbox.register()
        self.code = CodeTools(settings, database, self.artifacts, lambda: self.skills, self.storage)
        self.retention = Retention(
            database,
            self.artifacts,
            self.files,
            self.uploads,
            self.code,
            runs_days=settings.keep_runs_days,
            usage_days=settings.keep_usage_days,
            sessions_days=settings.keep_sessions_days,
            responses_days=settings.keep_responses_days,
        )
        uploads = UploadedFiles(self.files, self.artifacts)
        self.registry.files = self.stores.attachments(uploads)
        self.toolbox.add_late(names_of(settings), partial(self._built_in_tools, uploads))
        self.late_work = LateWork()

    def _built_in_tools(self, uploads: UploadedFiles) -> Sequence[Tool]:
        from portico_server.features.tools.builtin import code_tools, media_tools, outward

        return (
            *outward(self.settings),
            *code_tools(self.registry, self.code, self.artifacts, self.skills),
            *media_tools(self.registry, self.artifacts, uploads, self.outward),
        )

    @property
    def containers(self) -> ContainerService:
        return self.code.containers

    @cached_property
    def skills(self) -> SkillLibrary:
        from portico_server.features.skills.library import SkillLibrary

        return SkillLibrary(self.database, self.storage, self.registry.claims.require_unreserved)

    @cached_property
    def added(self) -> AddedTools:
        from portico_server.features.tools.sources.function_packages import FunctionPackages
        from portico_server.features.tools.sources.sources import AddedTools

        settings = self.settings
        packages = FunctionPackages(
            settings.environments, index=settings.pypi_index, offline=settings.offline
        )
        policy = AddressPolicy.of(settings.tool_hosts)
        added_tools = AddedTools(self.toolbox, self.database, policy, packages)
        self.late_work.begin("added tools", added_tools.run)
        self.registry.late_sources.add(added_tools)
        return added_tools

    @cached_property
    def mcp(self) -> McpHost:
        from portico_server.features.mcp_servers.host import McpHost

        host = McpHost(self.toolbox, self.database, self.artifacts, self.settings.logs, self.runner)
        self.late_work.begin("mcp servers", host.run)
        self.registry.late_sources.add(host)
        self.registry.add_source(host)
        return host

    @cached_property
    def served(self) -> ServedTools:
        from portico_server.features.tools.served import ServedTools

        served_tools = ServedTools(self.toolbox)
        self.late_work.begin("served functions", served_tools.run)
        return served_tools

    def _serve_apps(self) -> None:
        database = self.database
        self.prompts = PromptLibrary(database, self.registry.claims.require_unreserved, self.storage)
        self.apps = DeployedApps(database, self.registry, self.runner.app_quotas, self.storage)
        self.configured_apps = ConfiguredApps(self.registry, self.apps)
        self.registry.late_sources.add(self.configured_apps)
        self.registry.versions = self.apps.named_version
        self.apps.kind("flow", partial(self.features.load, "flows"))
        self.apps.kind("agent", partial(self.features.load, "agents"))
        self.chats = StoredChats(database)

    def _follow(self) -> None:
        """Register the parts that read data at the start to refresh it when another daemon on the same database
        changes it.
        """
        self.feed.refresh("keys", self.auth.refresh)
        self.feed.refresh("grants", self.auth.grants.refresh)
        self.feed.refresh("models", self._refresh_models)
        self.feed.refresh("aliases", self._refresh_models)
        self.feed.refresh("adapters", self.models.adapters.refresh)
        self.feed.refresh("tools", lambda: self.added.refresh())
        self.feed.refresh("mcp_servers", lambda: self.mcp.refresh())
        self.feed.refresh("prompts", self.prompts.refresh)
        self.feed.refresh("apps", self.apps.refresh)
        self.feed.refresh("canaries", self.refresh_canaries)
        self.feed.answer(internal.RUN_QUESTION, internal.runs_in_memory(self))
        self.feed.receive("cancelled", lambda _origin, _run: self.scheduler.check_leases())

    async def _refresh_models(self) -> None:
        await self.models.refresh()
        await self.refresh_canaries()

    async def refresh_canaries(self) -> None:
        """Split the calls of the aliases that have a canary. The first canary loads the feature."""
        canaries = self.features.find_built("canaries")
        if canaries is None and "canaries" in declarations_by_name():
            rows = await self.database.read(running_canaries)
            canaries = await self.features.load("canaries") if rows else None
        if canaries is not None:
            await canaries.routing.refresh()

    def _share_usage(self) -> SharedUsage:
        assert self.database.postgres is not None
        return SharedUsage(self.database.postgres, (self.runner.quotas, self.runner.app_quotas))

    def background(self) -> dict[str, Coroutine[Any, Any, None]]:
        """Return the background tasks that run until the daemon ends, by name."""
        is_alone = not self.settings.database  # SQLite supports only one daemon
        return {
            **({} if is_alone else {"feed": self.feed.run()}),
            **({} if self.database.postgres is None else {"shared usage": self._share_usage().run()}),
            **({} if is_alone else {"older daemons": self.older_daemons.run(self.problems.retry_soon)}),
            "usage": self.usage.run(),
            "scheduler": self.scheduler.run(is_alone=is_alone),
            "questions": self.questions.run(is_alone=is_alone),
            "problems": self.problems.run(self.registry),
            "late work": self.late_work.run(),
            "retention": self.retention.run(),
            "apps that wait": self.configured_apps.run(),
            **self.features.background(),
        }

    def claiming_tasks(self) -> list[str]:
        """Return the names of the background tasks that start durable runs. They end first, and their runs return to
        the queue.
        """
        return ["scheduler", *self.features.claiming_tasks()]

    def _plugin_tables(self) -> Sequence[PluginTable[Any]]:
        """Return the tables that plugins extend. The provider clients are imported only here, because a start does not
        need them.
        """
        from portico_server.models.engines.remote.providers import PROVIDERS

        return ENGINES, CHUNKERS, self.toolbox.plugins, PROVIDERS

    async def close(self) -> None:
        """Shut down in order; failures are logged, and the shutdown continues."""
        closing = [
            self.code.close,
            self.stores.close,
            self.models.close,
            self.usage.flush,
            self.places.close,
            self.sign_ins.close,
        ]
        if (canaries := self.features.find_built("canaries")) is not None:
            closing.append(canaries.flush)
        if self.runner.telemetry is not None:
            closing.append(self.runner.telemetry.close)
        for close in closing:
            try:
                await close()
            except Exception:
                logger.exception("part of the shutdown failed; continuing with the rest")
