"""Late chunking: computes the vector of a passage from the passage's tokens in the context of the document.

Source: M. Günther et al., 2024, https://arxiv.org/abs/2409.04701. The vector of a passage that says "the city" is then
near the name of the city, which occurs earlier in the document.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import EngineFailed
from portico_server.core.request import Embed, Vectors
from portico_server.features.chunkers.document import Part
from portico_server.features.stores.model_calls import call_model

CALL_CHARS = 50_000
"""Approximate number of characters of passages in one call of the model."""


CONTEXT_CHARS = 8_000
"""Maximum number of characters of the document included on each side of the passages, if the model's context allows."""


@dataclass(frozen=True, slots=True)
class PassageWindow:
    """The passages ``first`` to ``last`` (exclusive) of a document: a text that contains them, and the position of
    each in it.
    """

    first: int
    last: int
    text: str
    spans: tuple[tuple[int, int], ...]


async def late_vectors(
    pieces: Sequence[Part], model: str, context: Context, start: int = 0
) -> AsyncGenerator[tuple[int, list[Part], list[bytes]], None]:
    """Yield pieces with their vectors, beginning with the piece ``start``: (number of pieces completed, pieces,
    vectors).
    """
    begin = start
    while begin < len(pieces):
        part = passage_window(pieces, begin)
        result = await call_model(context, model, Embed((part.text,), spans=(part.spans,)))
        if not isinstance(result, Vectors) or len(result.data) != len(part.spans):
            raise EngineFailed(f"'{model}' returned vectors that do not match the requested passages.")
        yield part.last, list(pieces[part.first : part.last]), list(result.data)
        begin = part.last


def passage_window(pieces: Sequence[Part], first: int) -> PassageWindow:
    """Return as many pieces as one call allows, beginning with the piece ``first``, with the surrounding text."""
    last, wide = first, 0
    while last < len(pieces) and (last == first or wide + len(pieces[last].text) <= CALL_CHARS):
        wide += len(pieces[last].text)
        last += 1
    before, behind = first, last
    wide = 0
    while before and wide + len(pieces[before - 1].text) <= CONTEXT_CHARS:
        before -= 1
        wide += len(pieces[before].text)
    wide = 0
    while behind < len(pieces) and wide + len(pieces[behind].text) <= CONTEXT_CHARS:
        wide += len(pieces[behind].text)
        behind += 1
    text, spans = join_with_spans(pieces[before:behind])
    return PassageWindow(first, last, text, spans[first - before : last - before])


def join_with_spans(pieces: Sequence[Part]) -> tuple[str, tuple[tuple[int, int], ...]]:
    """Join consecutive pieces into one text without repeating overlaps. Return the text and the position of each piece
    in it.
    """
    texts: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    last: Part | None = None
    for piece in pieces:
        shared_chars = 0 if last is None else last.place.end - piece.place.start
        if last is not None and not (shared_chars >= 0 and last.text.endswith(piece.text[:shared_chars])):
            shared_chars = (
                -1
            )  # other text separates the pieces, or they belong to two documents of one archive
        gap = "\n" if shared_chars < 0 else ""
        shared_chars = max(0, shared_chars)
        texts += (gap, piece.text[shared_chars:])
        begin = length + len(gap) - shared_chars
        spans.append((begin, begin + len(piece.text)))
        length = max(length, spans[-1][1])
        last = piece
    return "".join(texts), tuple(spans)
