"""Chunkers, chunks and groups of chunks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.resource import Column, Resource, Verb
from portico.wire import Place


@dataclass(frozen=True, slots=True)
class ChunkGroup:
    """A group with how far it is. ``waiting`` files of the store are not in it yet; ``errors`` says of files why they
    cannot be in it, as (name, sentence).
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
    """A chunker: sizes in columns (a CJK character takes two); ``formats`` are the ends of names it is ``auto`` for."""

    name: str
    description: str
    size: int
    overlap: int
    formats: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk and where it stands."""

    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class FileChunk:
    """A piece of a file: ``chunk`` is its number in searches, ``number`` the one in its file and group, from 0."""

    chunk: int
    number: int
    text: str
    place: Place


@dataclass(frozen=True, slots=True)
class Cut:
    """What one strategy makes of the document: its first chunks, how many there are, their lengths in characters."""

    strategy: Mapping[str, Any]
    total: int
    shortest: int
    longest: int
    chunks: tuple[Chunk, ...]


CHUNKERS = Resource(
    "Chunkers",
    "/api/chunkers",
    "Ways to cut documents.",
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
