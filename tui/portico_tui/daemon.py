"""The daemon as the screens see it: awaitables, frozen values, and errors that are a sentence.

Nothing else in this package speaks to the client, save `portico_tui.conversations`. Every call raises a `DaemonError`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from portico import AsyncAnswer as Answer
from portico.batches import Batch
from portico.client import AsyncClient
from portico.errors import Cancelled, Forbidden, from_body
from portico.errors import PorticoError as DaemonError
from portico.tuning import TuningEvent, TuningJob
from portico.values import Deployment as Model
from portico.values import (
    Problem,
    Question,
    Recommendation,
    Session,
    SkippedFile,
    SkippedFiles,
    Store,
    StoreFile,
)
from portico.values import Status as Glance
from portico.wire import Asked, Cited, Delta, Event, Failed, HandedOff, Passage, ToolCalled
from portico.wire import Status as Progress
from portico_tui.conversations import Asking, ChatMessage, Conversations, Partner

__all__ = [
    "Answer",
    "Asked",
    "Asking",
    "Batch",
    "Cancelled",
    "ChatMessage",
    "Cited",
    "Conversations",
    "Daemon",
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
    "Progress",
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
    "partners",
]

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: ``role`` and ``content``."""

FILES = 2_000
"""How many files of a store are listed at most."""

PAGE_ITEMS = 1_000
"""How many of them are asked for at a time."""

MAX_QUESTIONS = 500
"""How many questions are listed at most."""

MAX_JOBS = 100
"""How many fine-tuning jobs are listed at most."""

MAX_BATCHES = 100
"""How many batches are listed at most."""

MAX_PASSAGES = 20
"""How many passages a search shows."""


def partners(glance: Glance) -> tuple[Partner, ...]:
    """Everybody to talk to, apps first, then ``default``, then the models that chat, by name."""
    talkers = [model for model in glance.models if model.task == "chat"]
    names = {name for model in talkers for name in (model.name, *model.aliases)}
    ordered = sorted(names, key=lambda name: (name != "default", name))
    return (*(Partner(name, True) for name in glance.apps), *(Partner(name, False) for name in ordered))


