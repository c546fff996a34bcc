"""The table of chunkers, and how a request names one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.knowledge.chunk import code, markdown, rows, sentence
from portico_server.knowledge.part import Part

SIZE = 1_000
"""Columns of a chunk, about: a CJK character takes two, any other one."""

OVERLAP = 100
"""Columns that a chunk repeats of the one before it, at most."""

Chunker: TypeAlias = Callable[[Iterable[Part], int, int], list[Part]]

CHUNKERS: Mapping[str, Chunker] = {
    "sentence": sentence.chunk,
    "markdown": markdown.chunk,
    "code": code.chunk,
    "rows": rows.chunk,
}
"""One line for each chunker: ``(parts, size, overlap) -> chunks``, sizes in columns."""

COLUMNS_PER_TOKEN = 4
"""The estimate behind ``static``: four Latin letters, or two Chinese characters, to a token of a GPT tokenizer."""

_STATIC = {"max_chunk_size_tokens": (100, 4096, 800), "chunk_overlap_tokens": (0, 2048, 400)}


def check(strategy: Any) -> dict[str, Any]:
    """A ``chunking_strategy`` in its full form. Raises `InvalidRequest` that names the field.

    ``{"type": "auto"}`` picks by format; ``{"type": "static", "static": {…}}`` is OpenAI's; ours are the names in
    `CHUNKERS`, with ``size`` and ``overlap`` in columns.
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
    if kind in CHUNKERS:
        size = _number(strategy, "size", "chunking_strategy.size", 50, 20_000, SIZE)
        overlap = _number(
            strategy, "overlap", "chunking_strategy.overlap", 0, size // 2, min(OVERLAP, size // 2)
        )
        return {"type": kind, "size": size, "overlap": overlap}
    known = ("auto", "static", *CHUNKERS)
    raise InvalidRequest(
        f"There is no chunking strategy '{str(kind)[:40]}'. There are: {', '.join(known)}."
        f"{nearest(str(kind), known)}",
        param="chunking_strategy.type",
    )


def chunk(parts: Iterable[Part], strategy: Mapping[str, Any], default: str) -> list[Part]:
    """Chunks of ``parts`` by a checked strategy; ``default`` names the chunker of the format."""
    match strategy.get("type"):
        case "static":
            static = strategy["static"]
            size = static["max_chunk_size_tokens"] * COLUMNS_PER_TOKEN
            overlap = static["chunk_overlap_tokens"] * COLUMNS_PER_TOKEN
            return CHUNKERS[default](parts, size, overlap)
        case str(name) if name in CHUNKERS:
            return CHUNKERS[name](parts, strategy["size"], strategy["overlap"])
        case _:
            return CHUNKERS[default](parts, SIZE, OVERLAP)


def _number(values: Mapping[str, Any], name: str, param: str, low: int, high: int, default: int) -> int:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(f"'{name}' must be a whole number from {low} to {high}.", param=param)
    return value
