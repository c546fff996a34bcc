"""What a Servable is asked, and what it answers: frozen values, one type per capability.

Field names are OpenAI's. Options that we do not read travel untouched in ``options``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from portico.wire import Passage, Usage

Message: TypeAlias = Mapping[str, Any]
"""A chat message as OpenAI defines it: ``role``, ``content`` and so on."""

Attributes: TypeAlias = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat completion. ``options`` holds every other OpenAI parameter (temperature, tools, stop …)."""

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to turn into vectors, in order."""

    input: tuple[str, ...]
    dimensions: int | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A comparison of one attribute, or several joined. Exactly one of ``key`` and ``filters`` is set."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: Any = None
    filters: tuple[Filter, ...] = ()


@dataclass(frozen=True, slots=True)
class Search:
    """A question to a store. ``score_threshold`` is in [0, 1] on the fused score."""

    query: str
    max_num_results: int = 10
    filters: Filter | None = None
    score_threshold: float = 0.0
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    trace: bool = False


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Arguments for a tool, already parsed from JSON."""

    arguments: Mapping[str, Any]


Request: TypeAlias = Chat | Embed | Search | ToolCall


@dataclass(frozen=True, slots=True)
class CalledTool:
    """A tool call that a model asks for; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to `Chat`: the text, the tools asked for, the passages it stands on."""

    content: str
    finish_reason: str = "stop"
    tool_calls: tuple[CalledTool, ...] = ()
    citations: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """The answer to `Embed`: one vector per text, each a little-endian float32 buffer of ``dimensions`` × 4 bytes."""

    data: tuple[bytes, ...]
    dimensions: int
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search: its name, how long it took, and its candidates in order as (chunk id, score)."""

    name: str
    milliseconds: float
    candidates: tuple[tuple[int, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to `Search`: passages in rank order; ``trace`` if it was asked for."""

    passages: tuple[Passage, ...]
    trace: tuple[Stage, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to `ToolCall`: text for a model to read, and the same as JSON where there is a structure."""

    text: str
    structured: Mapping[str, Any] | None = None
    is_error: bool = False


Result: TypeAlias = Reply | Vectors | Found | ToolResult


# --- the hot path ------------------------------------------------------------------------------------------------

Operation: TypeAlias = Literal["chat/completions", "completions", "embeddings"]


@dataclass(frozen=True, slots=True)
class Relay:
    """An OpenAI request on its way to an engine. ``body`` is the client's JSON object, unknown fields included."""

    operation: Operation
    body: dict[str, Any]

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


@dataclass(slots=True)
class Relayed:
    """An engine's answer in OpenAI's bytes. Errors before the first byte were raised instead of returned here.

    ``chunks`` yields complete SSE frames for a stream (``data: …\\n\\n``, the last one ``data: [DONE]``) and the
    JSON document otherwise. ``usage`` is filled when ``chunks`` is exhausted. Closing ``chunks`` early cancels the
    work behind it.
    """

    media_type: str
    chunks: AsyncIterator[bytes]
    usage: Usage = Usage()