class Daemon:
    """A running daemon. ``url`` and ``key`` default as the client's do; close it when done."""

    def __init__(self, url: str | None = None, key: str | None = None) -> None:
        self._client = AsyncClient(url, key)
        self.conversations = Conversations(self._client)

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._client.url

    async def glance(self) -> Glance:
        """Everything at a glance: models, stores, apps, and a better model for the daemon's machine."""
        return await self._client.status()

    # --- models ---

    async def load(self, name: str) -> Model:
        """Load a model, and wait until it is ready."""
        return await self._client.deployments.load(name)

    async def unload(self, name: str) -> Model:
        """Free a model's memory, after the calls that it is working on."""
        return await self._client.deployments.unload(name)

    async def logs(self, name: str, lines: int = 500) -> Sequence[str]:
        """The last lines that the model's engine wrote, oldest first."""
        return await self._client.deployments.logs(name, lines)

    async def add_model(self, name: str, source: str) -> Model:
        """Give a model a name. It is fetched and loaded on first use."""
        return await self._client.deployments.add(name, source)

    async def remove_model(self, name: str) -> None:
        """Forget a model. Its files stay in the cache."""
        await self._client.deployments.remove(name)

    async def pull(self, source: str) -> AsyncIterator[Progress]:
        """Fetch a model's files; yields how far it is and ends when all are there."""
        async for progress in self._progress(await self._client.models.pull(source)):
            yield progress

    # --- documents ---

    async def add_folder(self, name: str, folder: str) -> Store:
        """A store that mirrors a folder of the daemon's machine, and a chat app of the same name."""
        return await self._client.stores.add(name, folder=folder)

    async def sync(self, store: Store) -> AsyncIterator[Progress]:
        """Look at a store's folder again; yields how far it is and ends when all is indexed."""
        async for progress in self._progress(await self._client.stores.sync(store.id)):
            yield progress

    async def remove_store(self, store: Store) -> None:
        """Delete a store and its index. A folder that it mirrors is left alone."""
        await self._client.stores.remove(store.id)

    async def files(self, store: Store) -> Sequence[StoreFile]:
        """A store's files as they came, and by name if together; of more than `FILES` that many, failed ones first."""
        found: dict[str, StoreFile] = {}
        for status in (None,) if store.file_counts.total <= FILES else ("failed", None):
            after: str | None = None
            while len(found) < FILES:
                page = await self._client.stores.files(store.id, after=after, limit=PAGE_ITEMS, status=status)
                found.update((file.id, file) for file in page)
                if not page.has_more:
                    break
                after = page.last_id
        if store.file_counts.total <= FILES:
            return sorted(found.values(), key=lambda file: (file.created_at, file.filename))
        return list(found.values())[:FILES]

    async def skipped(self, store: Store) -> SkippedFiles:
        """What of the folder or source of a store is not read, and why."""
        return await self._client.stores.skipped(store.id)

    async def upload(self, store: Store, path: Path) -> StoreFile:
        """Send a file of this machine and put it into a store; it is indexed in the background."""
        file = await self._client.files.add(await asyncio.to_thread(path.expanduser))
        return await self._client.stores.attach(store.id, file.id)

    async def remove_file(self, file: StoreFile) -> None:
        """Delete a file, from every store too. One that mirrors a file of a folder is refused."""
        await self._client.files.remove(file.id)

    async def search(self, store: Store, query: str) -> Sequence[Passage]:
        """Passages of a store in rank order."""
        found = await self._client.stores.search(store.id, query, max_num_results=MAX_PASSAGES)
        return found.passages

    # --- what runs wait for ---

    async def questions(self) -> Sequence[Question]:
        """What waits for a person, the longest waiting first."""
        found = await self._client.questions.list(status="pending", limit=MAX_QUESTIONS)
        return [question for question in reversed(found) if question.kind in ("approval", "input")]

    async def answer_question(self, question: Question, accepted: bool, value: Any = None) -> None:
        """Agree, with a value if one was asked for, or refuse."""
        await self._client.questions.answer(question.id, accepted, value=value)

    # --- fine-tuning ---

    async def tuning_jobs(self) -> Sequence[TuningJob]:
        """The fine-tuning jobs, newest first; none for a key that may not train."""
        try:
            return (await self._client.tuning.list(limit=MAX_JOBS)).data
        except Forbidden:
            return ()

    async def follow_tuning(self, job_id: str) -> AsyncIterator[TuningEvent | TuningJob]:
        """Everything that happened and happens to a job; last the job, when it has ended or is paused."""
        async for item in self._client.tuning.follow(job_id):
            yield item

    async def pause_tuning(self, job_id: str) -> None:
        """Stop a job behind its last checkpoint."""
        await self._client.tuning.pause(job_id)

    async def resume_tuning(self, job_id: str) -> None:
        """Go on with a paused job."""
        await self._client.tuning.resume(job_id)

    async def cancel_tuning(self, job_id: str) -> None:
        """End a job for good."""
        await self._client.tuning.cancel(job_id)

    # --- batches ---

    async def batches(self) -> Sequence[Batch]:
        """The batches, newest first."""
        return (await self._client.batches.list(limit=MAX_BATCHES)).data

    async def cancel_batch(self, batch_id: str) -> None:
        """Ask nothing more of it."""
        await self._client.batches.cancel(batch_id)

    # --- conversations ---

    def answer(self, partner: Partner, messages: Sequence[Message]) -> Answer:
        """The answer to a conversation whose last message is the question. Use it as a context manager."""
        if partner.app:
            return self._client.ask(messages[-1]["content"], partner.name, history=messages[:-1])
        return self._client.chat(messages, partner.name)

    async def close(self) -> None:
        """Give the connections back."""
        await self._client.close()

    async def _progress(self, run: str) -> AsyncIterator[Progress]:
        async for item in self._client.runs.events(run):
            match item.event:
                case Progress() as progress:
                    yield progress
                case Failed(error=error):
                    raise from_body(error)
