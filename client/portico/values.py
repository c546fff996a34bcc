"""What the daemon answers, as frozen values. Moments are seconds since 1970."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from portico.wire import ErrorBody, Event, Passage, Place, Usage

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list. ``last_id`` is the ``after`` of the next page if ``has_more``."""

    data: tuple[T, ...]
    has_more: bool = False
    last_id: str | None = None

    def __iter__(self) -> Iterator[T]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


@dataclass(frozen=True, slots=True)
class Model:
    """A name that answers at ``/v1``: a model, an alias or a chat app."""

    id: str
    owned_by: str = ""
    created: int = 0


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of a model that has several."""

    source: str
    engine: str
    state: str
    pid: int | None = None
    memory_bytes: int | None = None
    error: str | None = None
    calls: int = 0
    starts: int = 0
    crashes: int = 0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model on an engine. ``state`` is ``cold``, ``downloading``, ``loading``, ``ready`` or ``failed``."""

    name: str
    source: str
    engine: str
    task: str
    state: str
    pid: int | None = None
    memory_bytes: int | None = None
    error: str | None = None
    aliases: tuple[str, ...] = ()
    loaded_at: float | None = None
    last_used_at: float | None = None
    context_length: int | None = None
    dimensions: int | None = None
    description: str = ""
    pin: bool = False
    keep_alive: float | None = None
    calls: int = 0
    starts: int = 0
    crashes: int = 0
    replicas: tuple[Replica, ...] = ()
    gpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model would run on a machine, and why. ``estimate`` is bytes by purpose; if it does not fit, ``nearest``
    says what would.
    """

    model: str
    hardware: str
    engine: str
    fits: bool
    parameters: Mapping[str, Any] = field(default_factory=dict)
    estimate: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    nearest: str = ""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A small set of weights on top of the model ``base``, and a model name of its own.

    ``state``: ``cold`` until the base is loaded, ``ready``, ``failed`` if the base runs without it, ``orphaned`` if
    there is no base any more. ``kind``: ``peft`` or ``gguf``.
    """

    name: str
    base: str
    kind: str = ""
    scale: float = 1.0
    state: str = ""
    engine: str | None = None
    rank: int | None = None
    alpha: float | None = None
    targets: tuple[str, ...] = ()
    trained_on: str = ""
    bytes: int = 0
    sha256: str = ""
    configured: bool = False
    created_at: float = 0


