"""Stores: knowledge bases and their files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.schemas import json_at
from portico.wire import Place


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

    ``next_embedding_model``: the one whose vectors are being made; ``paused``: nothing is followed now; ``problem``:
    why files could not be indexed, in the words of one of them;
    ``skipped``: how many files and folders of what it follows are not read, by reason; ``answers``: how its app does
    (``write``, ``quote``, or ``auto`` for what its model is trusted with); ``vector_weight``: what its vectors were
    measured to be worth beside the words, from 0 to 1; ``links``: whether its passages are linked by what they name;
    ``keep_removed``: whether files stay that are gone from what it follows; ``search``: how its app searches.
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
    problem: str | None = None
    usage_bytes: int = 0
    created_at: float = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    answers: str = "auto"
    vector_weight: float | None = None
    links: bool = False
    keep_removed: bool = False
    search: Mapping[str, Any] = field(default_factory=dict)

    @property
    def follows(self) -> str | None:
        """What it mirrors, in a few words; ``None`` if its files are uploaded."""
        if self.source is None or isinstance(self.source, str):
            return self.source or self.folder
        return f"{self.source[0]} and {len(self.source) - 1} more" if self.source[1:] else self.source[0]


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file or a folder that is not read, by its name in what its store follows, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class SkippedFiles:
    """What the last look at what a store follows left out: ``files`` names the first thousand, ``reasons`` counts all.

    ``looked_at`` in seconds since 1970; ``None`` before the first look. Hidden files are not counted.
    """

    files: tuple[SkippedFile, ...] = field(default=(), metadata=json_at("data"))
    reasons: Mapping[str, int] = field(default_factory=dict)
    total: int = 0
    looked_at: float | None = None


@dataclass(frozen=True, slots=True)
class LinkedPassage:
    """A passage, by its ``chunk``, that names ``term`` as another one does; ``kind``: ``name``, ``code``, ``reference``
    (a numbered part of the same file) or ``file``.
    """

    chunk: int
    term: str
    kind: str
    text: str
    file_id: str
    filename: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class LinkedPassages:
    """Neighbours of the passage ``chunk``, those by the rarest terms first."""

    chunk: int
    passages: tuple[LinkedPassage, ...] = field(default=(), metadata=json_at("data"))
    has_more: bool = False


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

    # Or OpenAI's ``vector_store.file``, which has no name, and ``last_error: {code, message}``.
    id: str = field(metadata=json_at("file_id", "id"))
    filename: str = field(metadata=json_at("filename", "id"))
    status: str
    bytes: int = 0
    usage_bytes: int = 0
    error: str | None = field(default=None, metadata=json_at("error", "last_error.message"))
    created_at: float = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)
