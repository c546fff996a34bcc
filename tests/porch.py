"""The door and every face behind it, served over HTTP in this process, with models that a test scripts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from portico.wire import Usage
from portico_server.api import internal
from portico_server.api.auth import Auth
from portico_server.api.gateway import Gateway
from portico_server.api.openai.fine_tuning_shapes import spec_of
from portico_server.api.parts import ApiServices
from portico_server.apps.agent.app import AgentApps
from portico_server.apps.agent.sessions import AgentSessions
from portico_server.apps.answer.trust import ReaderTest
from portico_server.apps.ask import StoreApps
from portico_server.apps.deployed import DeployedApps
from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.flows import Flows
from portico_server.apps.prompts.library import PromptLibrary
from portico_server.apps.responses.conversations import ConversationStore
from portico_server.apps.responses.responder import Responder
from portico_server.apps.responses.tool_context import ResponseServices
from portico_server.batches.batches import Batches
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.registry import Registry
from portico_server.core.relay import Relay, RelayResponse
from portico_server.core.request import Request, Result
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.evals.evals import Evaluations
from portico_server.evals.runs import EvalRuns
from portico_server.evals.searches import EvalSearches
from portico_server.evals.spec import EvalServices
from portico_server.finetune.fake_trainer import FakeTrainer
from portico_server.finetune.jobs import FineTuningJobs, SearchJobs
from portico_server.http_server import HttpServer
from portico_server.knowledge import filter as filters
from portico_server.knowledge.facts import StoredFacts
from portico_server.knowledge.files import FileStorage, UploadedFiles
from portico_server.knowledge.stores import StoreService
from portico_server.models.service import ModelService
from portico_server.reconcile import Reconciler
from portico_server.runs.artifacts import ArtifactStore
from portico_server.runs.questions import Questions
from portico_server.runs.retention import Retention
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.throttle import Throttle
from portico_server.runs.usage import UsageLog
from portico_server.settings import MB_BYTES, load
from portico_server.tools.fetch.fetcher import OutwardFetcher
from portico_server.tools.fetch.policy import AddressPolicy
from portico_server.tools.mcp.host import McpHost
from portico_server.tools.served import ServedTools
from portico_server.tools.setup import CodeTools
from portico_server.tools.sources.function import FunctionPackages
from portico_server.tools.sources.sources import AddedTools
from portico_server.tools.toolbox import Toolbox

ALL = frozenset({"chat", "completions", "embeddings"})


class Teller:
    """A model on the hot path. It answers ``chunks`` and fails with ``error``, first or after them.

    With ``hold`` it waits for that event after its chunks; ``left`` is set when its answer was closed.
    """

    def __init__(
        self,
        name: str,
        *chunks: bytes,
        error: PorticoError | None = None,
        hold: asyncio.Event | None = None,
        capabilities: frozenset[str] = ALL,
        **card: Any,
    ) -> None:
        self.card = Card(name, "model", capabilities=capabilities, **card)
        self.asked: list[Relay] = []
        self.began = asyncio.Event()
        self.left = asyncio.Event()
        self._chunks = chunks
        self._error = error
        self._hold = hold

    async def call(self, request: Request, context: Context) -> Result:
        raise AssertionError("the face should have relayed")

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        self.asked.append(request)
        if self._error is not None and not self._chunks:
            raise self._error
        kind = "text/event-stream" if request.stream else "application/json"
        return RelayResponse(kind, self._answer(), Usage(3, 2))

    async def _answer(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self._chunks:
                yield chunk
            self.began.set()
            if self._hold is not None:
                await self._hold.wait()
            if self._error is not None:
                yield b'data: {"error":{"message":"%s"}}\n\n' % self._error.message.encode()
                raise self._error
        finally:
            self.left.set()


@dataclass(frozen=True, slots=True)
class Porch:
    """A served door: its address, its parts, and a client that points at it."""

    url: str
    parts: ApiServices
    auth: Auth
    client: httpx.AsyncClient
    server: HttpServer
    stopped: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, *servables: Any) -> None:
        for servable in servables:
            self.parts.registry.add(servable)


@asynccontextmanager
async def porch(
    folder: Path, *, given: Sequence[Any] = (), wrap: Callable[[Any], Any] = lambda app: app, **settings: Any
) -> AsyncIterator[Porch]:
    """Serve for the length of a ``with`` block; ``settings`` as flags, ``given`` as keys of a configuration."""
    loaded = load(flags={"home": str(folder), **settings}, environment={})
    database = Database.at(loaded.settings.database_path)
    database.prepare()
    listener = socket.create_server(("127.0.0.1", 0))  # accepts from here on, so nobody needs to wait
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    registry = Registry()
    registry.reserve(filter(None, loaded.settings.reserved_names.split(",")))
    usage = UsageLog(database)
    questions = Questions(database, approvers="admin" if loaded.settings.approvals == "admin" else "owner")
    runner = Runner(registry, usage, timeout=30, questions=questions)
    scheduler = Scheduler(database, runner)
    models = ModelService(database, registry, runner, scheduler, loaded.settings)
    files = FileStorage(database, loaded.settings.blobs, max_bytes=loaded.settings.max_file_mb * MB_BYTES)
    stores = StoreService(
        database,
        registry,
        runner,
        scheduler,
        files,
        OutwardFetcher(AddressPolicy.of(loaded.settings.tool_hosts)),
        loaded.settings,
    )
    registry.add_source(stores)
    trust = ReaderTest(database, registry, scheduler)
    registry.add_source(StoreApps(registry, trust))
    artifacts = ArtifactStore(database, loaded.settings.artifacts)
    toolbox = Toolbox(registry, artifacts)
    mcp = McpHost(toolbox, database, artifacts, loaded.settings.logs, runner)
    packages = FunctionPackages(loaded.settings.environments, offline=True)
    added = AddedTools(toolbox, database, AddressPolicy.of(loaded.settings.tool_hosts), packages)
    served = ServedTools(toolbox)
    code = CodeTools(loaded.settings, artifacts)
    budget = ValueBudget(loaded.settings.flow_value_mb, loaded.settings.flow_run_mb)
    flows = Flows(database, registry, runner, scheduler, code.light, filters.parse, budget=budget)
    apps = DeployedApps(database, registry, runner.app_quotas)
    prompts = PromptLibrary(database, registry.require_unreserved)
    around = ResponseServices(registry, UploadedFiles(files, artifacts), filters.parse, mcp.addresses)
    tuning = FineTuningJobs(
        database,
        registry,
        runner,
        scheduler,
        models.bases,
        files,
        lambda _base: FakeTrainer(),
        folder / "finetune",
    )
    evals = Evaluations(database, registry)
    evaluating = EvalServices(
        *(database, registry, runner, scheduler, files, code.light, apps),
        SearchJobs(tuning, lambda wish: spec_of(wish, "fine_tuning")),
        filters.parse,
        Throttle(registry, runner, on=True).wait_for_idle,
        loaded.settings.eval_concurrency,
    )
    eval_runs = EvalRuns(evaluating, evals)
    stopped = asyncio.Event()
    parts = ApiServices(
        loaded=loaded,
        database=database,
        registry=registry,
        runner=runner,
        scheduler=scheduler,
        questions=questions,
        models=models,
        files=files,
        stores=stores,
        artifacts=artifacts,
        flows=flows,
        apps=apps,
        reconciler=Reconciler(models, stores, added, mcp, prompts, apps),
        agents=AgentApps(
            registry,
            runner,
            code.light,
            AgentSessions(database, registry),
            StoredFacts(database, stores, files),
        ),
        tuning=tuning,
        batches=Batches(
            *(database, registry, runner, scheduler, files),
            at_once=loaded.settings.batch_concurrency,
            longest=loaded.settings.max_body_mb * MB_BYTES,
        ),
        retention=Retention(database, artifacts, files, runs_days=30, usage_days=400),
        mcp=mcp,
        added=added,
        served=served,
        prompts=prompts,
        evals=evals,
        eval_runs=eval_runs,
        searches=EvalSearches(evaluating, evals, eval_runs.slots),
        responder=Responder(database, runner, scheduler, around, prompts),
        conversations=ConversationStore(database),
        trust=trust,
        startup=[],
        url=url,
        started_at=time.time(),
        stop=stopped.set,
    )
    parts.batches.ask = internal.internal_request(parts)
    auth = Auth(database, loaded.settings, runner.quotas)
    stores.filtered = auth.filtered
    scheduler.principals = auth.principal
    door = Gateway(parts, auth)
    server = HttpServer(wrap(door), loaded.settings, grace=1)
    try:
        await auth.start(given)
        tasks = [
            asyncio.create_task(work)
            for work in (
                server.serve([listener]),
                door.run(),
                scheduler.run(alone=True),
                mcp.run(),
                added.run(),
                served.run(),
            )
        ]

        def ended_by_itself(task: asyncio.Task[None]) -> None:
            """What a part would have answered will never come: whoever waits for it shall hear of it now."""
            if not task.cancelled() and task.exception() is not None:
                server.should_exit = True

        for task in tasks:
            task.add_done_callback(ended_by_itself)
        try:
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield Porch(url, parts, auth, client, server, stopped)
        finally:
            server.should_exit = True
            for task in tasks[1:]:
                task.cancel()
            ended, _ = await asyncio.wait(tasks)
            await runner.close()
            await stores.close()
            await models.close()
            await code.close()
            if failed := [error for task in ended if not task.cancelled() and (error := task.exception())]:
                raise BaseExceptionGroup("parts of the house ended by themselves", failed)
    finally:
        listener.close()
        database.close()
