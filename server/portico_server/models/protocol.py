"""What an engine is: it turns a model's spec into something that answers OpenAI requests.

The deployment around it knows nothing else of an engine. To add one: a folder with an `engine.py` that has a
class with these methods, and one line in `portico_server.models.catalog`; or a plugin (docs/plugins.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

from portico.wire import Progressed
from portico_server.core.dataclass import dataclass
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.relay import AdapterScale, Relay, RelayResponse
from portico_server.core.request import Detokenize, Detokenized, Tokenize, TokenizedText
from portico_server.launchers.local import LOCAL
from portico_server.launchers.protocol import Launcher, Resources
from portico_server.models.gpus import GpuShare
from portico_server.models.spec import ModelSpec, Task
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware
    from portico_server.models.server_process import ServerProcess
    from portico_server.models.transport import EngineTransport

MEMORY_SHARE = 0.75
"""Part of a machine's memory that all its models may hold together, unless a setting says otherwise."""

CHAT = frozenset({"chat", "completions"})
EMBEDDINGS = frozenset({"embeddings"})
RERANK = frozenset({"rerank"})
MODERATION = frozenset({"moderation"})
SPEECH = frozenset({"speech"})
TRANSCRIPTION = frozenset({"transcription"})
IMAGE = frozenset({"image"})
EDITS = frozenset({"image_edits"})
VISION = frozenset({"vision"})
SPANS = frozenset({"spans"})
MESSAGES = frozenset({"messages"})
WORDS = frozenset({"words"})
LONG_PROMPTS = frozenset({"long_prompts"})
THOUGHTS = frozenset({"thoughts"})
HOSTED = frozenset({"hosted"})
FILES = frozenset({"files"})

_OF_TASK: Mapping[Task, frozenset[str]] = {
    "chat": CHAT,
    "embedding": EMBEDDINGS,
    "rerank": RERANK,
    "moderation": MODERATION,
    "speech": SPEECH,
    "transcription": TRANSCRIPTION,
    "image": IMAGE,
}


AdapterFormat: TypeAlias = Literal["weights", "script"]
"""``weights``: low-rank matrices, as PEFT or llama.cpp write them; ``script``: the answers, as YAML."""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """What is known of a model; ``None`` while unknown.

    ``context_length`` in tokens for one call; ``parameters`` is how many the model has; ``vision`` is whether it takes
    images in a chat; ``spans`` whether it returns vectors of parts of a text (see `Embed`);
    ``messages`` whether it takes a request of Anthropic's Messages API as its caller wrote it;
    ``edits`` whether a model that draws also changes pictures; ``voices`` of a model that speaks, the first one first;
    ``words`` whether its vectors are made of those of single words, so that hundreds of them cost next to nothing;
    ``answers`` is ``write`` for a chat model that answers from passages without having been tested for it;
    ``long_prompts`` whether it reads thousands of tokens without a wait that one notices, as on a GPU or at a provider;
    ``thoughts`` whether its template reads what it thought before, and how much it should think;
    ``hosted`` whether it runs at a provider, so that its calls take nothing of this machine;
    ``files`` whether it takes files in a chat as they are; ``description`` is what it says of itself, and ``labels``
    what else.
    """

    task: Task
    context_length: int | None = None
    dimensions: int | None = None
    parameters: int | None = None
    vision: bool = False
    spans: bool = False
    messages: bool = False
    edits: bool = False
    voices: tuple[str, ...] = ()
    words: bool = False
    answers: str = ""
    long_prompts: bool = False
    thoughts: bool = False
    hosted: bool = False
    files: bool = False
    description: str = ""
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def capabilities(self) -> frozenset[str]:
        base_capabilities = _OF_TASK[self.task]
        extra_capabilities = (
            *((self.vision, VISION), (self.spans, SPANS), (self.messages, MESSAGES), (self.edits, EDITS)),
            *((self.words, WORDS), (self.long_prompts, LONG_PROMPTS), (self.thoughts, THOUGHTS)),
            *((self.hosted, HOSTED), (self.files, FILES)),
        )
        return base_capabilities.union(*(words for has, words in extra_capabilities if has))


