"""The requests and results of a Servable: frozen values, one type per capability.

Field names are OpenAI's. Options that Portico does not read are passed on unchanged in ``options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal, TypeAlias

from portico.schemas import tools
from portico.schemas.search import TraceStage
from portico.schemas.stores import StoreThemes
from portico.wire import AnswerClaim, Passage, Usage
from portico_server.core.dataclass import dataclass
from portico_server.core.media import Draw, GeneratedImages, Speak, Speech, Transcribe, Transcription
from portico_server.core.tables import ComputedValue, FindTables, TableList, TableQuery
from portico_server.core.themes import ChangedFiles, FindChangedFiles, FindThemes

Message: TypeAlias = Mapping[str, Any]
"""A chat message as OpenAI defines it: ``role``, ``content`` and so on."""

Attributes: TypeAlias = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat completion. ``options`` contains all other parameters in OpenAI's format (temperature, tools, stop …)."""

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to embed, in order.

    ``spans`` lists, for each text, ranges of characters as (start, end). Each range then gets a vector, which is
    computed from its tokens in the context of the whole text (late chunking). This requires a model with the
    capability ``spans``.
    """

    input: tuple[str, ...]
    dimensions: int | None = None
    spans: tuple[tuple[tuple[int, int], ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A comparison of one attribute, or a combination of filters. Exactly one of ``key`` and ``filters`` is set.

    ``readers`` has neither: the file must be readable for a caller with the groups in ``value``, a set. ``facts`` has
    neither: the file must not be a fact of another key than ``value``. Requests cannot contain these two.
    """

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or", "readers", "facts"]
    key: str | None = None
    value: Any = None
    filters: tuple[Filter, ...] = ()


Rewriting: TypeAlias = Literal["", "rewrite", "decompose", "hyde", "replace"]


AUTO_RERANKER = "auto"
"""The value of `Refine.reranker` that leaves the choice to the daemon."""


@dataclass(frozen=True, slots=True)
class Refine:
    """Optional stages before and after ranking. By default, no stage runs. The stages run in this order:

    ``rewrite``: the chat model ``writer`` rephrases the question, splits it, or writes a possible answer (HyDE, Gao et
    al. 2022); the search uses the question and all of these texts. With ``replace``, the model's text replaces the
    question; if the model fails, the question itself is used. ``half_life_days``: the number of days in which a score
    halves, counted from ``decay_by``, a time attribute, or from the arrival of the file. ``reranker``: a model that
    judges the best candidates, by `Rerank` or as a chat model; `AUTO_RERANKER`: a reranker that the daemon chooses and
    that only orders them, if there is one and the search follows neither links nor steps. ``near_duplicates``: the
    share of common shingles above which two texts count as the same.

    ``diversity``, from 0 to 1: the penalty for similarity to better passages (MMR, Carbonell and Goldstein 1998).
    ``parents``: the group whose chunks replace the chunks that they contain; ``*`` means each group's own parent.
    ``neighbours``: the number of chunks added before and after each passage.
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
    """Further searches for what the passages of the first search lack.

    ``limit``: the maximum number of consecutive searches, including the first; 0 means up to four, but only one if the
    first passages contain the words of the question. ``model``: a chat model that chooses the next query; without a
    model or a usable answer, rules choose it. ``max_tokens`` and ``max_calls`` limit the model's tokens and calls;
    ``max_seconds`` limits the time of all further searches together.
    """

    limit: int = 0
    model: str = ""
    max_tokens: int = 12_000
    max_seconds: float = 20.0
    max_calls: int = 3


@dataclass(frozen=True, slots=True)
class Search:
    """A search in a store. ``score_threshold`` is in [0, 1] and applies to the final score.

    ``groups`` are the chunk groups to search; if empty, the search uses the group that every store has.
    ``vector_weight``, from 0 to 1, is the weight of the vectors relative to the words; ``None`` uses the model's
    profile. With ``infer_filters``, conditions in the question ("since 2024") limit the files that are searched.
    ``links`` sets whether to follow links between passages; ``None`` uses the store's setting. ``steps`` configures
    further searches. With ``names``, the result includes the names in the passages if links or steps lead from one
    passage to the next.
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
    """Texts to moderate: ``input`` as in OpenAI's API, a string, a list of strings or a list of parts."""

    input: Any


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text, or a conversation formatted with the model's template, to split into the model's tokens.

    Exactly one of ``prompt`` and ``messages`` is set. ``special`` sets whether to add special tokens, such as the
    token at the start of a text; with ``None``, they are added as in a normal call of the model. With ``generation``,
    a conversation ends with the tokens that start the model's answer. With ``texts``, the result includes the text of
    each token. ``options`` are the options of the conversation, as in `Chat`: tools, for example, add to the prompt.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    special: bool | None = None
    generation: bool = True
    texts: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Tokens to convert to text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Arguments for a tool, already parsed from JSON.

    ``key`` makes the call idempotent: a tool that changes an external system sends the key to that system, so that a
    call that is repeated after a crash takes effect only once.
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


StoreRequest: TypeAlias = Search | FindTables | TableQuery | FindThemes | FindChangedFiles
"""The requests that a store answers."""

Request: TypeAlias = (
    Chat
    | Embed
    | Rerank
    | Moderate
    | StoreRequest
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

    ``stop_reason`` is what ended the answer, if the engine reports it: a stop sequence, or ``repetition``.
    """

    content: str
    finish_reason: str = "stop"
    tool_calls: tuple[CalledTool, ...] = ()
    citations: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    claims: tuple[AnswerClaim, ...] = ()
    stop_reason: str = ""


@dataclass(frozen=True, slots=True)
class Vectors:
    """The answer to `Embed`: one vector per text or span, as a buffer of ``dimensions`` little-endian float32
    values.
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
    """The answer to `Moderate`: results in OpenAI's format, one for each text, or one for all parts together."""

    results: tuple[Mapping[str, Any], ...]
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The answer to `Tokenize`; ``longest`` is the maximum number of tokens in a call. ``texts``, if requested, are
    the texts of the tokens in ``ids``.
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
    """The answer to `Search`: passages in rank order, the ``trace`` if requested, and the ``queries`` that were
    searched for.

    If the search returns no passage, or `Search.names` is set, ``files`` is the number of searchable files, and
    ``waiting`` is how many of them still have to be parsed. ``names``, if requested, are the names in each passage, in
    folded characters.
    """

    passages: tuple[Passage, ...]
    trace: tuple[TraceStage, ...] = ()
    queries: tuple[str, ...] = ()
    files: int | None = None
    waiting: int = 0
    names: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult(tools.ToolResult):
    """The answer to `ToolCall`: text for a model, the same content as JSON if it is structured, and files."""

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
    | TableList
    | ComputedValue
    | StoreThemes
    | ChangedFiles
    | ToolResult
    | AppOutput
    | TokenizedText
    | Detokenized
    | Speech
    | Transcription
    | GeneratedImages
)
