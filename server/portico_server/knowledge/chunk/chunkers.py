"""The table of chunkers, and how a request names one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.knowledge.chunk import (
    by_line,
    clause,
    code,
    contextual,
    dialogue,
    diff,
    fixed,
    formula,
    json,
    keywords,
    late,
    log,
    markdown,
    outline,
    page,
    paragraph,
    propositions,
    qa,
    questions,
    records,
    recursive,
    rows,
    section,
    semantic,
    sentence,
    slides,
    subtitles,
    summary,
    table,
    token,
    topic,
    window,
)
from portico_server.knowledge.chunk.form import Form
from portico_server.knowledge.part import Part

SIZE = 1_000
"""Columns of a chunk, about: a CJK character takes two, any other one."""

OVERLAP = 100
"""Columns that a chunk repeats of the one before it, at most."""

Chunker: TypeAlias = Callable[[Iterable[Part], int, int], list[Part]]
"""``(parts, size, overlap) -> chunks``, sizes in columns."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A chunker by name, with what it is for and the sizes it takes if none are given.

    One that needs a model cuts the pieces that the model is shown: with a ``form`` a chat model writes the chunks; one
    that ``embeds`` puts pieces together by their vectors; those of one that is ``late`` are chunks, whose vectors are
    made with the whole document in view.
    """

    name: str
    chunk: Chunker
    description: str
    size: int = SIZE
    overlap: int = OVERLAP
    form: Form | None = None
    embeds: bool = False
    late: bool = False

    @property
    def needs_model(self) -> bool:
        return self.form is not None or self.embeds or self.late


STRATEGIES = (
    Strategy("sentence", sentence.chunk, "Whole sentences, English and Chinese"),
    Strategy("paragraph", paragraph.chunk, "Whole paragraphs"),
    Strategy(
        "recursive",
        recursive.chunk,
        "The coarsest cut that fits: empty lines, lines, sentences, commas, spaces",
    ),
    Strategy("topic", topic.chunk, "Cut where the words change: texts without headings", 2_000, 0),
    Strategy(
        "window", window.chunk, "Sentences in windows that each cover half of the one before", SIZE, SIZE // 2
    ),
    Strategy("token", token.chunk, "As many tokens each, cut between words"),
    Strategy("fixed", fixed.chunk, "Exactly as wide each, cut between characters"),
    Strategy("lines", by_line.chunk, "Whole lines"),
    Strategy("markdown", markdown.chunk, "Markdown: blocks stay whole, short sections join the next"),
    Strategy("section", section.chunk, "What stands under one heading: HTML, Word, EPUB, Markdown", 4_000, 0),
    Strategy("outline", outline.chunk, "Plain text with numbered headings: books, reports, standards"),
    Strategy("page", page.chunk, "A page each: PDF", 8_000, 0),
    Strategy("slides", slides.chunk, "A slide each, its notes with it", 4_000, 0),
    Strategy("rows", rows.chunk, "Groups of rows below a repeated header: CSV, spreadsheets", SIZE, 0),
    Strategy("records", records.chunk, "One row each below a repeated header: CSV, spreadsheets", SIZE, 0),
    Strategy("table", table.chunk, "Markdown with wide tables: their header is repeated"),
    Strategy("code", code.chunk, "Definitions, by the syntax tree (Python) or by blank lines"),
    Strategy("json", json.chunk, "Whole values by their path: JSON, JSON lines", SIZE, 0),
    Strategy("log", log.chunk, "Whole log entries, their stack traces with them", SIZE, 0),
    Strategy("diff", diff.chunk, "Whole hunks of a patch", SIZE, 0),
    Strategy("dialogue", dialogue.chunk, "Whole turns of a chat, an interview, a transcript", SIZE, 200),
    Strategy("qa", qa.chunk, "A question with its answer each", 2_000, 0),
    Strategy(
        "clause", clause.chunk, "A clause each: laws, contracts (第三条, Article 5, § 7, 4.2.1)", 2_000, 0
    ),
    Strategy("subtitles", subtitles.chunk, "What is said within a while: SRT, WebVTT"),
    Strategy("formula", formula.chunk, "Sentences, formulas in TeX never cut", 1_500),
    Strategy("coarse", sentence.chunk, "1024 tokens of sentences, 100 shared (CoarseChunk)", 4_096, 400),
    Strategy("medium", sentence.chunk, "256 tokens of sentences, 25 shared (MediumChunk)", 1_024, 100),
    Strategy("fine", sentence.chunk, "128 tokens of sentences, 12 shared (FineChunk)", 512, 48),
    Strategy(
        "semantic",
        semantic.chunk,
        "Cut where the meaning turns, by an embedding model",
        2_000,
        0,
        embeds=True,
    ),
    Strategy(
        "late",
        late.chunk,
        "Whole sentences, embedded with the document in view (late chunking)",
        SIZE,
        0,
        late=True,
    ),
    Strategy("summary", section.chunk, "A summary of each section, by a chat model", 4_000, 0, summary.FORM),
    Strategy(
        "keywords", section.chunk, "The keywords of each section, by a chat model", 4_000, 0, keywords.FORM
    ),
    Strategy(
        "questions", sentence.chunk, "What each passage answers, by a chat model", 2_000, 0, questions.FORM
    ),
    Strategy("propositions", sentence.chunk, "One fact each, by a chat model", 1_500, 0, propositions.FORM),
    Strategy(
        "contextual",
        sentence.chunk,
        "Passages below a sentence on where they stand, by a chat model",
        SIZE,
        OVERLAP,
        contextual.FORM,
    ),
)
"""One line for each chunker. A new one is a file and a line here."""

CHUNKERS: Mapping[str, Strategy] = {item.name: item for item in STRATEGIES}
"""The same by name."""

COLUMNS_PER_TOKEN = 4
"""The estimate behind ``static``: four Latin letters, or two Chinese characters, to a token of a GPT tokenizer."""

PERCENTILE = 95
"""Of the distances between neighbouring sentences: ``semantic`` cuts at those above it."""

NAME = 200
"""Characters of a model's name."""

