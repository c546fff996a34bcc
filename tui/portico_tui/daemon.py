"""The screens' interface to the daemon: awaitable methods, frozen values, and errors whose message is one sentence.

Only this module and `portico_tui.conversations` use the client. Every call can raise a `DaemonError`.
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
"""A turn of a conversation: ``role`` and ``content``."""

FILES = 10_000
"""Maximum number of files to list for a store."""

PAGE_ITEMS = 1_000
"""Number of files per request."""

MAX_QUESTIONS = 500
"""Maximum number of questions to list."""

MAX_ROWS = 500
"""Maximum number of rows in other lists: runs, batches, fine-tuning jobs, evaluations."""

MAX_PAGE_ITEMS = 100
"""Number of items per request for lists in OpenAI's API."""

MAX_PASSAGES = 20
"""Number of passages that a search shows."""


def partners(glance: Glance, apps: Mapping[str, App], models: Iterable[str] = ()) -> tuple[Partner, ...]:
    """Return all conversation partners: apps first, then ``default``, then the other chat models, sorted by name.

    ``apps`` are the known apps. An app whose input is an object is left out, because it is run, not chatted with.
    ``models`` are the names of models without a deployment, such as fine-tuned models.
    """
    talkers = [model for model in glance.models if model.task == "chat"]
    names = {name for model in talkers for name in (model.name, *model.aliases)} | {*models}
    sorted_names = sorted(names, key=lambda name: (name != "default", name))
    names_of_apps = dict.fromkeys((*glance.apps, *(apps if glance.is_part else ())))
    chatting = [name for name in names_of_apps if name in apps and takes_words(apps[name])]
    return (*(Partner(name, True) for name in chatting), *(Partner(name, False) for name in sorted_names))


def takes_words(app: App) -> bool:
    """Return whether an app needs only a message as its input."""
    return app.kind in ("store", "agent") or (app.input_schema or {}).get("type", "string") == "string"


class DaemonClient:
    """A connection to a running daemon. ``url`` and ``key`` default as in the client. Close the connection after
    use.
    """

    def __init__(self, url: str | None = None, key: str | None = None, *, name: str = "") -> None:
        self.client = AsyncClient(url, key)
        """The client that calls the daemon. Methods of this class exist only where several calls are needed."""
        self.conversations = Conversations(self.client)
        self.name = name
        """The name that the user gave the daemon; empty if it has none."""
        self._uploads: dict[Path, str] = {}

    @property
    def url(self) -> str:
        """The URL of the daemon."""
        return self.client.url

    @property
    def place(self) -> str:
        """The daemon's URL, preceded by the daemon's name if it has one."""
        return f"{self.name} · {self.url}" if self.name else self.url

    async def pages(self, page: Callable[..., Awaitable[Page[Listed]]]) -> Sequence[Listed]:
        """Return all items of a paged list in OpenAI's API, up to `MAX_ROWS`."""
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
        """Download a model's files. Yield the progress until all files are complete."""
        async for progress in self.progress(await self.client.models.pull(source)):
            yield progress

    async def sync(self, store: Store) -> AsyncIterator[Progressed]:
        """Sync a store with its source. Yield the progress until the sync ends."""
        async for progress in self.progress(await self.client.stores.sync(store.id)):
            yield progress

    async def files(self, store: Store) -> Sequence[StoreFile]:
        """Return a store's files in order of arrival, then by name. If there are more than `FILES`, return only that
        many, failed files first.
        """
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
        """Upload a local file and add it to a store, which indexes the file in the background.

        A large file is uploaded in parts. If the connection is lost, the next attempt sends the missing parts.
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
        """Return the passages of a store in rank order."""
        result = await self.client.stores.search(store.id, query, max_num_results=MAX_PASSAGES)
        return result.passages

    async def questions(self) -> Sequence[Question]:
        """Return the questions that wait for a person. The question that has waited longest is first."""
        questions = await self.client.questions.list(status="pending", limit=MAX_QUESTIONS)
        return [question for question in reversed(questions) if question.kind in ("approval", "input")]

    async def chat_models(self) -> frozenset[str]:
        """Return the names of all chat models: deployments, their aliases, and fine-tuned models."""
        apps = {app.name for app in await self.client.apps.list()}
        models = await self.client.models.list()
        return frozenset(model.id for model in models if "chat" in model.capabilities) - apps

    def answer(self, partner: Partner, messages: Sequence[Message]) -> Answer:
        """Return the answer to a conversation that ends with a question. Use the answer as a context manager."""
        if partner.app:
            return self.client.ask(messages[-1]["content"], partner.name, history=messages[:-1])
        return self.client.chat(messages, partner.name)

    async def close(self) -> None:
        """Close the connections."""
        await self.client.close()

    async def progress(self, run: str) -> AsyncIterator[Progressed]:
        """Yield the progress of a run until the run ends. If the run fails, raise its error."""
        async for event in self.events(run):
            match event:
                case Progressed() as progress:
                    yield progress
                case Failed(error=error):
                    raise from_body(error)

    async def events(self, run: str) -> AsyncIterator[Event]:
        """Yield the events of a run from its start to its end."""
        async for item in self.client.runs.events(run):
            yield item.event