class EngineClient(Protocol):
    """Speaks to one running engine."""

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """OpenAI JSON in, OpenAI bytes out, as `portico_server.core.relay.RelayResponse` promises.

        Returns once the first byte is known; raises `PorticoError` before that. After it, an error is
        yielded as a frame ``data: {"error": …}`` and then raised. ``deadline`` is a moment on the event
        loop's clock.
        """


class Tokenizer(Protocol):
    """Tells texts in a model's tokens. Both raise `PorticoError`."""

    async def tokenize(self, request: Tokenize, deadline: float | None) -> TokenizedText: ...

    async def detokenize(self, request: Detokenize, deadline: float | None) -> Detokenized: ...


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """A model that answers: how to speak to it, what it turned out to be, the process behind it if it is ours, and how
    it reads texts where known. ``remembers``: what was said stays with it, so it has to know whose each request is.
    """

    client: EngineClient
    description: ModelDescription
    process: ServerProcess | None = None
    tokenizer: Tokenizer | None = None
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """What an engine may use to start a model: the file for its log, a limit in seconds, connections, the
    folder of environments, and the adapters that it also answers with.

    An adapter that turns out to be unusable is left out with a line in the log: the model itself must start.
    """

    log: Path
    load_timeout: float
    transport: EngineTransport
    environments: Path
    adapters: tuple[AdapterScale, ...] = ()
    report: Callable[[str, int | None], None] | None = None
    """Hears how far the start has come: a stage, and its percentage if it is known."""
    described: Callable[[ModelDescription], None] | None = None
    """Hears what the model has become while it runs."""
    gpus: tuple[int, ...] = ()
    """The numbers of the GPUs that it may use; none where nobody counts them."""
    prompts: Path | None = None
    """The folder for prompts that outlive a process; ``None`` if none are kept."""
    prompts_bytes: int = 0
    """What that folder may hold, of all models."""
    launcher: Launcher = LOCAL
    """Starts its process."""
    resources: Resources = Resources()
    """What that asks a scheduler for."""
    waits: Callable[[str], None] | None = None
    """Hears why the process does not run yet, in a scheduler's words."""
    replace_s: float = 300.0
    """Seconds before the end of a job's time limit at which its process is replaced."""

    def machine(self) -> Hardware:
        """What its process may use: this machine, or what a scheduler was asked for. Elsewhere nobody knows the GPUs
        before the process runs, so nothing is planned for them. Blocks.
        """
        # psutil is imported by now or may be; this module is imported before it.
        from portico_server.models.hardware import Hardware, this_machine

        hardware = this_machine()
        if self.launcher.here:
            return hardware
        return Hardware(
            self.resources.cpus or 1, self.resources.memory_mb * MB_BYTES or hardware.memory_bytes
        )

    furnish: Callable[[str, Callable[[Progressed], None]], Awaitable[None]] | None = None
    """Builds the environment of the engine of this name, where there is none yet; reports its progress."""


@runtime_checkable
class Engine(Protocol):
    """One per kind of engine, without state of its own."""

    @property
    def name(self) -> str: ...

    @property
    def fetches(self) -> bool:
        """Whether the source must be on this machine before `start`."""

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        """What can be said before it runs. ``path`` if the files are here. No network; raises
        `InvalidRequest` if the spec makes no sense to this engine."""

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        """Start it and wait until it answers.

        Raises `PorticoError`; leaves nothing behind then or when cancelled.
        """


class EngineOption(Protocol):
    """One of an engine's parameters: what its value is, and what it is for."""

    @property
    def kind(self) -> str: ...

    @property
    def doc(self) -> str: ...


@runtime_checkable
class NamesOptions(Protocol):
    """Optional, for an engine whose parameters can be listed before there is a model."""

    @property
    def options(self) -> Mapping[str, EngineOption]: ...


