"""Chunkers, chunks and groups of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.resource import Column, Resource, Verb
from portico.wire import Place


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """A chunk group of a store and its progress. ``waiting``: number of files in the store that are not in the group
    yet. ``errors``: files that cannot be added, as (name, message).
    """

    name: str
    parent: str
    chunking: Mapping[str, Any]
    embedding_model: str
    completed: int
    failed: int
    waiting: int
    chunks: int
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Chunker:
    """A chunker. Sizes are in columns (a CJK character counts as two). ``formats``: the file suffixes for which
    ``auto`` uses this chunker.
    """

    name: str
    description: str
    size: int
    overlap: int
    formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk and its position."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class FileChunk:
    """A chunk of a file. ``chunk`` is its number in search results, ``number`` its number within its file and group,
    from 0.
    """

    chunk: int
    number: int
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Cut:
    """The result of splitting a document with one strategy: the first chunks, and the number and lengths (in
    characters) of all chunks.
    """

    strategy: Mapping[str, Any]
    total: int
    shortest: int
    longest: int
    chunks: tuple[Chunk, ...]


CHUNKERS = Resource(
    "Chunkers",
    "/api/chunkers",
    "Strategies for splitting documents into chunks.",
    {},
    (Verb("list", "GET", list[Chunker]),),
    columns=(
        Column("NAME"),
        Column("SIZE"),
        Column("OVERLAP"),
        Column("WHAT IT DOES", "description"),
        Column("USUAL FOR", "formats"),
    ),
)
