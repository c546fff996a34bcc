"""A model on an engine, as the rest of the daemon uses it: its card, its state, and its answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from portico.model_options import flat_options
from portico.wire import Usage
from portico_server.core.attached_files import ReadsFiles
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, PorticoError
from portico_server.core.media import FILES_CAPABILITY, Draw, Speak, Transcribe, holds_files
from portico_server.core.relay import CAPABILITY, AdapterScale, Relay, RelayResponse, single_chunk
from portico_server.core.request import Chat, Detokenize, Embed, Moderate, Request, Rerank, Result, Tokenize
from portico_server.core.servable import FUSION_WEIGHT, Card
from portico_server.models import answers, attachment, media_answers
from portico_server.models.catalog import engines_that
from portico_server.models.engine_launch import ChooseEngine, FetchModel, MakeLaunchContext
from portico_server.models.in_flight import HeldAnswer
from portico_server.models.known_models import profile_of
from portico_server.models.memory import Residency
from portico_server.models.openai_wire import frame
from portico_server.models.prices import Tariff
from portico_server.models.process import DRAIN_S, ModelProcess
from portico_server.models.prompt import ModelPrompt
from portico_server.models.protocol import Engine, ModelDescription, RunningEngine, TellsTokens
from portico_server.models.replicas import ReplicaLease, ReplicaPool
from portico_server.models.sources.source import public_source
from portico_server.models.spec import DeploymentInfo, ModelSpec
from portico_server.models.startup_progress import unheard
from portico_server.models.token_usage import estimate_tokens

_USES = ("chat", "embeddings", "rerank", "moderation", "speech", "transcription", "image")
"""Words that describe the tasks of models in messages, one word per task."""

MAX_TOKENIZED_CHARS = 4_000_000
"""Maximum number of characters tokenized per request, because the daemon must parse and forward a number for each
token.
"""

COMMENT_INTERVAL_S = 5.0
"""Seconds of loading after which comments are sent in the stream, and the interval between comments."""


@dataclass(frozen=True, slots=True)
class ModelOrigin:
    """The source of one process of a model.

    ``fetch`` downloads the model's files; then ``site`` determines where the process runs. ``tariff`` is the price of
    the model's answers, if known.
    """

    spec: ModelSpec
    engine: Engine
    fetch: FetchModel
    site: MakeLaunchContext
    tariff: Tariff | None = None


_LENGTHS = ("max_tokens", "max_completion_tokens")
"""Two names of the same option."""


class Deployment:
    """A model as a `Servable` that also `Relays`.

    ``origins`` has one entry per process. The first is the model's own source, from which the model's card is derived.
    ``path`` returns the location of the files if they are downloaded, and ``on_change`` is called when the card
    changes. ``queue_limit`` applies if the spec sets none. ``files`` returns the reader of attached files, for models
    that read only text.
    """

    def __init__(
        self,
        spec: ModelSpec,
        origins: Sequence[ModelOrigin],
        *,
        owner: str | None,
        created_at: float,
        path: Path | None,
        choose: ChooseEngine,
        residency: Residency,
        queue_limit: int,
        on_change: Callable[[], None],
        files: Callable[[], ReadsFiles | None],
    ) -> None:
        self.spec = spec
        self._files = files
        self.owner = owner
        self._created = created_at
        self._on_change = on_change
        model_processes = [
            ModelProcess(
                origin.spec,
                origin.engine,
                choose=choose,
                fetch=origin.fetch,
                site=origin.site,
                residency=residency,
                describe=_ignore if number else self._describe,
                tariff=origin.tariff,
            )
            for number, origin in enumerate(origins)
        ]
        self.process = model_processes[0]
        self.pool = ReplicaPool(
            spec.name, model_processes, queue_limit if spec.queue_limit is None else spec.queue_limit
        )
        self._prompt = ModelPrompt.parse(spec.name, spec.prompt)
        self._description = origins[0].engine.describe(spec, path)
        self._lacks_files = origins[0].engine.fetches and path is None
        self._card = self._make_card()

    @property
    def card(self) -> Card:
        return self._card

    def _make_card(self) -> Card:
        model_description = self._description
        labels: dict[str, object] = {
            "source": public_source(self.spec.source),
            "engine": self.process.launch.kind.name,
            **model_description.labels,
        }
        if model_description.context_length:
            labels["context_length"] = model_description.context_length
        if model_description.dimensions:
            labels["dimensions"] = model_description.dimensions
        if model_description.parameters:
            labels["parameters"] = model_description.parameters
        answer_mode = model_description.answers if self.spec.answers == "auto" else self.spec.answers
        if answer_mode in ("write", "quote") and model_description.task == "chat":
            labels["answers"] = answer_mode
        if self.spec.defaults:
            labels["defaults"] = dict(self.spec.defaults)
        if model_description.voices:
            labels["voices"] = list(model_description.voices)
        if model_description.task == "embedding":
            model_profile = profile_of(self.spec.source)
            weight = model_profile.fusion_weight if model_profile else None
            labels["fusion_weight"] = FUSION_WEIGHT if weight is None else weight
            if model_profile is not None and model_profile.fusion_weight_cjk is not None:
                labels["fusion_weight_cjk"] = model_profile.fusion_weight_cjk
        return Card(
            self.spec.name,
            "model",
            description=self.spec.description or model_description.description,
            capabilities=model_description.capabilities,
            labels=labels,
            owner=self.owner,
            created=int(self._created),
            has_guessed_task=self.spec.task == "auto" and (model_description.hosted or self._lacks_files),
        )

    def _describe(self, description: ModelDescription) -> None:
        if description != self._description or self._lacks_files:
            self._lacks_files = False
            self._description = description
            self._card = self._make_card()
            self._on_change()

    @property
    def running(self) -> RunningEngine | None:
        """The running engine, if any."""
        return self.pool.running

    def info(self, aliases: tuple[str, ...] = ()) -> DeploymentInfo:
        """Return the deployment as the API shows it."""
        pool = self.pool
        error = pool.error
        return DeploymentInfo(
            name=self.spec.name,
            source=self.spec.source,
            engine=self.process.launch.kind.name,
            task=self._description.task,
            state=pool.state,
            pid=pool.pid,
            memory_bytes=pool.memory,
            error=error.message if error else None,
            aliases=aliases,
            loaded_at=pool.loaded_at,
            last_used_at=pool.used_at,
            context_length=self._description.context_length,
            dimensions=self._description.dimensions,
            owner=self.owner,
            description=self.spec.description,
            pin=self.spec.pin,
            keep_alive=self.spec.keep_alive,
            calls=pool.calls,
            starts=pool.starts,
            crashes=pool.crashes,
            replicas=pool.replicas(),
            gpus=tuple(sorted({number for process in pool.processes for number in process.gpus})),
        )

    def log(self, lines: int) -> list[str]:
        """Return the last lines of the log of the model's engine. If no engine runs, they are those of the last
        engine.
        """
        return self.pool.log(lines)

    async def call(self, request: Request, context: Context) -> Result:
        """Answer `Chat` with a `ChatReply` and its events, `Embed` with `Vectors`, and so on.

        Calls the engine as `relay` does, and parses the response.
        """
        if isinstance(request, Chat):
            return await answers.read_reply(self, request, context)
        if isinstance(request, Embed):
            return await answers.read_vectors(self, request, context)
        if isinstance(request, Rerank):
            return await answers.read_ranking(self, request, context)
        if isinstance(request, Moderate):
            return await answers.read_moderation(self, request, context)
        if isinstance(request, Speak):
            return await media_answers.read_speech(self, request, context)
        if isinstance(request, Transcribe):
            return await media_answers.read_transcript(self, request, context)
        if isinstance(request, Draw):
            return await media_answers.read_images(self, request, context)
        if isinstance(request, Tokenize | Detokenize):
            return await self._read(request, context)
        raise InvalidRequest(
            f"'{self.spec.name}' is a model, which does not support requests of the kind "
            f"{type(request).__name__}."
        )

    async def _read(self, request: Tokenize | Detokenize, context: Context) -> Result:
        """Convert a text to the model's tokens, or tokens to text."""
        if isinstance(request, Tokenize) and (chars := _chars_of(request)) > MAX_TOKENIZED_CHARS:
            raise InvalidRequest(
                f"The text has {chars:,} characters; at most {MAX_TOKENIZED_CHARS:,} can be tokenized per "
                "request. Send it in parts.",
                code="string_above_max_length",
                param="messages" if request.prompt is None else "prompt",
            )
        lease = self.pool.enter(Relay("completions", {}))
        try:
            running = await lease.engine(context.emit)
            if running.tokenizer is None:
                raise InvalidRequest(
                    f"The engine '{lease.process.launch.kind.name}' of '{self.spec.name}' does not support "
                    f"tokenization; models on {engines_that(TellsTokens)} do.",
                    code="tokens_unsupported",
                    param="model",
                )
            if isinstance(request, Tokenize):
                return await running.tokenizer.tokenize(request, context.deadline)
            return await running.tokenizer.detokenize(request, context.deadline)
        finally:
            lease.leave()

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """See `portico_server.core.servable.Relays`. Loads the model first if necessary.

        Raises `TooMany` if too many calls are waiting for the model.
        """
        self._check(request)
        if request.operation == "chat/completions" and holds_files(request.body["messages"]):
            request = await self._with_text(request, context)
        request = self._with_prompt(self._with_defaults(request))
        lease = self.pool.enter(request)
        try:
            if lease.process.is_ready or not request.stream or not request.operation.endswith("completions"):
                running = await lease.engine(context.emit)
            else:
                running_engine = await self._wait_briefly(lease, context)
                if running_engine is None:
                    relay_response = RelayResponse("text/event-stream", single_chunk(b""))
                    chunks = self._relay_when_loaded(request, context, lease, relay_response)
                    relay_response.chunks = HeldAnswer(chunks, lambda _: lease.leave())
                    return relay_response
                running = running_engine
        except BaseException:
            lease.leave()
            raise
        return await self._relay(request, context, lease, running)

    def _check(self, request: Relay) -> None:
        capabilities = self._card.capabilities
        if CAPABILITY[request.operation] not in capabilities:
            does = next(word for word in _USES if word in capabilities)
            raise InvalidRequest(
                f"The model '{self.spec.name}' is for {does}; it does not support {request.operation}.",
                code="model_lacks_capability",
                param="model",
            )

    async def _with_text(self, request: Relay, context: Context) -> Relay:
        """Return the chat with the text of its attached files, if the model does not accept files."""
        files = self._files()
        if files is None or FILES_CAPABILITY in self._card.capabilities:
            return request
        messages = await files.as_text(
            request.body["messages"], context.caller, context_length=self._description.context_length
        )
        return replace(request, body={**request.body, "messages": messages}, original=None)

    def _with_defaults(self, request: Relay) -> Relay:
        """Return the request with the options of this model as defaults."""
        if not self.spec.defaults or request.operation in ("embeddings", "rerank", "moderations"):
            return request
        fields = {name: value for name, value in request.body.items() if value is not None}
        defaults = flat_options(self.spec.defaults)
        if fields.keys() & _LENGTHS:
            for name in _LENGTHS:
                defaults.pop(name, None)
        if (
            request.operation == "completions"
        ):  # completions have a length option of their own, see `prepare_completion`
            defaults.pop("max_completion_tokens", None)
        return replace(request, body={**defaults, **fields}, original=None)

    def _with_prompt(self, request: Relay) -> Relay:
        """Return the chat with the fixed prompt of this model."""
        if self._prompt is None or request.operation != "chat/completions":
            return request
        return replace(request, body=self._prompt.render(self.spec.name, request.body), original=None)

    async def _relay(
        self, request: Relay, context: Context, lease: ReplicaLease, running: RunningEngine
    ) -> RelayResponse:
        while True:
            try:
                async with lease.watch_call():
                    prepared = lease.prepared(request, running, context)
                    relay_response = await running.client.relay(prepared, context.deadline)
            except BaseException as error:  # noqa: BLE001  # raised again if no other process can answer
                running = await lease.move(running, error, context)
            else:
                break
        lease.record_answer()

        def on_end(error: BaseException | None) -> None:
            lease.process.health.end_answer(answer)
            lease.leave(running, error)
            if answer.pieces and not answer.complete and relay_response.usage == Usage():
                # The answer was interrupted, so the engine has not reported the usage. The work still counts.
                relay_response.usage = Usage(estimate_tokens(request.body), answer.pieces)
            if lease.process.tariff is not None:
                relay_response.usage = lease.process.tariff.priced(relay_response.usage)

        relay_response.chunks = answer = HeldAnswer(relay_response.chunks, on_end)
        lease.process.health.begin_answer(answer)
        return relay_response

    async def _wait_briefly(self, lease: ReplicaLease, context: Context) -> RunningEngine | None:
        """Return the running engine, or ``None`` if the engine does not run after `COMMENT_INTERVAL_S`."""
        try:
            async with asyncio.timeout(COMMENT_INTERVAL_S) as timeout:
                return await lease.engine(context.emit)
        except TimeoutError:
            if not timeout.expired():
                raise
            return None

    async def _relay_when_loaded(
        self, request: Relay, context: Context, lease: ReplicaLease, relay_response: RelayResponse
    ) -> AsyncIterator[bytes]:
        """Yield the stream for a client that waits until the model is loaded: comments first, then the answer."""
        yield self._comment(lease.process)
        try:
            while (running := await self._wait_briefly(lease, context)) is None:
                if context.deadline is not None and asyncio.get_running_loop().time() > context.deadline:
                    raise DeadlineExceeded(f"'{self.spec.name}' was not loaded in time; loading continues.")
                yield self._comment(lease.process)
            inner = await self._relay(request, context, lease, running)
            relay_response.protocol = inner.protocol
        except PorticoError as error:
            yield frame(error)
            raise
        try:
            async for chunk in inner.chunks:
                yield chunk
        finally:
            await answers.close_chunks(inner.chunks)
            relay_response.usage = inner.usage

    def _comment(self, process: ModelProcess) -> bytes:
        status = process.launch.progress.stage
        stage, done_bytes, total = status.stage, status.done, status.total
        word = {
            "cold": "loading",
            "load": "loading",
            "environment": "building the engine for",
            "download": "downloading",
            "memory": "waiting for memory to load",
            "warm-up": "warming up",
        }.get(stage, stage)
        progress = "" if done_bytes is None else f": {done_bytes / 1e6:.0f} MB"
        if done_bytes is not None and total:
            sizes = f" ({done_bytes / 1e6:.0f} of {total / 1e6:.0f} MB)" if status.unit == "bytes" else ""
            progress = f": {100 * done_bytes / total:.0f} %{sizes}"
        return f": {word} {self.spec.name}{progress}\n\n".encode()

    async def load(self) -> RunningEngine:
        """Download and start the model unless it is running. Concurrent callers share one start."""
        return await self.pool.load(unheard)

    async def unload(self, *, drain: float | None = DRAIN_S) -> None:
        """Free the model's memory once its calls in progress have ended, or after ``drain`` seconds."""
        await self.pool.unload(drain=drain)

    async def try_adapter(self, adapter: AdapterScale) -> None:
        """Test in a separate process whether an adapter can be loaded. Downloads the model. Raises `PorticoError`."""
        await self.process.launch.try_adapter(adapter)

    async def attach(self, adapter: AdapterScale) -> None:
        """Attach an adapter to every running process. Raises `PorticoError`.

        If a process cannot attach the adapter while running, it restarts after its calls in progress. Such processes
        restart one after another.
        """
        for process in self.pool.processes:
            await attachment.attach(process, adapter)

    async def detach(self, name: str) -> None:
        """Detach an adapter, the reverse of `attach`."""
        for process in self.pool.processes:
            await attachment.detach(process, name)

    def takes(self, adapter: AdapterScale) -> bool:
        """Return whether every running process has the adapter."""
        return all(attachment.takes(process, adapter) for process in self.pool.processes)

    async def close(self) -> None:
        """End the deployment immediately and permanently. Calls in progress end too."""
        await self.pool.close()


def _ignore(_description: ModelDescription) -> None:
    """Ignore the description of an additional process, because the first process describes the model."""


def _chars_of(request: Tokenize) -> int:
    """Return the number of characters to tokenize."""
    texts = [request.prompt]
    for message in request.messages or ():
        content = message.get("content")
        texts += [content] if isinstance(content, str) else [part.get("text") for part in content or ()]
        texts += [call["function"].get("arguments") for call in message.get("tool_calls") or ()]
    return sum(len(text) for text in texts if isinstance(text, str))
