"""The table of chunkers, and how a request names one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest
from portico_server.knowledge.chunk import (
    code,
    dialogue,
    plain,
    prompts,
    sections,
    sentences,
    tables,
    topic,
)
from portico_server.knowledge.chunk.prompts import ChunkPrompt
from portico_server.knowledge.document import Part
from portico_server.plugins import PluginTable

MAX_CHUNK_COLUMNS = 1_000
"""Columns of a chunk, about: a CJK character takes two, any other one."""

MAX_OVERLAP_COLUMNS = 100
"""Columns that a chunk repeats of the one before it, at most."""

Chunker: TypeAlias = Callable[[Iterable[Part], int, int], list[Part]]
"""``(parts, size, overlap) -> chunks``, sizes in columns."""


@dataclass(frozen=True, slots=True)
class ChunkingStrategy:
    """A chunker by name, with what it is for and the sizes it takes if none are given.

    One that needs a model cuts the pieces that the model is shown: with a ``form`` a chat model writes the chunks; one
    that ``embeds`` puts pieces together by their vectors; those of one that is ``late`` are chunks, whose vectors are
    made with the whole document in view.
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
        "The coarsest cut that fits: empty lines, lines, sentences, commas, spaces",
    ),
    ChunkingStrategy(
        "topic", topic.chunk_topics, "Cut where the words change: texts without headings", 2_000, 0
    ),
    ChunkingStrategy(
        "window",
        plain.chunk_windows,
        "Sentences in windows that each cover half of the one before",
        MAX_CHUNK_COLUMNS,
        MAX_CHUNK_COLUMNS // 2,
    ),
    ChunkingStrategy("token", plain.chunk_tokens, "As many tokens each, cut between words"),
    ChunkingStrategy("fixed", plain.chunk_fixed, "Exactly as wide each, cut between characters"),
    ChunkingStrategy("lines", plain.chunk_lines, "Whole lines"),
    ChunkingStrategy(
        "markdown", sections.chunk_markdown, "Markdown: blocks stay whole, short sections join the next"
    ),
    ChunkingStrategy(
        "section",
        sections.chunk_sections,
        "What stands under one heading: HTML, Word, EPUB, Markdown",
        4_000,
        0,
    ),
    ChunkingStrategy(
        "outline", sections.chunk_outline, "Plain text with numbered headings: books, reports, standards"
    ),
    ChunkingStrategy("page", sections.chunk_pages, "A page each: PDF", 8_000, 0),
    ChunkingStrategy("slides", sections.chunk_slides, "A slide each, its notes with it", 4_000, 0),
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
        "One row each below a repeated header: CSV, spreadsheets",
        MAX_CHUNK_COLUMNS,
        0,
    ),
    ChunkingStrategy("table", tables.chunk_tables, "Markdown with wide tables: their header is repeated"),
    ChunkingStrategy("code", code.chunk_code, "Definitions, by the syntax tree (Python) or by blank lines"),
    ChunkingStrategy(
        "json", tables.chunk_json, "Whole values by their path: JSON, JSON lines", MAX_CHUNK_COLUMNS, 0
    ),
    ChunkingStrategy(
        "log", code.chunk_log, "Whole log entries, their stack traces with them", MAX_CHUNK_COLUMNS, 0
    ),
    ChunkingStrategy("diff", code.chunk_diff, "Whole hunks of a patch", MAX_CHUNK_COLUMNS, 0),
    ChunkingStrategy(
        "dialogue",
        dialogue.chunk_dialogue,
        "Whole turns of a chat, an interview, a transcript",
        MAX_CHUNK_COLUMNS,
        200,
    ),
    ChunkingStrategy("qa", dialogue.chunk_questions, "A question with its answer each", 2_000, 0),
    ChunkingStrategy(
        "clause",
        sections.chunk_clauses,
        "A clause each: laws, contracts (第三条, Article 5, § 7, 4.2.1)",
        2_000,
        0,
    ),
    ChunkingStrategy("subtitles", dialogue.chunk_subtitles, "What is said within a while: SRT, WebVTT"),
    ChunkingStrategy("formula", plain.chunk_formulas, "Sentences, formulas in TeX never cut", 1_500),
    ChunkingStrategy(
        "coarse", sentences.chunk_sentences, "1024 tokens of sentences, 100 shared (CoarseChunk)", 4_096, 400
    ),
    ChunkingStrategy(
        "medium", sentences.chunk_sentences, "256 tokens of sentences, 25 shared (MediumChunk)", 1_024, 100
    ),
    ChunkingStrategy(
        "fine", sentences.chunk_sentences, "128 tokens of sentences, 12 shared (FineChunk)", 512, 48
    ),
    ChunkingStrategy(
        "semantic",
        topic.split_sentences,
        "Cut where the meaning turns, by an embedding model",
        2_000,
        0,
        embeds=True,
    ),
    ChunkingStrategy(
        "late",
        sentences.chunk_sentences,
        "Whole sentences, embedded with the document in view (late chunking)",
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
        "What each passage answers, by a chat model",
        2_000,
        0,
        prompts.QUESTIONS,
    ),
    ChunkingStrategy(
        "propositions",
        sentences.chunk_sentences,
        "One fact each, by a chat model",
        1_500,
        0,
        prompts.PROPOSITIONS,
    ),
    ChunkingStrategy(
        "contextual",
        sentences.chunk_sentences,
        "Passages below a sentence on where they stand, by a chat model",
        MAX_CHUNK_COLUMNS,
        MAX_OVERLAP_COLUMNS,
        prompts.CONTEXTUAL,
    ),
)
"""One line for each chunker. A new one is a file and a line here."""


