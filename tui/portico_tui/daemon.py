"""The daemon as the screens see it: awaitables, frozen values, and errors that are a sentence.

Nothing else in this package speaks to the client, save `portico_tui.conversations`. Every call raises a `DaemonError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from portico import AsyncAnswer as Answer
from portico._read import Page
from portico.cli.files import MIN_PARTED_BYTES
from portico.client import AsyncClient
from portico.errors import Cancelled, ConnectionFailed, from_body
from portico.errors import PorticoError as DaemonError
from portico.schemas.apps import App
from portico.schemas.batches import Batch
from portico.schemas.configuration import Problem
from portico.schemas.daemon import Status as Glance
from portico.schemas.deployments import Deployment as Model
from portico.schemas.deployments import Recommendation
from portico.schemas.files import File
from portico.schemas.fine_tuning import TuningEvent, TuningJob, TuningPlan
from portico.schemas.questions import Question
from portico.schemas.sessions import Session
from portico.schemas.stores import SkippedFile, SkippedFiles, Store, StoreFile
from portico.wire import Asked, Cited, Delta, Event, Failed, HandedOff, Passage, Progressed, ToolCalled
from portico_tui.conversations import Asking, ChatMessage, Conversations, Partner

__all__ = [
    "Answer",
    "App",
    "Asked",
    "Asking",
    "Batch",
    "Cancelled",
    "ChatMessage",
    "Cited",
    "Conversations",
    "DaemonClient",
    "DaemonError",
    "Delta",
    "Event",
    "Glance",
    "HandedOff",
    "Message",
    "Model",
    "Partner",
    "Passage",
    "Problem",
    "Progressed",
    "Question",
    "Recommendation",
    "Session",
    "SkippedFile",
    "SkippedFiles",
    "Store",
    "StoreFile",
    "ToolCalled",
    "TuningEvent",
    "TuningJob",
    "TuningPlan",
    "partners",
    "takes_words",
]

Listed = TypeVar("Listed")

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: ``role`` and ``content``."""

FILES = 10_000
"""How many files of a store are listed at most."""

PAGE_ITEMS = 1_000
"""How many of them are asked for at a time."""

MAX_QUESTIONS = 500
"""How many questions are listed at most."""

MAX_ROWS = 500
"""How many of anything else are listed at most: runs, batches, fine-tuning jobs, evaluations."""

MAX_PAGE_ITEMS = 100
"""How many of what OpenAI's API lists are asked for at a time."""

MAX_PASSAGES = 20
"""How many passages a search shows."""


def partners(glance: Glance, apps: Mapping[str, App], models: Iterable[str] = ()) -> tuple[Partner, ...]:
    """Everybody to talk to, apps first, then ``default``, then the models that chat, by name.

    ``apps`` are those that are known; one that takes an object as its input is run, not talked to. ``models`` are names
    beside those of the deployments, such as what was fine-tuned.
    """
    talkers = [model for model in glance.models if model.task == "chat"]
    names = {name for model in talkers for name in (model.name, *model.aliases)} | {*models}
    sorted_names = sorted(names, key=lambda name: (name != "default", name))
    chatting = [name for name in glance.apps if name in apps and takes_words(apps[name])]
    return (*(Partner(name, True) for name in chatting), *(Partner(name, False) for name in sorted_names))


def takes_words(app: App) -> bool:
    """Whether a message is all that an app needs."""
    return app.kind in ("store", "agent") or (app.input_schema or {}).get("type", "string") == "string"


