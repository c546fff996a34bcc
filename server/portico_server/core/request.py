"""The requests and results of a Servable: frozen values, one type per capability.

Field names are OpenAI's. Options that Portico does not read are passed on unchanged in ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from portico.schemas import tools
from portico.schemas.search import TraceStage
from portico.wire import AnswerClaim, Passage, Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.media import Draw, GeneratedImages, Speak, Speech, Transcribe, Transcription

Message: TypeAlias = Mapping[str, Any]
"""A chat message as OpenAI defines it: ``role``, ``content`` and so on."""

Attributes: TypeAlias = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat completion. ``options`` contains all other OpenAI parameters (temperature, tools, stop …)."""

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to turn into vectors, in order.

    ``spans`` lists, for each text, runs of characters from first to last. Then each run gets a vector, computed from
    its tokens in the context of the whole text (late chunking). This requires a model with the capability ``spans``.
    """

    input: tuple[str, ...]
    dimensions: int | None = None
    spans: tuple[tuple[tuple[int, int], ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A comparison of one attribute, or a combination of filters. Exactly one of ``key`` and ``filters`` is set."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: Any = None
    filters: tuple[Filter, ...] = ()


Rewriting: TypeAlias = Literal["", "rewrite", "decompose", "hyde", "replace"]


@dataclass(frozen=True, slots=True)
class Refine:
    """Optional stages before and after ranking. The default has none. They run in this order:

    ``rewrite``: the chat model ``writer`` rephrases the question, splits it, or writes a possible answer (HyDE, Gao et
    al. 2022); all are searched for. With ``replace``, its words replace the question; if the model fails, the question
    itself is used. ``half_life_days``: a score halves in this many days since ``decay_by``, a time attribute, or since
    the file arrived. ``reranker``: a model that judges the best candidates, by `Rerank` or as a chat model.
    ``near_duplicates``: the share of common shingles above which two texts count as one.

    ``diversity``, from 0 to 1: the penalty for similarity to better passages (MMR, Carbonell and Goldstein 1998).
    ``parents``: the group whose chunks replace the chunks inside them, ``*`` for each group's own parent.
    ``neighbours``: chunks added before and after.
    """

    rewrite: Rewriting = ""
    writer: str = "default"
    half_life_days: float = 0.0
    decay_by: str = ""
    reranker: str = ""
    near_duplicates: float = 0.0
    diversity: float = 0.0
    parents: str = ""
    neighbours: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """How a search continues for what its first passages lack.

    ``limit``: the number of consecutive searches, including the first; 0 means up to four, but only one if the first
    passages contain the words of the question. ``model``: a chat model that chooses the next query; without a model or
    a usable answer, rules choose it. ``max_tokens`` and ``max_calls`` limit the model's tokens and calls;
    ``max_seconds`` limits all further steps.
    """

    limit: int = 0
    model: str = ""
    max_tokens: int = 12_000
    max_seconds: float = 20.0
    max_calls: int = 3


@dataclass(frozen=True, slots=True)
class Search:
    """A question to a store. ``score_threshold`` is in [0, 1] and applies to the final score.

    ``groups`` are the chunk groups to search; none means the group that every store has. ``vector_weight``, from 0 to
    1, is the weight of the vectors relative to the words; ``None`` uses the model's profile. With ``infer_filters``,
    only files that meet the conditions in the question ("since 2024") are searched. ``links``: whether to follow links
    between passages; ``None`` uses the setting of the store. ``steps`` configures further searches. ``names``: whether
    to return the names in the passages, if links or steps lead from one passage to the next.
    """

    query: str
    max_num_results: int = 10
    filters: Filter | None = None
    score_threshold: float = 0.0
    ranker: Literal["auto", "lexical", "vector", "hybrid", "rrf"] = "auto"
    trace: bool = False
    groups: tuple[str, ...] = ()
    refine: Refine = Refine()
    vector_weight: float | None = None
    infer_filters: bool = False
    links: bool | None = None
    steps: Steps | None = None
    names: bool = False


@dataclass(frozen=True, slots=True)
class Rerank:
    """Texts to rank by how well they answer a question; at most ``top_n`` are returned."""

    query: str
    documents: tuple[str, ...]
    top_n: int | None = None


@dataclass(frozen=True, slots=True)
class Moderate:
    """Texts to moderate: ``input`` in OpenAI's form, a string, a list of strings or a list of parts."""

    input: Any


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text, or a conversation formatted by the model's template, to split into the model's tokens.

    Exactly one of ``prompt`` and ``messages`` is set. ``special``: whether to add special tokens, such as the one at
    the start of a text; ``None`` does what the model does in a call. ``generation``: whether a conversation ends with
    the prompt for an answer. ``texts``: whether to return the text of each token. ``tools``, in OpenAI's form,
    accompany ``messages``.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    special: bool | None = None
    generation: bool = True
    texts: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Tokens to convert to text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Arguments for a tool, already parsed from JSON.

    ``key`` makes the call idempotent: a tool that changes an external system passes it on, so that a call repeated
    after a crash takes effect once.
    """

    arguments: Mapping[str, Any]
    key: str = ""


@dataclass(frozen=True, slots=True)
class AppInput:
    """The input of an app, as its input schema defines it. ``session`` names a conversation, if the app stores
    conversations.
    """

    value: Any
    session: str = ""


Request: TypeAlias = (
    Chat
    | Embed
    | Rerank
    | Moderate
    | Search
    | ToolCall
    | AppInput
    | Tokenize
    | Detokenize
    | Speak
    | Transcribe
    | Draw
)


@dataclass(frozen=True, slots=True)
class CalledTool:
    """A tool call that a model requests; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer to `Chat`: the text, the requested tool calls, the source passages, and the claims of its
    sentences.
    """

    content: str
    finish_reason: str = "stop"
    tool_calls: tuple[CalledTool, ...] = ()
    citations: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    claims: tuple[AnswerClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """The answer to `Embed`: one vector per text or span, a little-endian float32 buffer of ``dimensions`` × 4
    bytes.
    """

    data: tuple[bytes, ...]
    dimensions: int
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Ranked:
    """The answer to `Rerank`: (index of the document, score in [0, 1]), best first."""

    results: tuple[tuple[int, float], ...]
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Moderated:
    """The answer to `Moderate`: results in OpenAI's form, one for each text, or one for all parts."""

    results: tuple[Mapping[str, Any], ...]
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The answer to `Tokenize`; ``longest`` is the maximum number of tokens in a call, ``texts`` has as many items as
    ``ids`` if requested.
    """

    ids: tuple[int, ...]
    longest: int | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The answer to `Detokenize`."""

    text: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to `Search`: passages in rank order; ``trace`` if requested; ``queries`` that were searched.

    If a store has no passage, or `Search.names` is set, it includes the number of searchable ``files``, and of those
    ``waiting`` to be parsed. ``names``: the names in each passage, in folded characters, if requested.
    """

    passages: tuple[Passage, ...]
    trace: tuple[TraceStage, ...] = ()
    queries: tuple[str, ...] = ()
    files: int | None = None
    waiting: int = 0
    names: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult(tools.ToolResult):
    """The answer to `ToolCall`: text for a model, the same as JSON if it has a structure, and files."""

    structured: Mapping[str, Any] | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class AppOutput:
    """The answer to `AppInput`: a JSON value, the tokens used, and the source passages."""

    value: Any
    usage: Usage = Usage()
    citations: tuple[Passage, ...] = ()


Result: TypeAlias = (
    ChatReply
    | Vectors
    | Ranked
    | Moderated
    | SearchResult
    | ToolResult
    | AppOutput
    | TokenizedText
    | Detokenized
    | Speech
    | Transcription
    | GeneratedImages
)
