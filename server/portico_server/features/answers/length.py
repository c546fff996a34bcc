"""The length of an answer that no model wrote: counted in tokens and cut to ``max_tokens``. Pure functions."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from portico_server.core.dataclass import dataclass
from portico_server.features.answers.language import CJK

CHARACTERS_PER_TOKEN = 4.0
CJK_CHARACTERS_PER_TOKEN = 1.3
"""Average number of Chinese, Japanese or Korean characters per token in the vocabularies of large models. No tokenizer
is used, because quotations need no model.
"""

_CJK = re.compile(rf"[{CJK}]")
_MARK = re.compile(r"(?: |\n>\n> )\[\d+\](?: \|)?\Z")
_SENTENCE_END = re.compile(r"[.!?…][\"'”’)\]]*(?=\s|\Z)|[。！？；]|\n")
_WORD_END = re.compile(rf"(?<=\S)(?=\s)|(?<=[{CJK}])")
_FENCE = re.compile(r"^> (```|~~~)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MeasuredAnswer:
    """The pieces of an answer, their number of tokens, and whether any text was cut off."""

    pieces: tuple[str, ...]
    tokens: int
    cut: bool

    @property
    def finish_reason(self) -> str:
        return "length" if self.cut else "stop"


def count_tokens(text: str) -> int:
    """Return approximately how many tokens a large model needs to encode ``text``."""
    cjk = len(_CJK.findall(text))
    return math.ceil((len(text) - cjk) / CHARACTERS_PER_TOKEN + cjk / CJK_CHARACTERS_PER_TOKEN)


def cut_to_length(pieces: Sequence[str], max_tokens: int | None) -> MeasuredAnswer:
    """Return the part of ``pieces`` that fits into ``max_tokens``, or all pieces if it is ``None``.

    The last piece is cut after a sentence or a line, or after a word if less than half of the piece would remain. Its
    citation number is kept. If not even one word of a piece fits, the piece is omitted.
    """
    kept_pieces: list[str] = []
    for piece in pieces:
        joined_text = "".join((*kept_pieces, piece))
        if max_tokens is None or count_tokens(joined_text) <= max_tokens:
            kept_pieces.append(piece)
            continue
        shorter = _shorten(piece, "".join(kept_pieces), max_tokens)
        kept_pieces += [shorter] if shorter else []
        return MeasuredAnswer(tuple(kept_pieces), count_tokens("".join(kept_pieces)), cut=True)
    return MeasuredAnswer(tuple(kept_pieces), count_tokens("".join(kept_pieces)), cut=False)


def _shorten(piece: str, before: str, max_tokens: int) -> str:
    """Return the longest beginning of ``piece`` that fits after ``before`` and ends at a sentence, line or word; empty
    if nothing fits.
    """
    mark = found_match[0] if (found_match := _MARK.search(piece)) else ""
    text = piece[: len(piece) - len(mark)]
    excerpt_size = _fitting(text, before, mark, max_tokens)
    ends = [
        match.end() for match in _WORD_END.finditer(text, 0, excerpt_size + 1) if match.end() <= excerpt_size
    ]
    while ends:
        sentences = [
            match.end()
            for match in _SENTENCE_END.finditer(text, 0, excerpt_size)
            if match.end() * 2 >= excerpt_size
        ]
        end = sentences[-1] if sentences else ends[-1]
        closed_text = _close_fences(text[:end].rstrip("\n> ")) + mark
        if count_tokens(before + closed_text) <= max_tokens:
            return closed_text if re.search(r"\w", closed_text[: len(closed_text) - len(mark)]) else ""
        excerpt_size = end - 1
        ends = [place for place in ends if place <= excerpt_size]
    return ""


def _fitting(text: str, before: str, mark: str, max_tokens: int) -> int:
    """Return how many characters of ``text`` fit into ``max_tokens`` between ``before`` and ``mark``."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if count_tokens(before + text[:middle] + mark) <= max_tokens:
            low = middle
        else:
            high = middle - 1
    return low


def _close_fences(text: str) -> str:
    """Close the fence of code that was cut off, so that the text after it does not become part of the code."""
    fences = _FENCE.findall(text)
    return f"{text}\n> {fences[-1]}" if len(fences) % 2 else text