def _accept(strategy: Any) -> ChunkingStrategy:
    if not isinstance(strategy, ChunkingStrategy):
        raise InvalidRequest(f"a chunker must be a ChunkingStrategy, which {strategy!r} is not.")
    return strategy


CHUNKERS = PluginTable(
    "chunker", {item.name: item for item in STRATEGIES}, _accept, reserved_names=("auto", "static")
)
"""All by name, those of plugins too."""

COLUMNS_PER_TOKEN = 4
"""The estimate behind ``static``: four Latin letters, or two Chinese characters, to a token of a GPT tokenizer."""

DEFAULT_PERCENTILE = 95
"""Of the distances between neighbouring sentences: ``semantic`` cuts at those above it."""

MAX_MODEL_NAME_CHARS = 200
"""Characters of a model's name."""

_STATIC_LIMITS = {"max_chunk_size_tokens": (100, 4096, 800), "chunk_overlap_tokens": (0, 2048, 400)}


def check_chunking(strategy: Any, *, by_model: bool = False) -> dict[str, Any]:
    """A ``chunking_strategy`` in its full form. Raises `InvalidRequest` that names the field.

    ``{"type": "auto"}`` picks by format; ``{"type": "static", "static": {…}}`` is OpenAI's; ours are the names in
    `CHUNKERS`, with ``size`` and ``overlap`` in columns, and ``model`` for those that need one. These are for chunk
    groups (``by_model``): a store's own chunks must not wait for a model.
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
                f"'chunk_overlap_tokens' is {values['chunk_overlap_tokens']}, but must not be more than half of "
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
        f"There is no chunking strategy '{str(kind)[:40]}'. There are: {', '.join(strategies)}."
        f"{nearest(str(kind), strategies)}",
        param="chunking_strategy.type",
    )


def needs_model(strategy: Mapping[str, Any]) -> bool:
    """Whether a checked strategy needs a model for its chunks."""
    chunking_strategy = CHUNKERS.get(strategy["type"])
    return chunking_strategy is not None and chunking_strategy.needs_model


def is_late(strategy: Mapping[str, Any]) -> bool:
    """Whether the vectors of a checked strategy's chunks are made with the whole document in view."""
    chunking_strategy = CHUNKERS.get(strategy["type"])
    return chunking_strategy is not None and chunking_strategy.late


def _check_model_fields(
    usual: ChunkingStrategy, strategy: Mapping[str, Any], *, by_model: bool
) -> dict[str, Any]:
    """The fields of a strategy that needs a model. An empty ``model`` is the embedding model of the group.

    ``late`` has none: its vectors are those that a search compares, so they are the group's own.
    """
    if not by_model:
        raise InvalidRequest(
            f"The chunking strategy '{usual.name}' needs a model for every piece, so it makes a chunk group beside the "
            f"store's own chunks: portico stores groups add STORE {usual.name} --strategy {usual.name}",
            param="chunking_strategy.type",
        )
    if usual.late:
        if strategy.get("model"):
            raise InvalidRequest(
                "The chunking strategy 'late' has no model of its own: name it as the embedding model of the group.",
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
            f"'model' must be the name of a model, of at most {MAX_MODEL_NAME_CHARS} characters.",
            param="chunking_strategy.model",
        )
    if usual.prompt:
        return {"model": model}
    percentile = _number(strategy, "percentile", "chunking_strategy.percentile", 50, 99, DEFAULT_PERCENTILE)
    return {"model": model, "percentile": percentile}


def chunk_parts(parts: Iterable[Part], strategy: Mapping[str, Any], default: str) -> list[Part]:
    """Chunks of ``parts`` by a checked strategy; ``default`` names the chunker of the format.

    Raises `InvalidRequest` if its chunker was a plugin that is gone or cannot be loaded.
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
            raise InvalidRequest(f"There is no chunker '{name}': the plugin that had it is not installed.")


def _require_fields(
    fields: Mapping[str, Any], kind: str, known_fields: Collection[str], at: str = "chunking_strategy"
) -> None:
    for name, value in fields.items():
        if name not in known_fields and value not in (None, ""):
            raise InvalidRequest(
                f"The chunking strategy '{kind}' has no '{str(name)[:80]}'.{nearest(str(name), known_fields)}",
                code="unknown_parameter",
                param=f"{at}.{str(name)[:80]}",
            )


def _number(values: Mapping[str, Any], name: str, param: str, low: int, high: int, default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be a whole number from {low} to {high}.", param=param)
    return value
