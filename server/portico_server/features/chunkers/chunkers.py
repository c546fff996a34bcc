"""The table of chunkers, and the parsing of chunking strategies in requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.features.chunkers import (
    code,
    dialogue,
    plain,
    prompts,
    sections,
    sentences,
    tables,
    topic,
)
from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.prompts import ChunkPrompt
from portico_server.plugins import PluginTable

MAX_CHUNK_COLUMNS = 1_000
"""Default maximum width of a chunk, in columns: a CJK character is two columns wide, any other character one."""

MAX_OVERLAP_COLUMNS = 100
"""Default maximum overlap with the previous chunk, in columns."""

Chunker: TypeAlias = Callable[[Iterable[Part], int, int], list[Part]]
"""``(parts, size, overlap) -> chunks``, with ``size`` and ``overlap`` in columns."""


@dataclass(frozen=True, slots=True)
class ChunkingStrategy:
    """A named chunker with its description and default sizes.

    If a strategy needs a model, ``chunk`` cuts the document into the pieces that the model receives. With a
    ``prompt``, a chat model writes the chunks. A strategy that ``embeds`` merges pieces by their vectors. The pieces
    of a ``late`` strategy are the chunks, and their vectors are computed with the whole document in view.
    """

    name: str
    chunk: Chunker
    description: str
    size: int = MAX_CHUNK_COLUMNS
    overlap: int = MAX_OVERLAP_COLUMNS
    prompt: ChunkPrompt | None = None
    embeds: bool = False
    late: bool = False

    @property
    def needs_model(self) -> bool:
        return self.prompt is not None or self.embeds or self.late


STRATEGIES = (
    ChunkingStrategy("sentence", sentences.chunk_sentences, "Whole sentences, English and Chinese"),
    ChunkingStrategy("paragraph", plain.chunk_paragraphs, "Whole paragraphs"),
    ChunkingStrategy(
        "recursive",
        plain.chunk_recursive,
        "The coarsest boundary that fits: empty lines, lines, sentences, commas, spaces",
    ),
    ChunkingStrategy(
        "topic", topic.chunk_topics, "Splits where the vocabulary changes: texts without headings", 2_000, 0
    ),
    ChunkingStrategy(
        "window",
        plain.chunk_windows,
        "Windows of sentences that each overlap half of the previous window",
        MAX_CHUNK_COLUMNS,
        MAX_CHUNK_COLUMNS // 2,
    ),
    ChunkingStrategy("token", plain.chunk_tokens, "Equal numbers of tokens, split between words"),
    ChunkingStrategy("fixed", plain.chunk_fixed, "Equal widths, split between characters"),
    ChunkingStrategy("lines", plain.chunk_lines, "Whole lines"),
    ChunkingStrategy(
        "markdown",
        sections.chunk_markdown,
        "Markdown: keeps blocks whole, joins short sections with the next",
    ),
    ChunkingStrategy(
        "section",
        sections.chunk_sections,
        "The text below one heading: HTML, Word, EPUB, Markdown",
        4_000,
        0,
    ),
    ChunkingStrategy(
        "outline", sections.chunk_outline, "Plain text with numbered headings: books, reports, standards"
    ),
    ChunkingStrategy("page", sections.chunk_pages, "One page per chunk: PDF", 8_000, 0),
    ChunkingStrategy("slides", sections.chunk_slides, "One slide per chunk, with its notes", 4_000, 0),
    ChunkingStrategy(
        "rows",
        tables.chunk_rows,
        "Groups of rows below a repeated header: CSV, spreadsheets",
        MAX_CHUNK_COLUMNS,
        0,
    ),
    ChunkingStrategy(
        "records",
        tables.chunk_records,
        "One row per chunk below a repeated header: CSV, spreadsheets",
        MAX_CHUNK_COLUMNS,
        0,
    ),
    ChunkingStrategy("table", tables.chunk_tables, "Markdown with wide tables: repeats their header"),
    ChunkingStrategy("code", code.chunk_code, "Definitions, by the syntax tree (Python) or by blank lines"),
    ChunkingStrategy(
        "json", tables.chunk_json, "Whole values by their path: JSON, JSON lines", MAX_CHUNK_COLUMNS, 0
    ),
    ChunkingStrategy(
        "log", code.chunk_log, "Whole log entries with their stack traces", MAX_CHUNK_COLUMNS, 0
    ),
    ChunkingStrategy("diff", code.chunk_diff, "Whole hunks of a patch", MAX_CHUNK_COLUMNS, 0),
    ChunkingStrategy(
        "dialogue",
        dialogue.chunk_dialogue,
        "Whole turns of a chat, an interview, a transcript",
        MAX_CHUNK_COLUMNS,
        200,
    ),
    ChunkingStrategy("qa", dialogue.chunk_questions, "One question with its answer per chunk", 2_000, 0),
    ChunkingStrategy(
        "clause",
        sections.chunk_clauses,
        "One clause per chunk: laws, contracts (第三条, Article 5, § 7, 4.2.1)",
        2_000,
        0,
    ),
    ChunkingStrategy("subtitles", dialogue.chunk_subtitles, "Speech within a time window: SRT, WebVTT"),
    ChunkingStrategy("formula", plain.chunk_formulas, "Sentences, without splitting TeX formulas", 1_500),
    ChunkingStrategy(
        "coarse",
        sentences.chunk_sentences,
        "Sentences up to 1024 tokens, overlapping by 100 (CoarseChunk)",
        4_096,
        400,
    ),
    ChunkingStrategy(
        "medium",
        sentences.chunk_sentences,
        "Sentences up to 256 tokens, overlapping by 25 (MediumChunk)",
        1_024,
        100,
    ),
    ChunkingStrategy(
        "fine",
        sentences.chunk_sentences,
        "Sentences up to 128 tokens, overlapping by 12 (FineChunk)",
        512,
        48,
    ),
    ChunkingStrategy(
        "semantic",
        topic.split_sentences,
        "Splits where the topic changes, by an embedding model",
        2_000,
        0,
        embeds=True,
    ),
    ChunkingStrategy(
        "late",
        sentences.chunk_sentences,
        "Whole sentences, embedded with the whole document in view (late chunking)",
        MAX_CHUNK_COLUMNS,
        0,
        late=True,
    ),
    ChunkingStrategy(
        "summary",
        sections.chunk_sections,
        "A summary of each section, by a chat model",
        4_000,
        0,
        prompts.SUMMARY,
    ),
    ChunkingStrategy(
        "keywords",
        sections.chunk_sections,
        "The keywords of each section, by a chat model",
        4_000,
        0,
        prompts.KEYWORDS,
    ),
    ChunkingStrategy(
        "questions",
        sentences.chunk_sentences,
        "The questions each passage answers, by a chat model",
        2_000,
        0,
        prompts.QUESTIONS,
    ),
    ChunkingStrategy(
        "propositions",
        sentences.chunk_sentences,
        "One fact per chunk, by a chat model",
        1_500,
        0,
        prompts.PROPOSITIONS,
    ),
    ChunkingStrategy(
        "contextual",
        sentences.chunk_sentences,
        "Passages with a sentence of context from the document, by a chat model",
        MAX_CHUNK_COLUMNS,
        MAX_OVERLAP_COLUMNS,
        prompts.CONTEXTUAL,
    ),
)
"""The built-in chunkers. To add a chunker, add a file and an entry to this list."""


def _accept(strategy: Any) -> ChunkingStrategy:
    if not isinstance(strategy, ChunkingStrategy):
        raise InvalidRequest(f"a chunker must be a ChunkingStrategy, but {strategy!r} is not.")
    return strategy


CHUNKERS = PluginTable(
    "chunker", {item.name: item for item in STRATEGIES}, _accept, reserved_names=("auto", "static")
)
"""All chunkers by name, including those of plugins."""

COLUMNS_PER_TOKEN = 4
"""Estimated columns per token for ``static``, which is four Latin letters or two Chinese characters per token of a GPT
tokenizer.
"""

DEFAULT_PERCENTILE = 95
"""Percentile of the distances between neighbouring sentences above which ``semantic`` splits."""

MAX_MODEL_NAME_CHARS = 200
"""Maximum length of a model's name in characters."""