_STATIC = {"max_chunk_size_tokens": (100, 4096, 800), "chunk_overlap_tokens": (0, 2048, 400)}


def check(strategy: Any, *, by_model: bool = False) -> dict[str, Any]:
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
        return {"type": "auto"}
    if kind == "static":
        static = strategy.get("static")
        if not isinstance(static, Mapping):
            raise InvalidRequest(
                "The chunking strategy 'static' needs an object 'static' with 'max_chunk_size_tokens' and "
                "'chunk_overlap_tokens'.",
                param="chunking_strategy.static",
            )
        values = {
            name: _number(static, name, f"chunking_strategy.static.{name}", *limits)
            for name, limits in _STATIC.items()
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
        found = {"type": kind, "size": size, "overlap": overlap}
        return found | _of_model(usual, strategy, by_model=by_model) if usual.needs_model else found
    known = ("auto", "static", *CHUNKERS)
    raise InvalidRequest(
        f"There is no chunking strategy '{str(kind)[:40]}'. There are: {', '.join(known)}."
        f"{nearest(str(kind), known)}",
        param="chunking_strategy.type",
    )


def needs_model(strategy: Mapping[str, Any]) -> bool:
    """Whether a checked strategy needs a model for its chunks."""
    known = CHUNKERS.get(strategy["type"])
    return known is not None and known.needs_model


def is_late(strategy: Mapping[str, Any]) -> bool:
    """Whether the vectors of a checked strategy's chunks are made with the whole document in view."""
    known = CHUNKERS.get(strategy["type"])
    return known is not None and known.late


def _of_model(usual: Strategy, strategy: Mapping[str, Any], *, by_model: bool) -> dict[str, Any]:
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
    model = strategy.get("model", "default" if usual.form else "")
    if not isinstance(model, str) or len(model) > NAME or (usual.form and not model.strip()):
        raise InvalidRequest(
            f"'model' must be the name of a model, of at most {NAME} characters.",
            param="chunking_strategy.model",
        )
    if usual.form:
        return {"model": model}
    percentile = _number(strategy, "percentile", "chunking_strategy.percentile", 50, 99, PERCENTILE)
    return {"model": model, "percentile": percentile}


def chunk(parts: Iterable[Part], strategy: Mapping[str, Any], default: str) -> list[Part]:
    """Chunks of ``parts`` by a checked strategy; ``default`` names the chunker of the format."""
    match strategy.get("type"):
        case "static":
            static = strategy["static"]
            size = static["max_chunk_size_tokens"] * COLUMNS_PER_TOKEN
            overlap = static["chunk_overlap_tokens"] * COLUMNS_PER_TOKEN
            return CHUNKERS[default].chunk(parts, size, overlap)
        case str(name) if name in CHUNKERS:
            return CHUNKERS[name].chunk(parts, strategy["size"], strategy["overlap"])
        case _:
            usual = CHUNKERS[default]
            return usual.chunk(parts, usual.size, usual.overlap)


def _number(values: Mapping[str, Any], name: str, param: str, low: int, high: int, default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be a whole number from {low} to {high}.", param=param)
    return value
