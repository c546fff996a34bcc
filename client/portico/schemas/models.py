"""Names that can be called at ``/v1``, and the responses of models."""

from __future__ import annotations

import base64
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from portico._read import read, read_object
from portico.schemas import json_at
from portico.schemas.deployments import BetterModel, Plan
from portico.schemas.resource import Column, Resource, Verb
from portico.wire import Usage


@dataclass(frozen=True, slots=True)
class Model:
    """A name that can be called at ``/v1``: a model, an alias or a chat app.

    ``context_length``: maximum number of tokens of a call, including its answer. ``max_output_tokens``: that of an
    answer. ``modalities``: the kinds of content of ``input`` and ``output``. ``tools``: calls functions of a request.
    ``reasoning``: a request can set how much the model reasons. ``None`` means unknown.
    """

    id: str
    owned_by: str = ""
    created: int = 0
    capabilities: tuple[str, ...] = ()
    context_length: int | None = None
    max_output_tokens: int | None = None
    modalities: Mapping[str, Any] = field(default_factory=dict)
    tools: bool = False
    reasoning: bool | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of a text. ``max_model_len``: maximum number of tokens per call. ``texts``: the text of each token,
    included on request.
    """

    count: int
    tokens: tuple[int, ...]
    max_model_len: int | None = None
    texts: tuple[str, ...] | None = field(default=None, metadata=json_at("token_strs"))


@dataclass(frozen=True, slots=True)
class StoredChat:
    """A stored chat completion; ``text`` is the text of its first choice. ``raw`` contains every field that the daemon
    sent.
    """

    id: str
    model: str
    created: float = 0
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, metadata=json_at(""))

    @property
    def text(self) -> str:
        """The text of the answer."""
        choices = self.raw.get("choices") or [{}]
        return str((choices[0].get("message") or {}).get("content") or "")


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector per text, in order."""

    data: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage = Usage()

    @classmethod
    def from_json(cls, value: Any) -> Embeddings:
        """Parse vectors from base64 (little-endian float32) or from lists of numbers."""
        rows = read(list[dict[str, Any]], value)
        vectors = tuple(_vector(row["embedding"]) for row in sorted(rows, key=lambda row: int(row["index"])))
        return read_object(cls, value, data=vectors)


@dataclass(frozen=True, slots=True)
class RankedText:
    """The rank of a document. ``index`` is the document's position in the request; ``relevance_score`` is in [0, 1]."""

    index: int
    relevance_score: float


def _vector(value: str | list[float]) -> tuple[float, ...]:
    if isinstance(value, str):
        raw = base64.b64decode(value)
        return struct.unpack(f"<{len(raw) // 4}f", raw)
    return tuple(value)


CHATS = Resource(
    "Chats",
    "/v1/chat",
    "Chat completions that were requested with ``store`` in ``extra_body``.",
    {"chat_id": "a chat"},
    (
        Verb("get", "GET completions/{chat_id}", StoredChat),
        Verb("change", "POST completions/{chat_id}", StoredChat),
        Verb("remove", "DELETE completions/{chat_id}"),
    ),
    columns=(
        Column("ID"),
        Column("MODEL"),
        Column("ANSWER", "text", width=60),
        Column("MADE", "created", kind="moment"),
    ),
)


MODELS = Resource(
    "Models",
    "/api/models",
    "Names that can be called at ``/v1``, and the sources of models.",
    {"name": "an alias"},
    (
        Verb("list", "GET /v1/models", list[Model]),
        Verb("pull", "POST pull", str, key="run"),
        Verb("plan", "POST plan", Plan, positional=("hardware", "parameters")),
        Verb("better", "GET better", BetterModel, slow=True),
        Verb("alias", "PUT /api/aliases/{name}"),
    ),
)