_STATIC_LIMITS = {"max_chunk_size_tokens": (100, 4096, 800), "chunk_overlap_tokens": (0, 2048, 400)}


def check_chunking(strategy: Any, *, by_model: bool = False) -> dict[str, Any]:
    """Return a ``chunking_strategy`` in its full form. Raise `InvalidRequest` that names the invalid field.

    ``{"type": "auto"}`` chooses the chunker by file format; ``{"type": "static", "static": {…}}`` is OpenAI's.
    Portico's own types are the names in `CHUNKERS`, with ``size`` and ``overlap`` in columns, and ``model`` if the
    strategy needs a model. Strategies that need a model are allowed only for chunk groups (``by_model``), because a
    store's own chunks must not wait for a model.
    """
    if strategy is None:
        return {"type": "auto"}
    if not isinstance(strategy, Mapping):
        raise InvalidRequest(
            "'chunking_strategy' must be an object with a 'type'.", param="chunking_strategy"
        )
    kind = strategy.get("type")
    if kind == "auto":
        _require_fields(strategy, "auto", {"type"})
        return {"type": "auto"}
    if kind == "static":
        static = strategy.get("static")
        if not isinstance(static, Mapping):
            raise InvalidRequest(
                "The chunking strategy 'static' needs an object 'static' with 'max_chunk_size_tokens' and "
                "'chunk_overlap_tokens'.",
                param="chunking_strategy.static",
            )
        _require_fields(strategy, kind, {"type", "static"})
        _require_fields(static, kind, _STATIC_LIMITS, "chunking_strategy.static")
        values = {
            name: _number(static, name, f"chunking_strategy.static.{name}", *limits)
            for name, limits in _STATIC_LIMITS.items()
        }
        if values["chunk_overlap_tokens"] * 2 > values["max_chunk_size_tokens"]:
            raise InvalidRequest(
                f"'chunk_overlap_tokens' is {values['chunk_overlap_tokens']}, but must be at most half of "
                f"'max_chunk_size_tokens', which is {values['max_chunk_size_tokens']}.",
                param="chunking_strategy.static.chunk_overlap_tokens",
            )
        return {"type": "static", "static": values}
    if isinstance(kind, str) and kind in CHUNKERS:
        usual = CHUNKERS[kind]
        size = _number(strategy, "size", "chunking_strategy.size", 50, 20_000, usual.size)
        overlap = _number(
            strategy, "overlap", "chunking_strategy.overlap", 0, size // 2, min(usual.overlap, size // 2)
        )
        fields = {"type": kind, "size": size, "overlap": overlap}
        if usual.needs_model:
            fields |= _check_model_fields(usual, strategy, by_model=by_model)
        _require_fields(strategy, kind, fields)
        return fields
    strategies = ("auto", "static", *CHUNKERS)
    raise InvalidRequest(
        f"Unknown chunking strategy '{str(kind)[:40]}'. Choose one of "
        f"{', '.join(strategies)}.{nearest(str(kind), strategies)}",
        param="chunking_strategy.type",
    )


