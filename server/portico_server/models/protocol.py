"""The interface of an engine, which turns a model's spec into a client that answers OpenAI requests.

The deployment around an engine knows only this interface. To add an engine, create a folder with an `engine.py` that
contains a class with these methods, and add one line in `portico_server.models.catalog`; or write a plugin
(docs/plugins.md).
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
"""Default share of a machine's memory that all models can use together."""

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
"""Format of an adapter: ``weights`` are low-rank matrices in PEFT's or llama.cpp's format; ``script`` is answers
in YAML.
"""


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """The known facts about a model; ``None`` means unknown.

    - ``context_length`` is in tokens for one call; ``parameters`` is the number of the model's parameters.
    - ``vision`` is whether it accepts images in a chat; ``files`` whether it accepts files in a chat unchanged.
    - ``spans`` is whether it returns vectors of parts of a text (see `Embed`).
    - ``messages`` is whether it accepts a request of Anthropic's Messages API in its original form.
    - ``edits`` is whether an image model can also edit images; ``voices`` are the voices of a speech model, the
      default
      first.
    - ``words`` is whether its vectors are made from vectors of single words, so that hundreds of texts cost almost
      nothing.
    - ``answers`` is ``write`` for a chat model that may answer from passages without a self-test.
    - ``long_prompts`` is whether it reads thousands of tokens without a noticeable wait, as on a GPU or at a provider.
    - ``thoughts`` is whether its template supports earlier reasoning, and a setting for the amount of reasoning.
    - ``hosted`` is whether it runs at a provider, so that its calls use no resources of this machine.
    - ``description`` is the model's own description; ``labels`` are further facts.
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
    """The client of one running engine."""

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """Relay OpenAI JSON and return OpenAI bytes, as `portico_server.core.relay.RelayResponse` specifies.

        Returns once the first byte is known; raises `PorticoError` before that. A later error is yielded as a frame
        ``data: {"error": …}`` and then raised. ``deadline`` is a time on the event loop's clock.
        """


class Tokenizer(Protocol):
    """A converter between text and a model's tokens. Both methods raise `PorticoError`."""

    async def tokenize(self, request: Tokenize, deadline: float | None) -> TokenizedText: ...

    async def detokenize(self, request: Detokenize, deadline: float | None) -> Detokenized: ...


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """A running model: its client, its description, its process if it is local, and its tokenizer if known.

    ``remembers`` means that the engine keeps state between requests, so that it must know the owner of each request.
    """

    client: EngineClient
    description: ModelDescription
    process: ServerProcess | None = None
    tokenizer: Tokenizer | None = None
    remembers: bool = False


@dataclass(frozen=True, slots=True)
class LaunchContext:
    """The resources with which an engine starts a model.

    They include the log file, a timeout in seconds, connections, the folder of environments, and the adapters. The
    engine logs and skips an adapter that it cannot use, because the model itself must start.
    """

    log: Path
    load_timeout: float
    transport: EngineTransport
    environments: Path
    adapters: tuple[AdapterScale, ...] = ()
    report: Callable[[str, int | None], None] | None = None
    """Callback for the progress of the start: a stage, and its percentage if known."""
    described: Callable[[ModelDescription], None] | None = None
    """Callback for changes of the model's description while it runs."""
    gpus: tuple[int, ...] = ()
    """The numbers of the GPUs that the model can use; empty if GPUs are not managed."""
    prompts: Path | None = None
    """The folder for prompts that are kept after their process ends; ``None`` if prompts are not kept."""
    prompts_bytes: int = 0
    """Maximum size of the ``prompts`` folder for all models, in bytes."""
    launcher: Launcher = LOCAL
    """The launcher that starts the model's process."""
    resources: Resources = Resources()
    """The resources that the launcher requests from a scheduler."""
    waits: Callable[[str], None] | None = None
    """Callback for the scheduler's reason why the process is not running yet."""
    replace_s: float = 300.0
    """Seconds before the end of a job's time limit at which the job's process is replaced."""

    def machine(self) -> Hardware:
        """Return the hardware for the model's process: this machine, or the resources requested from a scheduler.
        Blocks.

        On other machines the GPUs are unknown until the process runs, so the plan does not use them.
        """
        # Imported in the function, so that importing this module does not load psutil.
        from portico_server.models.hardware import Hardware, this_machine

        hardware = this_machine()
        if self.launcher.here:
            return hardware
        return Hardware(
            self.resources.cpus or 1, self.resources.memory_mb * MB_BYTES or hardware.memory_bytes
        )

    furnish: Callable[[str, Callable[[Progressed], None]], Awaitable[None]] | None = None
    """Callback that builds the environment of the named engine if it does not exist yet, and reports the progress."""