@dataclass(frozen=True, slots=True)
class Tokens:
    """A text as a model reads it. ``max_model_len``: tokens that one call may have; ``texts`` if asked for."""

    count: int
    tokens: tuple[int, ...]
    max_model_len: int | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Engine:
    """What runs models. ``state`` is ``built in``, ``absent``, ``building``, ``ready``, ``outdated`` or ``broken``."""

    name: str
    state: str
    version: str = ""
    python: str = ""
    packages: int = 0
    gigabytes: float = 0
    path: str = ""
    built_at: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    check: str
    ok: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A better open model for the daemon's machine. ``raw`` holds every field the daemon sent."""

    name: str
    source: str
    size_gb: float | None = None
    reason: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileCounts:
    """How many files of a store are in which state."""

    in_progress: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """A knowledge base. ``folder`` is the one it follows, if any, ``source`` an address, several, or a bucket that it
    follows instead; ``app``: whether it is a chat app.

    ``next_embedding_model``: the one whose vectors are being made; ``paused``: nothing is followed now.
    """

    id: str
    name: str
    description: str = ""
    folder: str | None = None
    source: str | tuple[str, ...] | None = None
    app: bool = False
    embedding_model: str | None = None
    next_embedding_model: str | None = None
    paused: bool = False
    file_counts: FileCounts = FileCounts()
    usage_bytes: int = 0
    created_at: float = 0

    @property
    def follows(self) -> str | None:
        """What it mirrors, in a few words; ``None`` if its files are uploaded."""
        if self.source is None or isinstance(self.source, str):
            return self.source or self.folder
        return f"{self.source[0]} and {len(self.source) - 1} more" if self.source[1:] else self.source[0]


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """The files of a store cut in one way. ``parent`` is the group in whose chunks these lie.

    ``completed`` files are in it, ``failed`` ones cannot be, ``waiting`` ones are not yet.
    """

    name: str
    parent: str = ""
    chunking: Mapping[str, Any] = field(default_factory=dict)
    embedding_model: str = ""
    completed: int = 0
    failed: int = 0
    waiting: int = 0
    chunks: int = 0
    errors: tuple[tuple[str, str], ...] = ()
    """Of the failed files the first hundred of the store: (name, why)."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync of a store with its folder would do, in names of files; ``moved`` as (from, to)."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    moved: tuple[tuple[str, str], ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file in a store. ``error`` is the sentence that says why it could not be read, if so."""

    id: str
    filename: str
    status: str
    bytes: int = 0
    usage_bytes: int = 0
    error: str | None = None
    created_at: float = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunker:
    """A way to cut documents. Sizes in columns; ``formats`` are the ends of file names that get it by themselves."""

    name: str
    description: str = ""
    size: int = 0
    overlap: int = 0
    formats: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, and where it stands."""

    text: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class Cut:
    """What one strategy makes of a document: its first chunks, how many there are, their lengths in characters."""

    strategy: Mapping[str, Any]
    chunks: tuple[Chunk, ...] = ()
    total: int = 0
    shortest: int = 0
    longest: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """An uploaded file."""

    id: str
    filename: str
    bytes: int
    purpose: str = ""
    created_at: float = 0
    status: str = "processed"


@dataclass(frozen=True, slots=True)
class Run:
    """One execution. ``status`` is ``queued``, ``running``, ``waiting``, ``completed``, ``failed`` or ``cancelled``."""

    id: str
    kind: str
    name: str
    status: str
    created_at: float = 0
    finished_at: float | None = None
    error: ErrorBody | None = None
    usage: Usage = Usage()
    last_event: int = 0

    @property
    def ended(self) -> bool:
        return self.status in ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Pruned:
    """How much old age took away, or would: ended runs and their questions, artifacts, expired files, usage."""

    runs: int
    questions: int
    artifacts: int
    files: int
    usage: int
    dry_run: bool = False
    sessions: int = 0


@dataclass(frozen=True, slots=True)
class RunEvent:
    """An event and its number in the run, from 1."""

    seq: int
    event: Event


@dataclass(frozen=True, slots=True)
class Key:
    """A key without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...] = ()
    created_at: float = 0
    hint: str = ""
    last_used_at: float | None = None
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NewKey(Key):
    """A key with its secret, which the daemon tells once."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class App:
    """Something that answers a conversation. ``kind`` is ``store``, ``flow`` or ``agent``; ``version`` is 0 for one
    that was not deployed; ``limits`` hold whoever calls it.
    """

    name: str
    title: str = ""
    description: str = ""
    kind: str = "store"
    version: int = 0
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    limits: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a model may call. ``input_schema`` is a JSON schema; ``source`` says where the tool comes from,
    ``group`` what it is found under, ``cost`` what a call costs in US dollars.
    """

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    read_only: bool = False
    destructive: bool = False
    source: str = ""
    needs_approval: bool = False
    group: str = ""
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """What a run waits for. ``kind``: approval, function or input; ``status``: pending, answered, expired, cancelled.

    ``answer_schema`` is the JSON schema of a ``value``. ``accepted``, ``value``, ``note`` and ``answered_by`` are the
    answer; ``worker`` is the client that executes a function.
    """

    id: str
    run: str
    kind: str
    name: str
    message: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    answer_schema: Mapping[str, Any] | None = None
    status: str = "pending"
    created_at: float = 0
    expires_at: float = 0
    accepted: bool | None = None
    value: Any = None
    note: str = ""
    answered_by: str = ""
    answered_at: float | None = None
    worker: str = ""


