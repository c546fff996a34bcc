"""What a Servable is asked, and what it answers: frozen values, one type per capability.

Field names are OpenAI's. Options that we do not read travel untouched in ``options``.
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
    """A chat completion. ``options`` holds every other OpenAI parameter (temperature, tools, stop …)."""

    messages: tuple[Message, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to turn into vectors, in order.

    ``spans``: for each text runs of characters, from first to last; then there is a vector for each run instead, made
    of what its tokens mean within the whole text (late chunking). Models with the capability ``spans`` can do that.
    """

    input: tuple[str, ...]
    dimensions: int | None = None
    spans: tuple[tuple[tuple[int, int], ...], ...] | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """A comparison of one attribute, or several joined. Exactly one of ``key`` and ``filters`` is set."""

    type: Literal["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "and", "or"]
    key: str | None = None
    value: Any = None
    filters: tuple[Filter, ...] = ()


Rewriting: TypeAlias = Literal["", "rewrite", "decompose", "hyde", "replace"]


@dataclass(frozen=True, slots=True)
class Refine:
    """Optional stages before and after ranking. The default has none. Their order:

    ``rewrite``: the chat model ``writer`` puts the question in other words, takes it apart, or writes what an
    answer may look like (HyDE, Gao et al. 2022); all are searched for. With ``replace`` its words take the place of
    the question, which is searched for itself where the model fails. ``half_life_days``: a score halves in so many
    days since ``decay_by``, an attribute with a time, or since the file came. ``reranker``: a model that judges the
    best candidates, by `Rerank` or as a chat model. ``near_duplicates``: the share of common shingles from which two
    texts count as one. ``diversity``, from 0 to 1: how much likeness to better passages costs (MMR, Carbonell and
    Goldstein 1998). ``parents``: the group whose chunks take the place of those they hold, ``*`` for each group's own
    parent. ``neighbours``: chunks added before and behind.
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

    ``limit``: searches one after another, the first included; 0: up to four, and only one where the first passages
    hold the words of the question. ``model``: a chat model that says what to search for; without one, or where it says
    nothing usable, rules do. ``max_tokens``, ``max_calls``: what the model may read and write, and how often it is
    asked; ``max_seconds``: for all further steps.
    """

    limit: int = 0
    model: str = ""
    max_tokens: int = 12_000
    max_seconds: float = 20.0
    max_calls: int = 3


@dataclass(frozen=True, slots=True)
class Search:
    """A question to a store. ``score_threshold`` is in [0, 1] on the final score.

    ``groups`` are the chunk groups that are searched; none means the one that every store has. ``vector_weight``, from
    0 to 1, is what the vectors count beside the words; ``None`` is what their model's profile says. ``infer_filters``:
    what the question says of the files' attributes ("since 2024") is met by those that are searched. ``links``: whether
    links between passages are followed; ``None``: as the store does. ``steps``: what is searched for after that.
    ``names``: whether what the passages name is wanted, where links or steps lead from one to the next.
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
    """Texts to be put in the order in which they answer a question; at most ``top_n`` of them."""

    query: str
    documents: tuple[str, ...]
    top_n: int | None = None


@dataclass(frozen=True, slots=True)
class Moderate:
    """Texts to be judged: ``input`` as OpenAI has it, a string, a list of strings or a list of parts."""

    input: Any


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text, or a conversation as the model's template writes it, to be split into the model's tokens.

    Exactly one of ``prompt`` and ``messages`` is set. ``special``: whether tokens such as the one that begins a text
    are added, ``None`` for what the model does in a call; ``generation``: whether a conversation ends with what makes
    the model answer; ``texts``: whether the text of each token is wanted; ``tools``, as OpenAI has them, go with
    ``messages``.
    """

    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    special: bool | None = None
    generation: bool = True
    texts: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Tokens to be turned into text."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """Arguments for a tool, already parsed from JSON.

    ``key`` makes the call idempotent: a tool that changes something outside passes it on, so that a call which is
    repeated after a crash has its effect once.
    """

    arguments: Mapping[str, Any]
    key: str = ""


@dataclass(frozen=True, slots=True)
class AppInput:
    """The input of an app, as its input schema says. ``session`` names a conversation, where the app keeps one."""

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
    """A tool call that a model asks for; ``arguments`` is JSON text."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ChatReply:
    """The answer to `Chat`: the text, the tools asked for, the passages it stands on, and what its sentences claim."""

    content: str
    finish_reason: str = "stop"
    tool_calls: tuple[CalledTool, ...] = ()
    citations: tuple[Passage, ...] = ()
    usage: Usage = Usage()
    model: str = ""
    claims: tuple[AnswerClaim, ...] = ()


@dataclass(frozen=True, slots=True)
class Vectors:
    """The answer to `Embed`: one vector per text or span, each a little-endian float32 buffer of ``dimensions`` × 4
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
    """The answer to `Moderate`: results as OpenAI has them, one for each text, or one for all parts."""

    results: tuple[Mapping[str, Any], ...]
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """The answer to `Tokenize`; ``longest`` is how many a call may have, ``texts`` as many as ``ids`` if asked for."""

    ids: tuple[int, ...]
    longest: int | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The answer to `Detokenize`."""

    text: str


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The answer to `Search`: passages in rank order; ``trace`` if it was asked for; ``queries``: what was searched.

    Where a store has no passage, or `Search.names` is set, it says how many of its ``files`` can be searched, and how
    many are ``waiting`` to be read.
    ``names``: what each passage names, in folded characters, if that was asked for.
    """

    passages: tuple[Passage, ...]
    trace: tuple[TraceStage, ...] = ()
    queries: tuple[str, ...] = ()
    files: int | None = None
    waiting: int = 0
    names: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ToolResult(tools.ToolResult):
    """The answer to `ToolCall`: text for a model to read, the same as JSON where there is a structure, and files."""

    structured: Mapping[str, Any] | None = None
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class AppOutput:
    """The answer to `AppInput`: a JSON value, the tokens that it took, and the passages that it stands on."""

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
