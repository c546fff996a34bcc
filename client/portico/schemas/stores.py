"""Stores: knowledge bases and their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from portico._read import Page
from portico.schemas import added_later, json_at
from portico.schemas.chunks import ChunkGroup, FileChunk
from portico.schemas.resource import Column, Resource, Verb
from portico.schemas.store_guards import GuardQuestion, StoreReview
from portico.wire import Passage, Place


@dataclass(frozen=True, slots=True)
class FileCounts:
    """The number of files in each state."""

    in_progress: int
    completed: int
    failed: int
    cancelled: int
    total: int


@dataclass(frozen=True, slots=True)
class Store:
    """A store. ``name`` is the store's name, or its id if the name is already in use. Times are in seconds since
    1970.
    """

    id: str
    name: str
    description: str
    folder: str | None
    source: str | tuple[str, ...] | None
    """What the store follows other than a folder: URLs, a bucket, a repository, a WebDAV folder or a mail folder."""
    keep_removed: bool
    """True if the store keeps files that no longer exist in the followed source."""
    search: Mapping[str, Any]
    """Search settings of the store's app; see ``StoreRequest``."""
    paused: bool
    """True if changes in the followed source are ignored until the store is resumed."""
    app: bool
    answers: str
    """How the store's app answers: ``write``, ``quote``, or ``auto``, which lets the test of the app's model decide."""
    embedding_model: str
    next_embedding_model: str | None
    """The embedding model whose vectors are being created, if any."""
    vector_weight: float | None
    """The measured weight of vectors relative to words. Null means the weight in the embedding model's profile."""
    guard: str = field(metadata=added_later("off"))
    """What happens to changes that turn answers of guard questions wrong: ``hold``, ``warn`` or ``off``."""
    has_review: bool
    """True while changed files wait for their check or for a decision. Searches leave the new files out."""
    links: bool
    """True if the store's passages are linked by the names that they mention, and searches follow these links."""
    index: str = field(metadata=added_later("embedded"))
    """Where the store's vectors are searched: ``embedded`` in the daemon's memory, ``qdrant`` in its files, or
    ``pgvector`` in PostgreSQL.
    """
    next_index: str | None
    """The index to which the vectors are moving, if any."""
    rights: str | Mapping[str, tuple[str, ...] | Mapping[str, tuple[str, ...]]] | None
    """Who may read the mirrored files; see ``StoreRequest``. Null if all readers of the store may."""
    file_counts: FileCounts
    problem: str | None
    """Why files could not be indexed: the error of one of the files, or of the embedding model."""
    skipped: Mapping[str, int]
    """Number of files and folders that the last sync skipped, keyed by the reason. Hidden files are not counted."""
    usage_bytes: int
    created_at: float

    @property
    def follows(self) -> str | None:
        """A short description of the followed source; ``None`` if its files are uploaded."""
        if self.source is None or isinstance(self.source, str):
            return self.source or self.folder
        return f"{self.source[0]} and {len(self.source) - 1} more" if self.source[1:] else self.source[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreChanged(Store):
    """The new state of a store. ``run`` creates vectors with another model (the old vectors are used until the run
    ends), moves the vectors to another index, or creates or removes links.
    """

    run: str | None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or folder that a sync has skipped: its name in the followed source, and the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedFiles:
    """Files that the last sync of a store skipped: ``files`` lists the first thousand, ``reasons`` counts all.

    ``looked_at`` is in seconds since 1970; ``None`` before the first sync. Hidden files are not counted.
    """

    files: tuple[SkippedFile, ...] = field(default=(), metadata=json_at("data"))
    reasons: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    looked_at: float | None = None


@dataclass(frozen=True, slots=True)
class LinkedPassage:
    """A passage that mentions the same ``term`` as the requested passage. ``chunk`` is the passage's number; ``kind``
    is the kind of the term: ``name``, ``code``, ``reference`` or ``file``.
    """

    chunk: int
    term: str
    kind: str
    text: str
    file_id: str
    filename: str
    place: Place


@dataclass(frozen=True, slots=True)
class SourceRule:
    """What a source states now for a file or a folder, or for names with a prefix: who may read it. ``*`` means
    everybody. ``names`` are the users and groups of the source, if the store maps them to ``groups``.
    """

    place: str
    groups: tuple[str, ...]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileAccess:
    """Whether a caller may read a file of a store, and which ``rule`` decides: ``admin``, ``owner``, ``scope``,
    ``filter`` or ``source``. ``readers`` are the sets of groups that the last sync read; the caller needs a group of
    each set. ``source`` is what the source states now.
    """

    filename: str
    caller: str
    permitted: bool
    rule: str
    reason: str
    groups: tuple[str, ...]
    readers: tuple[tuple[str, ...], ...] | None
    source: tuple[SourceRule, ...]


@dataclass(frozen=True, slots=True)
class LinkedPassages:
    """Passages linked to the passage ``chunk``. Passages that share the rarest terms are first."""

    chunk: int
    passages: tuple[LinkedPassage, ...] = field(default=(), metadata=json_at("data"))
    has_more: bool = False


@dataclass(frozen=True, slots=True)
class Theme:
    """Passages on one subject. ``words`` are the words that distinguish them, and ``example`` is the most typical
    passage.
    """

    words: tuple[str, ...]
    passage_count: int
    file_count: int
    example: Passage


@dataclass(frozen=True, slots=True)
class MentionedName:
    """A name that passages mention. ``kind`` is ``person``, ``place``, ``organisation``, ``code``, or ``name`` if the
    kind is unknown.
    """

    name: str
    kind: str
    passage_count: int
    example: Passage


@dataclass(frozen=True, slots=True)
class NamePair:
    """Two names that the same passages mention."""

    names: tuple[str, str]
    passage_count: int


@dataclass(frozen=True, slots=True)
class StoreThemes:
    """What a store is about: its themes, the largest first, and the names and pairs of names that it mentions most
    often. All are counted in ``examined_count`` of its ``passage_count`` passages.
    """

    themes: tuple[Theme, ...] = ()
    names: tuple[MentionedName, ...] = ()
    pairs: tuple[NamePair, ...] = ()
    examined_count: int = 0
    passage_count: int = 0


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """The changes that a sync would make, as lists of file names. ``moved`` contains pairs (from, to)."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    moved: tuple[tuple[str, str], ...]
    removed: tuple[str, ...]
    unchanged: int
    skipped: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoreFile:
    """A file in a store. ``error`` says why the file could not be indexed. Times are in seconds since 1970."""

    id: str = field(metadata=json_at("file_id", "id"))
    filename: str = field(metadata=json_at("filename", "id"))
    bytes: int
    status: Literal["in_progress", "completed", "failed", "cancelled"]
    error: str | None = field(metadata=json_at("error", "last_error.message"))
    usage_bytes: int
    attributes: Mapping[str, str | float | bool]
    created_at: float


@dataclass(frozen=True, slots=True)
class FileText:
    """A part of the text that was read from a file."""

    text: str


STORES = Resource(
    "Stores",
    "/api/stores",
    "Knowledge bases.",
    {
        "name": "a store",
        "group": "a group",
        "file_id": "a file",
        "store_id": "a store",
        "question_id": "a question",
    },
    (
        Verb("list", "GET", list[Store]),
        Verb("get", "GET {name}", Store),
        Verb("add", "POST", Store),
        Verb("change", "PATCH {name}", Store),
        Verb("remove", "DELETE {name}"),
        Verb("sync", "POST {name}/sync", str, key="run"),
        Verb("reindex", "POST {name}/reindex", str, key="run"),
        Verb("plan", "GET {name}/sync/plan", SyncPlan, slow=True),
        Verb("skipped", "GET {name}/skipped", SkippedFiles),
        Verb("neighbours", "GET {name}/links", LinkedPassages),
        Verb("themes", "GET {name}/themes", StoreThemes, slow=True),
        Verb("groups", "GET {name}/groups", list[ChunkGroup]),
        Verb(
            "add_group",
            "POST {name}/groups",
            str,
            key="run",
            aliases={"group": "name", "chunking": "chunking_strategy"},
        ),
        Verb("remove_group", "DELETE {name}/groups/{group}", slow=True),
        Verb("guards", "GET {name}/guards", list[GuardQuestion]),
        Verb("add_guards", "POST {name}/guards", list[GuardQuestion], slow=True),
        Verb("remove_guard", "DELETE {name}/guards/{question_id}"),
        Verb("review", "GET {name}/review", StoreReview),
        Verb("accept_change", "POST {name}/review/accept", StoreReview),
        Verb("reject_change", "POST {name}/review/reject", StoreReview),
        Verb("retry_groups", "POST {name}/groups/retry", list[str], key="runs"),
        Verb("files", "GET {name}/files", Page[StoreFile]),
        Verb("chunks", "GET {name}/files/{file_id}/chunks", Page[FileChunk]),
        Verb("text", "GET /v1/vector_stores/{store_id}/files/{file_id}/content", list[FileText], slow=True),
        Verb("access", "GET {name}/files/{file_id}/access", FileAccess),
        Verb("page", "POST {name}/files/{file_id}/page", bytes, slow=True, positional=("passage",)),
        Verb("attach", "POST /v1/vector_stores/{store_id}/files", StoreFile),
        Verb("detach", "DELETE /v1/vector_stores/{store_id}/files/{file_id}"),
    ),
    columns=(
        Column("NAME"),
        Column("FILES", "file_counts.completed"),
        Column("WAITING", "file_counts.in_progress"),
        Column("FAILED", "file_counts.failed"),
        Column("SIZE", "usage_bytes", kind="bytes"),
        Column("APP"),
        Column("FOLLOWS"),
    ),
)