class DaemonClient:
    """A running daemon. ``url`` and ``key`` default as the client's do; close it when done."""

    def __init__(self, url: str | None = None, key: str | None = None, *, name: str = "") -> None:
        self.client = AsyncClient(url, key)
        """What speaks to it; the methods here are those that take more than one call."""
        self.conversations = Conversations(self.client)
        self.name = name
        """What a person calls it; may be empty."""
        self._uploads: dict[Path, str] = {}

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self.client.url

    @property
    def place(self) -> str:
        """Where it is, behind the name that a person gave it."""
        return f"{self.name} · {self.url}" if self.name else self.url

    async def pages(self, page: Callable[..., Awaitable[Page[Listed]]]) -> Sequence[Listed]:
        """All that a paged list of OpenAI's API has, up to `MAX_ROWS`."""
        listeds: list[Listed] = []
        after: str | None = None
        while len(listeds) < MAX_ROWS:
            rows = await page(after=after, limit=MAX_PAGE_ITEMS)
            listeds += rows.data
            if not rows.has_more:
                break
            after = rows.last_id
        return listeds

    async def pull(self, source: str) -> AsyncIterator[Progressed]:
        """Fetch a model's files; yields how far it is and ends when all are there."""
        async for progress in self.progress(await self.client.models.pull(source)):
            yield progress

    async def sync(self, store: Store) -> AsyncIterator[Progressed]:
        """Look at a store's folder again; yields how far it is and ends when all is indexed."""
        async for progress in self.progress(await self.client.stores.sync(store.id)):
            yield progress

    async def files(self, store: Store) -> Sequence[StoreFile]:
        """A store's files as they came, and by name if together; of more than `FILES` that many, failed ones first."""
        store_files: dict[str, StoreFile] = {}
        for status in (None,) if store.file_counts.total <= FILES else ("failed", None):
            after: str | None = None
            while len(store_files) < FILES:
                page = await self.client.stores.files(store.id, after=after, limit=PAGE_ITEMS, status=status)
                store_files.update((file.id, file) for file in page)
                if not page.has_more:
                    break
                after = page.last_id
        if store.file_counts.total <= FILES:
            return sorted(store_files.values(), key=lambda file: (file.created_at, file.filename))
        return list(store_files.values())[:FILES]

    async def upload(self, store: Store, path: Path) -> StoreFile:
        """Send a file of this machine and put it into a store; it is indexed in the background.

        A large file goes in parts. If the connection broke, the next try sends those that are missing.
        """
        file = await self._send(await asyncio.to_thread(path.expanduser))
        return await self.client.stores.attach(store.id, file.id)

    async def _send(self, path: Path) -> File:
        size = await asyncio.to_thread(lambda: path.stat().st_size if path.is_file() else 0)
        if size <= MIN_PARTED_BYTES:
            return await self.client.files.add(path)
        upload = self._uploads.pop(path, None) or (await self.client.files.begin_upload(path)).id
        try:
            return await self.client.files.continue_upload(upload, path)
        except ConnectionFailed:
            self._uploads[path] = upload
            raise

    async def search(self, store: Store, query: str) -> Sequence[Passage]:
        """Passages of a store in rank order."""
        result = await self.client.stores.search(store.id, query, max_num_results=MAX_PASSAGES)
        return result.passages

    async def questions(self) -> Sequence[Question]:
        """What waits for a person, the longest waiting first."""
        questions = await self.client.questions.list(status="pending", limit=MAX_QUESTIONS)
        return [question for question in reversed(questions) if question.kind in ("approval", "input")]

    async def chat_models(self) -> frozenset[str]:
        """The names of the models that chat: deployments, their aliases, and what was fine-tuned."""
        apps = {app.name for app in await self.client.apps.list()}
        models = await self.client.models.list()
        return frozenset(model.id for model in models if "chat" in model.capabilities) - apps

    def answer(self, partner: Partner, messages: Sequence[Message]) -> Answer:
        """The answer to a conversation whose last message is the question. Use it as a context manager."""
        if partner.app:
            return self.client.ask(messages[-1]["content"], partner.name, history=messages[:-1])
        return self.client.chat(messages, partner.name)

    async def close(self) -> None:
        """Give the connections back."""
        await self.client.close()

    async def progress(self, run: str) -> AsyncIterator[Progressed]:
        """How far a run is, until it ends. Raises what it failed with."""
        async for event in self.events(run):
            match event:
                case Progressed() as progress:
                    yield progress
                case Failed(error=error):
                    raise from_body(error)

    async def events(self, run: str) -> AsyncIterator[Event]:
        """What happens in a run, from its begin to its end."""
        async for item in self.client.runs.events(run):
            yield item.event