def needs_model(strategy: Mapping[str, Any]) -> bool:
    """Return whether the chunks of a validated strategy require a model."""
    chunking_strategy = CHUNKERS.get(strategy["type"])
    return chunking_strategy is not None and chunking_strategy.needs_model


def is_late(strategy: Mapping[str, Any]) -> bool:
    """Return whether the vectors of a validated strategy's chunks are computed with the whole document in view."""
    chunking_strategy = CHUNKERS.get(strategy["type"])
    return chunking_strategy is not None and chunking_strategy.late


def _check_model_fields(
    usual: ChunkingStrategy, strategy: Mapping[str, Any], *, by_model: bool
) -> dict[str, Any]:
    """Validate the fields of a strategy that needs a model. An empty ``model`` means the embedding model of the group.

    ``late`` has no ``model`` field: the group's embedding model must compute its vectors, because searches compare
    them.
    """
    if not by_model:
        raise InvalidRequest(
            f"The chunking strategy '{usual.name}' calls a model for every piece, so it is allowed only for "
            "a chunk group in addition to the store's own chunks: portico stores groups add STORE "
            f"{usual.name} --strategy {usual.name}",
            param="chunking_strategy.type",
        )
    if usual.late:
        if strategy.get("model"):
            raise InvalidRequest(
                "The chunking strategy 'late' has no 'model' field: set the embedding model of the group "
                "instead.",
                param="chunking_strategy.model",
            )
        return {}
    model = strategy.get("model", "default" if usual.prompt else "")
    if (
        not isinstance(model, str)
        or len(model) > MAX_MODEL_NAME_CHARS
        or (usual.prompt and not model.strip())
    ):
        raise InvalidRequest(
            f"'model' must be the name of a model with at most {MAX_MODEL_NAME_CHARS} characters.",
            param="chunking_strategy.model",
        )
    if usual.prompt:
        return {"model": model}
    percentile = _number(strategy, "percentile", "chunking_strategy.percentile", 50, 99, DEFAULT_PERCENTILE)
    return {"model": model, "percentile": percentile}


def chunk_parts(parts: Iterable[Part], strategy: Mapping[str, Any], default: str) -> list[Part]:
    """Split ``parts`` into chunks by a validated strategy. ``default`` is the name of the chunker for the file's
    format.

    Raises `InvalidRequest` if the chunker belongs to a plugin that is missing or cannot be loaded.
    """
    match strategy.get("type"):
        case "static":
            static = strategy["static"]
            size = static["max_chunk_size_tokens"] * COLUMNS_PER_TOKEN
            overlap = static["chunk_overlap_tokens"] * COLUMNS_PER_TOKEN
            return CHUNKERS[default].chunk(parts, size, overlap)
        case "auto" | None:
            usual = CHUNKERS[default]
            return usual.chunk(parts, usual.size, usual.overlap)
        case str(name) if name in CHUNKERS:
            return CHUNKERS[name].chunk(parts, strategy["size"], strategy["overlap"])
        case name:
            raise InvalidRequest(
                f"The chunker '{name}' is not available, because its plugin is not installed."
            )


def _require_fields(
    fields: Mapping[str, Any], kind: str, known_fields: Collection[str], at: str = "chunking_strategy"
) -> None:
    for name, value in fields.items():
        if name not in known_fields and value not in (None, ""):
            raise InvalidRequest(
                f"The chunking strategy '{kind}' has no field "
                f"'{str(name)[:80]}'.{nearest(str(name), known_fields)}",
                code="unknown_parameter",
                param=f"{at}.{str(name)[:80]}",
            )


def _number(values: Mapping[str, Any], name: str, param: str, low: int, high: int, default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be an integer from {low} to {high}.", param=param)
    return value
