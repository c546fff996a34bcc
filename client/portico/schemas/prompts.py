"""Prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class Prompt:
    """A version of a prompt. Its arguments, messages, examples and test cases are JSON objects.

    ``origin`` is the source from which the prompt was imported, or empty if it was written in the daemon. ``id``,
    ``shared`` and ``owner`` have the same meaning as in an `App`.
    """

    name: str
    version: int = 1
    title: str = ""
    description: str = ""
    arguments: tuple[Mapping[str, Any], ...] = ()
    messages: tuple[Mapping[str, str], ...] = ()
    examples: tuple[Mapping[str, str], ...] = ()
    cases: tuple[Mapping[str, Any], ...] = ()
    origin: str = ""
    created_at: float = 0
    id: str = ""
    shared: bool = True
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class ExportedPrompt:
    """A prompt as a file: the file's name and text."""

    filename: str
    text: str


@dataclass(frozen=True, slots=True)
class ImportedPrompts:
    """The names of the prompts in an import, grouped by result."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


PROMPTS = Resource(
    "Prompts",
    "/api/prompts",
    "The prompt library, with versioned prompts and typed arguments.",
    {},
    (
        Verb("list", "GET", list[Prompt], aliases={"everyone": "all"}),
        Verb("load", "POST import", ImportedPrompts, slow=True, positional=("files",)),
    ),
    columns=(
        Column("NAME"),
        Column("VERSION"),
        Column("TAKES", "arguments", kind="names"),
        Column("DESCRIPTION", width=80),
    ),
)