@runtime_checkable
class Engine(Protocol):
    """One kind of engine; it is stateless."""

    @property
    def name(self) -> str: ...

    @property
    def fetches(self) -> bool:
        """Return whether the model's source must be on this machine before `start`."""

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        """Describe the model before it runs, without network access. ``path`` is set if the model's files are on this
        machine.

        Raise `InvalidRequest` if this engine does not support the spec.
        """

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        """Start the model and wait until it responds.

        Raise `PorticoError`. On an error or cancellation, leave no process behind.
        """


class EngineOption(Protocol):
    """One parameter of an engine: the type of its value, and its purpose."""

    @property
    def kind(self) -> str: ...

    @property
    def doc(self) -> str: ...


@runtime_checkable
class NamesOptions(Protocol):
    """Optional, for an engine that can list its parameters without a model."""

    @property
    def options(self) -> Mapping[str, EngineOption]: ...


@runtime_checkable
class TellsTokens(Protocol):
    """Optional, for an engine whose running models can have a `Tokenizer`."""

    tells_tokens: bool


@runtime_checkable
class MeasuresMemory(Protocol):
    """Optional, for an engine whose processes use memory of this machine."""

    def memory(self, spec: ModelSpec, path: Path | None) -> int:
        """Return the estimated bytes of the model before it runs; 0 if unknown. Blocks."""


@runtime_checkable
class OccupiesGpus(Protocol):
    """Optional, for an engine whose processes use GPUs."""

    def occupies(self, spec: ModelSpec, path: Path | None) -> GpuShare:
        """Return the GPU share that the model needs; no share on a machine without GPUs. Blocks.

        Raise `InvalidRequest` for a model that cannot fit.
        """


@dataclass(frozen=True, slots=True)
class GpuTraits:
    """How an engine that serves safetensors uses GPUs, for plans. Compute capabilities are NVIDIA's.

    ``weights``: the capability that each kind of quantised weights needs beyond ``min_capability``. ``online``: how
    weights can be quantised while they load, and the resulting share of 16 bits. ``cache_parameter``: the parameter
    that makes the key-value cache smaller; ``cache_factors``: its values, the 8-bit value first, with their share of
    16 bits; ``cache_capability``: the capability that the first value needs.

    ``architectures``: the models for which the engine can be chosen; empty for all. ``frees_windows``: the engine
    frees tokens outside a sliding window. ``share_covers``: the meaning of the engine's ``memory_share``: ``all``
    memory that it uses, ``static`` for weights and cache only, or ``free`` for only the cache, as a share of the
    memory that the weights leave free. ``cpu_build``: builds of the engine without a GPU exist. ``spans_nodes``: one
    model can use the GPUs of several nodes, by the parameter ``pipeline_parallel``.
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
    spans_nodes: bool = False


@runtime_checkable
class PlansGpus(Engine, Protocol):
    """Optional, for an engine that serves folders of safetensors on GPUs. Plans consider the engine and can choose
    it.
    """

    @property
    def gpu_traits(self) -> GpuTraits: ...


@runtime_checkable
class TunesElsewhere(Protocol):
    """Optional, for an engine whose models are trained at a provider."""

    def tuner(self, spec: ModelSpec) -> HostedTuner | None:
        """Return the fine-tuning API of a model, or ``None`` if its provider has no known API."""


@runtime_checkable
class TriesAdapters(Protocol):
    """Optional, for an engine that loads `LaunchContext.adapters` when it starts. Its chat models can also be
    trained.
    """

    @property
    def adapter_format(self) -> AdapterFormat:
        """Return the adapter format that the engine accepts."""

    async def try_adapter(
        self, spec: ModelSpec, path: Path | None, adapter: AdapterScale, site: LaunchContext
    ) -> None:
        """Check, independently of running processes, whether the model can start with ``adapter``.

        Raise `InvalidRequest` that describes the problem.
        """


@runtime_checkable
class KeepsPrompts(Protocol):
    """Optional, for an `EngineClient` of an engine that can restore prompts that an earlier process read."""

    async def keep_prompts(self, deadline: float) -> None:
        """Save the prompts that no call uses, before the process ends. Raise `PorticoError`."""


@runtime_checkable
class AttachesAdapters(Protocol):
    """Optional, for an `EngineClient` of an engine that supports adapters."""

    def fits(self, adapter: AdapterScale) -> bool:
        """Return whether the running process can use the adapter. If it cannot, it must be restarted."""

    async def attach(self, adapter: AdapterScale) -> None:
        """Load an adapter that fits under its name, replacing any other adapter of that name. Raise `PorticoError`.

        If a call's ``adapter`` fits and is not loaded yet, the call attaches it automatically.
        """

    async def detach(self, name: str) -> bool:
        """Unload an adapter. Return whether it is unloaded; if not, only a restart of the process unloads it."""
