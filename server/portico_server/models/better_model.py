"""Offers a larger model that this machine can run in place of a built-in model. If the user accepts, the model is
downloaded in the background and deployed. The offer is made only once.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from portico.schemas.deployments import BetterModel, BetterTask, Recommendation, TriedSource
from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, PorticoError, Unavailable
from portico_server.core.principal import Principal
from portico_server.db import runs
from portico_server.db.database import Database
from portico_server.models.local_machine import LocalMachine
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.models.spec import ModelSpec
from portico_server.runs.scheduler import Scheduler
from portico_server.settings import MB_BYTES, Settings

PROBE_TIMEOUT_S = 5.0
"""Maximum time for checking whether one source has the model, in seconds."""

SPEED_TIMEOUT_S = 3.0
SPEED_BYTES = 2 * MB_BYTES
"""Maximum number of bytes read from a source to estimate how long the download takes."""

MAX_PROGRESS_EVENTS = 100
"""Approximate maximum number of progress events of one download."""

UNREACHABLE_INTERVAL_S = 86_400.0
"""Seconds for which a model is not offered again after none of its sources could be reached."""

State: TypeAlias = Literal["none", "available", "unreachable", "fetching", "declined"]


class ReplacesModel(Protocol):
    """The operations of `portico_server.models.service.ModelService` that `BetterModelOffer` needs."""

    def source_of(self, name: str) -> str | None: ...

    async def put_in_place(self, spec: ModelSpec, alias: str) -> None: ...


class BetterModelOffer:
    """Looks for a better model than a built-in model, downloads it in a durable run, and points the alias of the
    built-in model to it once it is loaded.

    ``kind`` names the runs, and the file in the home folder that records the user's decision. ``on_replaced`` is then
    called with the names of both models, again if the daemon ended meanwhile.
    """

    def __init__(
        self,
        models: ReplacesModel,
        machine: LocalMachine,
        fetcher: ModelFetcher,
        database: Database,
        scheduler: Scheduler,
        settings: Settings,
        tiny: ModelSpec,
        task: BetterTask,
        kind: str,
    ) -> None:
        self._models = models
        self._machine = machine
        self._fetcher = fetcher
        self._database = database
        self._scheduler = scheduler
        self._settings = settings
        self._task = task
        self._kind = kind
        self._note = settings.home / f"{kind}.json"
        self._alias = tiny.aliases[0]
        self._run: str | None = None
        self.tiny = tiny
        self.on_replaced: Callable[[str, str], Awaitable[object]] | None = None
        decision_note = self._decided()
        self._unreachable_at = (
            decision_note.get("at") if decision_note.get("decision") == "unreachable" else None
        )
        scheduler.handle(kind, self._fetch, concurrency=1)

    @property
    def tiny_answers(self) -> bool:
        """Return whether the alias still refers to the built-in model."""
        return self._models.source_of(self._alias) == self.tiny.source

    @property
    def fetching(self) -> bool:
        """Return whether the better model is being downloaded."""
        return self._run is not None

    @property
    def is_unreachable(self) -> bool:
        """Return whether none of the model's sources could be reached recently."""
        at = self._unreachable_at
        return isinstance(at, int | float) and time.time() - at < UNREACHABLE_INTERVAL_S

    @property
    def recommended(self) -> Recommendation | None:
        """The better model, or ``None`` if none is recommended or its sources could not be reached recently."""
        return None if self.is_unreachable else self._machine.recommended.get(self._task)

    @property
    def hint(self) -> str | None:
        """A one-line hint to show next to an answer of the tiny chat model. It says that this model answered, and how
        to get the better model.
        """
        if not self.tiny_answers:
            return None
        better = self._machine.recommended.get(self._task)
        introduction = (
            f"{self.tiny.name} is a very small model: it can quote your documents but not write about them."
        )
        if self._run is not None and better is not None:
            return f"{introduction} {better.name} is being downloaded and will replace it."
        if self.is_unreachable:
            return f"{introduction} No model hub could be reached."
        if better is None:
            return f"{introduction} Point 'default' to a larger model: portico models alias default NAME."
        return f"{introduction} Better: portico up --model auto ({better.name}, {better.size_gb:g} GB)."

    async def offer(self) -> BetterModel:
        """Return the model that can be downloaded now. Checks the sources one after another, up to `PROBE_TIMEOUT_S`
        seconds each.
        """
        better = await self._machine.better(self._task)
        if better is None or not self.tiny_answers:
            return BetterModel("none")
        size = int(better.size_gb * 10**9)
        run = await self._under_way()
        if run is not None:
            return BetterModel("fetching", better.name, size_bytes=size, reason=better.reason, run=run)
        decision = self._decided()
        if decision.get("decision") == "declined":
            return BetterModel("declined", better.name, size_bytes=size, reason=better.reason)
        if self._settings.offline and not any(self._is_local(source) for source in sources_of(better)):
            return BetterModel("none")
        tried_sources: list[TriedSource] = []
        for source in sources_of(better):
            try:
                found_size, seconds = await self._probe(source)
            except TimeoutError:
                tried_sources.append(TriedSource(source, f"did not respond within {PROBE_TIMEOUT_S:g} s"))
            except PorticoError as error:
                tried_sources.append(TriedSource(source, error.message))
            else:
                if self._unreachable_at is not None:
                    self._note.unlink(missing_ok=True)
                    self._unreachable_at = None
                return BetterModel(
                    "available", better.name, source, found_size, seconds, better.reason, tuple(tried_sources)
                )
        if self.is_unreachable:
            return BetterModel("none")
        self._decide("unreachable", better)
        return BetterModel(
            "unreachable", better.name, size_bytes=size, reason=better.reason, tried=tuple(tried_sources)
        )

    async def accept(self, caller: Principal) -> str:
        """Start downloading and deploying the model, and return the id of the run. Raise `Conflict` if no model can be
        offered.
        """
        better = await self._machine.better(self._task)
        if better is None or not self.tiny_answers:
            raise Conflict(
                f"There is no model to download: no better model fits this machine, or '{self._alias}' already "
                "refers to another model.",
                code="no_better_model",
            )
        self._run = await self._under_way()
        if self._run is None:
            payload = {"name": better.name, "sources": list(sources_of(better))}
            self._run = await self._scheduler.ensure(self._kind, better.name, payload, caller=caller)
        self._decide("accepted", better, self._run)
        return self._run

    async def decline(self) -> None:
        """Stop offering the model."""
        self._decide("declined", await self._machine.better(self._task))

    def _is_local(self, source: str) -> bool:
        return self._fetcher.find_cached(parse_source(source)) is not None

    async def _probe(self, text: str) -> tuple[int, float | None]:
        """Return the size of the model at a source, and the estimated duration of the download in seconds, if known."""
        source = parse_source(text)
        path = self._fetcher.find_cached(source)
        if path is not None:
            return path.stat().st_size, 0.0
        hub = await pools.LOADING.run(importlib.import_module, "portico_server.models.sources.hub")
        download = importlib.import_module("portico_server.models.sources.download")
        folder = self._settings.models / source.folder
        async with (
            asyncio.timeout(PROBE_TIMEOUT_S),
            hub.list_repository(source, folder, self._settings) as repository,
        ):
            size = sum(item.size for item in repository.expected.values())
            start_time = time.monotonic()
            try:
                async with asyncio.timeout(SPEED_TIMEOUT_S):
                    data = await download.get_range(repository.remote(repository.choice.path), 0, SPEED_BYTES)
            except TimeoutError:
                return size, None
            elapsed_s = max(time.monotonic() - start_time, 1e-3)
            return size, size / (len(data) / elapsed_s) if data else None

    async def _fetch(self, payload: Mapping[str, Any], context: Context) -> Any:
        self._run = context.run
        try:
            source = await self._fetch_first(str(payload["name"]), payload["sources"], context)
            await context.emit(Progressed("load", str(payload["name"])))
            spec = ModelSpec(name=str(payload["name"]), source=source, task=self._task)
            await self._models.put_in_place(spec, self._alias)
            if self.on_replaced is not None:
                await self.on_replaced(self.tiny.name, spec.name)
        except PorticoError:
            self._note.unlink(missing_ok=True)  # so that the model can be offered again
            raise
        finally:
            self._run = None
        return {"model": payload["name"], "source": source}

    async def _fetch_first(self, name: str, sources: Sequence[str], context: Context) -> str:
        """Download the model from the first source that works, and return this source. Raise `Unavailable` with the
        reason for each failure.
        """
        reported_share = -1.0

        async def report(done_bytes: int, total: int | None) -> None:
            nonlocal reported_share
            share = done_bytes / total if total else done_bytes / 1e8
            if share - reported_share >= 1 / MAX_PROGRESS_EVENTS or done_bytes == total:
                reported_share = share
                await context.emit(Progressed("download", name, done_bytes, total, "bytes"))

        reasons = []
        for text in sources:
            reported_share = -1.0
            try:
                await self._fetcher.fetch(parse_source(text), report)
            except PorticoError as error:
                reasons.append(error.message)
            else:
                return text
        raise Unavailable(f"{name} could not be downloaded. {' '.join(reasons)}", code="no_source")

    async def _under_way(self) -> str | None:
        """Return the id of the run that downloads the model. The run may have begun before the last restart and not be
        resumed yet.
        """
        if self._run is not None:
            return self._run
        run_id = self._decided().get("run")
        row = await self._database.read(runs.get, run_id) if isinstance(run_id, str) else None
        return row.id if row is not None and row.status in ("queued", "running", "waiting") else None

    def _decided(self) -> dict[str, Any]:
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _decide(self, decision: str, better: Recommendation | None, run: str | None = None) -> None:
        draft = self._note.with_suffix(".new")
        now = time.time()
        note = {"decision": decision, "model": better.name if better else None, "run": run, "at": now}
        draft.write_text(json.dumps(note), encoding="utf-8")
        draft.replace(self._note)
        self._unreachable_at = now if decision == "unreachable" else None


def sources_of(better: Recommendation) -> tuple[str, ...]:
    """Return the sources of a recommended model in the order in which they are tried: Hugging Face and its mirrors,
    then ModelScope.

    Both hubs use the same repository names. If ModelScope does not have the repository, it says so when it is queried.
    """
    return better.source, better.source.replace("hf://", "modelscope://", 1)
