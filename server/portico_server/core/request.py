"""What a Servable is asked, and what it answers: frozen values, one type per capability.

Field names are OpenAI's. Options that we do not read travel untouched in ``options``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from portico.wire import Passage, Usage

Message: TypeAlias = Mapping[str, Any]
"""A chat message as OpenAI defines it: ``role``, ``content`` and so on."""

Attributes: TypeAlias = Mapping[str, str | float | bool]

AudioFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
"""``pcm`` is 24 kHz, one channel, 16 bits, little-endian, without a header."""


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
    """What is done to a question and its ranking besides ranking. The default does nothing; in this order:

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
class Search:
    """A question to a store. ``score_threshold`` is in [0, 1] on the final score.

    ``groups`` are the chunk groups that are searched; none means the one that every store has. ``vector_weight``, from
    0 to 1, is what the vectors count beside the words; ``None`` is what their model's profile says.
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


@dataclass(frozen=True, slots=True)
class Rerank:
    """Texts to be put in the order in which they answer a question; at most ``top_n`` of them."""

    query: str
    documents: tuple[str, ...]
    top_n: int | None = None


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text, or a conversation as the model's template writes it, to be told in the model's tokens.

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
    """Tokens to be told as text."""

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


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that goes with a request. ``field`` is its name in OpenAI's form: ``file``, ``image`` or ``mask``."""

    field: str
    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Speak:
    """A text to be said aloud. ``speed`` from 0.25 to 4; ``options`` are the parameters that only some models have."""

    input: str
    voice: str = ""
    response_format: AudioFormat = "mp3"
    speed: float = 1.0
    instructions: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Transcribe:
    """Speech to be written down; with ``translate`` in English. ``language`` as ISO 639-1, ``prompt`` what was said
    before it or how it is spelled.
    """

    file: Attached
    language: str = ""
    prompt: str = ""
    temperature: float = 0.0
    translate: bool = False
    timestamps: Literal["", "segment", "word"] = ""


@dataclass(frozen=True, slots=True)
class Draw:
    """A picture to be made of words, ``n`` times; of ``images`` if there are some, changed only where ``mask`` is
    transparent. ``size`` is ``auto`` or WIDTHxHEIGHT in pixels.
    """

    prompt: str
    n: int = 1
    size: str = "auto"
    images: tuple[Attached, ...] = ()
    mask: Attached | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


