"""What the daemon answers, as frozen values. Moments are seconds since 1970."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from portico.wire import ErrorBody, Event, Passage, Usage

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
    """A knowledge base. ``folder`` is the one it follows, if any; ``app``: whether it is a chat app."""

    id: str
    name: str
    description: str = ""
    folder: str | None = None
    app: bool = False
    embedding_model: str | None = None
    file_counts: FileCounts = FileCounts()
    usage_bytes: int = 0
    created_at: float = 0


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
    """One execution. ``status`` is ``queued``, ``running``, ``completed``, ``failed`` or ``cancelled``."""

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


@dataclass(frozen=True, slots=True)
class NewKey(Key):
    """A key with its secret, which the daemon tells once."""

    key: str = ""


@dataclass(frozen=True, slots=True)
class App:
    """Something that answers a conversation."""

    name: str
    title: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Tool:
    """Something a model may call. ``input_schema`` is a JSON schema."""

    name: str
    description: str = ""
    input_schema: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool answered: text, and the same as JSON where there is a structure."""

    text: str
    structured: Any = None
    is_error: bool = False


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
