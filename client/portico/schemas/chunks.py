"""Chunkers, chunks and groups of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico.wire import Place


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
class Chunker:
    """A chunker: sizes in columns (a CJK character takes two); ``formats`` are the ends of names it is ``auto`` for."""

    name: str
    description: str
    size: int
    overlap: int
    formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, and where it stands."""

    text: str
    place: Place = Place()


@dataclass(frozen=True, slots=True)
class FileChunk:
    """A piece of a file of a store, and where it stands. ``chunk`` is its number in searches, ``number`` the one in its
    file, from 0.
    """

    chunk: int
    number: int
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