Request: TypeAlias = (
    Chat | Embed | Rerank | Search | ToolCall | AppInput | Tokenize | Detokenize | Speak | Transcribe | Draw
)


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
class Tokens:
    """The answer to `Tokenize`; ``longest`` is how many a call may have, ``texts`` as many as ``ids`` if asked for."""

    ids: tuple[int, ...]
    longest: int | None = None
    texts: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Detokenized:
    """The answer to `Detokenize`."""

    text: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a search: its name, how long it took, and its candidates in order as (chunk id, score)."""

    name: str
    milliseconds: float
    candidates: tuple[tuple[int, float], ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to `Search`: passages in rank order; ``trace`` if it was asked for; ``queries``: what was searched."""

    passages: tuple[Passage, ...]
    trace: tuple[Stage, ...] = ()
    queries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a run made and that is kept: a figure, a table, a result too large for an answer."""

    id: str
    name: str
    media_type: str
    bytes: int

    @property
    def link(self) -> str:
        """Where its bytes are, below the daemon's address."""
        return f"/api/artifacts/{self.id}/content"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The answer to `ToolCall`: text for a model to read, the same as JSON where there is a structure, and files."""

    text: str
    structured: Mapping[str, Any] | None = None
    is_error: bool = False
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class AppOutput:
    """The answer to `AppInput`: a JSON value, the tokens that it took, and the passages that it stands on."""

    value: Any
    usage: Usage = Usage()
    citations: tuple[Passage, ...] = ()


@dataclass(frozen=True, slots=True)
class Spoken:
    """The answer to `Speak`: sound in the format that was asked for."""

    audio: bytes
    media_type: str
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """A stretch of a recording: from ``start`` to ``end`` seconds, a sentence or a word."""

    start: float
    end: float
    text: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """The answer to `Transcribe`. ``duration`` in seconds; ``segments`` and ``words`` where the model tells them."""

    text: str
    language: str = ""
    duration: float | None = None
    segments: tuple[Said, ...] = ()
    words: tuple[Said, ...] = ()
    usage: Usage = Usage()
    model: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """One of `Drawn`. ``revised_prompt`` where the model was told something else than was asked; without ``data`` it
    is still at ``url``, where its provider keeps it.
    """

    data: bytes
    media_type: str
    revised_prompt: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class Drawn:
    """The answer to `Draw`: as many pictures as were asked for."""

    images: tuple[Picture, ...]
    usage: Usage = Usage()
    model: str = ""


Result: TypeAlias = (
    Reply
    | Vectors
    | Ranked
    | Found
    | ToolResult
    | AppOutput
    | Tokens
    | Detokenized
    | Spoken
    | Transcript
    | Drawn
)


# --- the hot path ------------------------------------------------------------------------------------------------

Operation: TypeAlias = Literal[
    "chat/completions",
    "completions",
    "embeddings",
    "rerank",
    "audio/speech",
    "audio/transcriptions",
    "audio/translations",
    "images/generations",
    "images/edits",
]

CAPABILITY: Mapping[Operation, str] = {
    "chat/completions": "chat",
    "completions": "completions",
    "embeddings": "embeddings",
    "rerank": "rerank",
    "audio/speech": "speech",
    "audio/transcriptions": "transcription",
    "audio/translations": "transcription",
    "images/generations": "image",
    "images/edits": "image_edits",
}
"""What a Servable must have in its card's ``capabilities`` for an operation."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """A small set of weights on top of a model's own. ``path`` is where the daemon keeps it: a PEFT folder or a file.

    ``scale`` multiplies its effect: 0 is the model alone, 1 what it was trained for.
    """

    name: str
    path: Path
    scale: float = 1.0


Protocol: TypeAlias = Literal["openai", "anthropic"]


@dataclass(frozen=True, slots=True)
class Original:
    """A chat as its caller wrote it, in another protocol than OpenAI's, with the headers that belong to it."""

    protocol: Protocol
    body: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Relay:
    """An OpenAI request on its way to an engine. ``body`` is the client's JSON object, unknown fields included.

    ``adapter``: answer with it instead of the model alone. ``original``: the same request in the protocol that it came
    in, for an engine that speaks that; whoever changes what ``body`` says leaves it out. ``files``: those of a form
    whose fields are ``body``.
    """

    operation: Operation
    body: dict[str, Any]
    adapter: Adapter | None = None
    original: Original | None = None
    files: tuple[Attached, ...] = ()

    @property
    def stream(self) -> bool:
        """Whether the answer comes as server-sent events."""
        return self.body.get("stream") is True or self.body.get("stream_format") == "sse"


@dataclass(slots=True)
class Relayed:
    """An engine's answer in OpenAI's bytes. Errors before the first byte were raised instead of returned here.

    ``chunks`` yields complete SSE frames for a stream (``data: …\\n\\n``, the last one ``data: [DONE]`` for texts),
    the JSON document otherwise, or the bytes of a sound as they come. ``usage`` is filled when ``chunks`` is exhausted.
    Closing ``chunks`` early cancels the work behind it. ``protocol`` is that of the request's ``original`` if that was
    answered, and then ``chunks`` are in its form and hold no errors; it may become known with the first of them.
    """

    media_type: str
    chunks: AsyncIterator[bytes]
    usage: Usage = Usage()
    protocol: Protocol = "openai"
    run: str = ""
    """The run that it belongs to, once there is one."""