@runtime_checkable
class TellsTokens(Protocol):
    """Optional, for an engine whose running models may have a `Tokenizer`."""

    tells_tokens: bool


@runtime_checkable
class MeasuresMemory(Protocol):
    """Optional, for an engine whose processes hold memory of this machine."""

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        """Bytes that the model will take, as far as can be said before it runs; 0 if nothing can. Blocks."""


@runtime_checkable
class OccupiesGpus(Protocol):
    """Optional, for an engine whose processes take GPUs."""

    def occupies(self, spec: ModelSpec, path: Path | None) -> GpuShare:
        """What it will take of them; nothing on a machine without. Blocks; raises `InvalidRequest` for a model that
        cannot fit.
        """


@dataclass(frozen=True, slots=True)
class GpuTraits:
    """How an engine that serves safetensors uses GPUs, for plans. Compute capabilities are NVIDIA's.

    ``weights``: what a kind of quantised weights needs beyond ``min_capability``. ``online``: how weights can be
    quantised while they are loaded, and the part of 16 bits that is left. ``cache_parameter``: the parameter that
    makes the key-value cache smaller, ``cache_factors`` its values, that of 8 bits first, with their part of 16 bits,
    and ``cache_capability`` what the first one needs. ``architectures``: of the models that it is chosen for; empty
    for all. ``frees_windows``: what leaves a sliding window is freed. ``share_covers``: what its ``memory_share`` is a
    part for: ``all`` that it takes, ``static`` weights and cache alone, or the cache alone, of what the weights leave
    ``free``. ``cpu_build``: there are builds of it that need no GPU.
    """

    title: str
    min_capability: float
    weights: Mapping[str, float]
    cache_parameter: str
    cache_factors: Mapping[Any, float]
    cache_capability: float
    online: Mapping[str, float] = field(default_factory=dict)
    architectures: frozenset[str] = frozenset()
    frees_windows: bool = True
    share_covers: Literal["all", "static", "free"] = "all"
    cpu_build: bool = False


@runtime_checkable
class PlansGpus(Engine, Protocol):
    """Optional, for an engine that serves folders of safetensors on GPUs: plans count it in, and may choose it."""

    @property
    def gpu_traits(self) -> GpuTraits: ...


@runtime_checkable
class TunesElsewhere(Protocol):
    """Optional, for an engine whose models are trained where they are: at a provider."""

    def tuner(self, spec: ModelSpec) -> HostedTuner | None:
        """The fine-tuning API behind a model; ``None`` if its provider has none that is known."""


@runtime_checkable
class TriesAdapters(Protocol):
    """Optional, for an engine that takes adapters: those of `LaunchContext.adapters` when it starts. Its chat models
    can be trained too.
    """

    @property
    def adapter_format(self) -> AdapterFormat:
        """What an adapter is made of."""

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """Find out, beside whatever runs, whether the model can be started with ``adapter``.

        Raises `InvalidRequest` that says what is wrong with it.
        """


@runtime_checkable
class KeepsPrompts(Protocol):
    """Optional, for a `EngineClient` of an engine that can take up prompts which an earlier process has read."""

    async def keep_prompts(self, deadline: float) -> None:
        """Write down what no call is using; called before the process is ended. Raises `PorticoError`."""


@runtime_checkable
class AttachesAdapters(Protocol):
    """Optional, for a `EngineClient` of an engine that takes adapters."""

    def fits(self, adapter: AdapterScale) -> bool:
        """Whether the process can answer with it as it runs; otherwise it must be restarted."""

    async def attach(self, adapter: AdapterScale) -> None:
        """Have one that fits ready under its name, in place of another one of that name. Raises `PorticoError`.

        A call whose ``adapter`` fits and is not there yet attaches it by itself.
        """

    async def detach(self, name: str) -> bool:
        """Forget it; whether it is gone, or the process must be restarted for that."""