@dataclass(frozen=True, slots=True)
class Claims:
    """Functions that a worker has taken; ``lost`` are ids of those it held that another one has now."""

    taken: tuple[Question, ...] = ()
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolSource:
    """A tool that was added, or an API that gives many. ``kind``: command, function, openapi or database."""

    name: str
    kind: str = ""
    what: str = ""
    state: str = ""
    error: str | None = None
    tools: tuple[str, ...] = ()
    configured: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made: a figure, a table. ``run`` and ``created_at`` are told by `Artifacts` alone."""

    id: str
    name: str
    media_type: str = "application/octet-stream"
    bytes: int = 0
    link: str = ""
    run: str = ""
    created_at: float = 0


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered: text, the same as JSON where there is a structure, and files that it made."""

    text: str
    structured: Any = None
    is_error: bool = False
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of a prompt: its arguments, its messages, its examples, each as a JSON object.

    ``origin`` is where it was imported from, empty if it was written in the daemon.
    """

    name: str
    version: int = 1
    title: str = ""
    description: str = ""
    arguments: tuple[Mapping[str, Any], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    examples: tuple[Mapping[str, str], ...] = ()
    origin: str = ""
    created_at: float = 0


@dataclass(frozen=True, slots=True)
class ImportedPrompts:
    """What an import of prompts did, or would do, by name."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class McpServer:
    """An MCP server of somebody else. ``state``: starting, ready, waiting (to be tried again) or stopped.

    ``env`` and ``headers`` are names: their values stay with the daemon. ``tools`` are names here.
    """

    name: str
    command: tuple[str, ...] = ()
    url: str = ""
    env: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    state: str = "stopped"
    error: str | None = None
    tools: tuple[str, ...] = ()
    restarts: int = 0
    configured: bool = False


@dataclass(frozen=True, slots=True)
class TraceStage:
    """One stage of a search: its name, milliseconds, candidates in order as (chunk, score)."""

    name: str
    milliseconds: float
    candidates: tuple[tuple[int, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """Passages in rank order; ``trace`` if it was asked for."""

    passages: tuple[Passage, ...]
    trace: tuple[TraceStage, ...] = ()


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order."""

    data: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer: the text and the passages it stands on."""

    text: str
    passages: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    run: str | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the daemon and where its value came from."""

    name: str
    value: Any
    origin: str
    doc: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The daemon at a glance. ``startup`` lists the runs that its start began."""

    version: str
    home: str
    url: str
    started_at: float = 0
    startup: tuple[str, ...] = ()
    models: tuple[Deployment, ...] = ()
    stores: tuple[Store, ...] = ()
    apps: tuple[str, ...] = ()
    recommended: Recommendation | None = None


Ranker = Literal["auto", "lexical", "vector", "hybrid", "rrf"]


@dataclass(frozen=True, slots=True)
class AppVersion:
    """One version of a deployed app; ``current``: the one that answers. Times in seconds since 1970.

    ``warnings``: what it still needs, such as functions that must be served; told when it is deployed.
    """

    name: str
    version: int
    digest: str
    note: str
    created_by: str
    created_at: float
    current: bool
    spec: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one thing of a configuration: ``action`` is ``create``, ``change``, ``remove`` or ``unchanged``;
    ``detail`` names the fields that differ.
    """

    kind: str
    name: str
    action: str
    detail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done about a configuration, in order; with ``dry_run`` what would be. ``ignored``: keys of it that a
    running daemon does not take.
    """

    changes: tuple[Change, ...]
    dry_run: bool = False
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedFlow:
    """Whether a flow can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class TraceStep:
    """A finished step of a run. ``hit``: its output came out of the step cache."""

    path: str
    kind: str
    status: str
    attempt: int
    started_at: float
    milliseconds: float
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    hit: bool
    input: Any = None
    output: Any = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One conversation with ``app``. ``name`` is what its owner calls it; times in seconds since 1970."""

    id: str
    app: str
    name: str
    title: str
    created_at: float
    updated_at: float
    metadata: Mapping[str, Any] = field(default_factory=dict)
    owner: str = ""


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message in the memory of one agent; ``agent`` is its path in the tree, empty for the root.

    ``message`` has ``sender``, ``content`` and the other fields of `portico.agent.Message`; ``run`` said it.
    """

    seq: int
    agent: str
    message: Mapping[str, Any]
    run: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedAgent:
    """Whether an agent can run; ``error`` is the first thing that is wrong, in OpenAI's shape."""

    ok: bool
    name: str = ""
    error: Mapping[str, Any] | None = None
