"""Chunkers, chunks and groups of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.resource import Column, Resource, Verb
from portico.wire import Place


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """A group with its progress. ``waiting`` files of the store are not in it yet; ``errors`` explains for files why
    they cannot be added, as (name, message).
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
    """A chunker: sizes in columns (a CJK character counts as two); ``formats`` are file suffixes for which it is
    ``auto``.
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
    """A chunk of a file: ``chunk`` is its number in searches, ``number`` its number in its file and group, from 0."""

    chunk: int
    number: int
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Cut:
    """The result of a strategy for a document: its first chunks, their number, and their lengths in characters."""

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
