"""A small registry for tests of the layers above it, with scripted stores and models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from portico.wire import Delta, Event, Passage, Place, Usage
from portico_server.core.context import Context
from portico_server.core.errors import PorticoError
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Chat, ChatReply, Request, Result, Search, SearchResult
from portico_server.core.servable import Card
from portico_server.db.database import Database
from portico_server.features.answers.store_apps import StoreApps
from portico_server.features.answers.trust import ReaderTest
from portico_server.features.tools.toolbox import Toolbox
from portico_server.runs.questions import QuestionService
from portico_server.runs.runner import Runner
from portico_server.runs.scheduler import Scheduler
from portico_server.runs.usage import UsageLog


def passage(rank: int, text: str, filename: str = "guide.md", score: float = 0.9) -> Passage:
    """Return a passage from line ``rank`` of a file."""
    return Passage(rank, score, text, f"file-{rank}", filename, Place(line=rank, heading=("Ports",)), "docs")


class FixedStore:
    """A store with fixed passages that records its queries."""

    def __init__(self, name: str, passages: Sequence[Passage] = (), **card: Any) -> None:
        labels = {"app": card.pop("app", True), "id": f"vs_{name}", **card.pop("labels", {})}
        self.card = Card(name, "store", labels=labels, **card)
        self.passages = tuple(passages)
        self.asked: list[Search] = []

    async def call(self, request: Request, context: Context) -> SearchResult:
        assert isinstance(request, Search)
        self.asked.append(request)
        return SearchResult(self.passages[: request.max_num_results])


class FixedModel:
    """A model that answers with fixed pieces after failing with each of ``errors``; it records its requests."""

    def __init__(
        self,
        *pieces: str,
        name: str = "voice",
        errors: Sequence[PorticoError] = (),
        labels: dict[str, Any] | None = None,
        capabilities: AbstractSet[str] = frozenset({"chat"}),
    ) -> None:
        self.card = Card(
            name, "model", capabilities=frozenset(capabilities), labels={"answers": "write", **(labels or {})}
        )
        self.pieces = pieces
        self.errors = list(errors)
        self.asked: list[Chat] = []

    async def call(self, request: Request, context: Context) -> ChatReply:
        assert isinstance(request, Chat)
        self.asked.append(request)
        if self.errors:
            raise self.errors.pop(0)
        for piece in self.pieces:
            await context.emit(Delta(piece))
        return ChatReply("".join(self.pieces), usage=Usage(10, len(self.pieces)), model=self.card.name)


class ScriptedServable:
    """A Servable whose behaviour is a function of the request and the context."""

    def __init__(self, card: Card, work: Callable[[Request, Context], Any]) -> None:
        self.card = card
        self._work = work

    async def call(self, request: Request, context: Context) -> Result:
        result: Result = await self._work(request, context)
        return result


class RegistryFixture:
    """A registry with the built-in tools and the apps over its stores, and a runner."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.registry = Registry()
        self.questions = QuestionService(database)
        self.runner = Runner(self.registry, UsageLog(database), timeout=60, questions=self.questions)
        self.scheduler = Scheduler(database, self.runner)
        self.trust = ReaderTest(database, self.registry, self.scheduler)
        self.registry.add_source(StoreApps(self.registry, self.trust))
        Toolbox(self.registry).register()

    def add(self, *servables: Any, default: str = "voice") -> None:
        """Register servables; the model called ``default`` gets that alias."""
        for servable in servables:
            self.registry.add(servable)
        self.registry.aliases.set("default", default)

    async def call(
        self, name: str, request: Request, caller: Principal = LOCAL
    ) -> tuple[Result, list[Event]]:
        """Return the result of a call, and its events without the last."""
        run = await self.runner.start("test", name, request, caller)
        events = [event async for _number, event in run.log.follow()]
        return await self.runner.wait(run), events[:-1]


@asynccontextmanager
async def open_registry(folder: Path) -> AsyncIterator[RegistryFixture]:
    """A `RegistryFixture` whose usage rows go to a database in ``folder``."""
    database = Database.at(folder / "portico.db")
    database.prepare()
    daemon = RegistryFixture(database)
    try:
        yield daemon
    finally:
        await daemon.runner.close()
        database.close()
