"""Packs whole English and Chinese sentences into chunks. The default chunker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from portico_server.features.chunkers.document import Part
from portico_server.features.chunkers.spans import Span, around_tables, carve, cut, pack, width

# A sentence ends after a Chinese full stop, question mark, exclamation mark or semicolon, including closing
# quotes and brackets; after a Latin mark followed by white space; or at an empty line. The lookbehinds keep
# matching linear: a long run of marks or white space is examined once, not again from each position in it.
_SENTENCE_END = re.compile(
    r"[。！？；…]+[”’」』）》】\"')\]]*\s*"
    r"|(?<![.!?])[.!?]++[\"'”’)\]]*+\s+"
    r"|(?<!\s)(?=\s*\n\s*\n)\s+"
)
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:[A-Za-z]|[ap]\.m|e\.g|i\.e|etc|cf|vs|Mr|Mrs|Ms|Dr|Prof|St|No|Nr|Fig|Figs|Eq|Sec|Ch|Vol|pp|al|Inc|Ltd|Co"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sep|Sept|Oct|Nov|Dec|approx|resp)$"
)


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[Span]:
    """Yield the spans of sentences. The spans cover the whole text; white space after a sentence belongs to the
    sentence.
    """
    end = len(text) if end is None else end
    begin = start
    for match in _SENTENCE_END.finditer(text, start, end):
        if match.end() == begin:
            continue
        mark = text[match.start()]
        if (
            mark == "."
            and "\n\n" not in match.group()
            and _ABBREVIATION.search(text, max(begin, match.start() - 8), match.start())
        ):
            continue
        yield begin, match.end()
        begin = match.end()
    if begin < end:
        yield begin, end


def cut_wide(text: str, spans: Iterable[Span], size: int) -> Iterator[Span]:
    """Yield the spans; split spans wider than ``size`` columns."""
    for span in spans:
        if width(text[span[0] : span[1]]) > size:
            yield from cut(text, span, size)
        else:
            yield span


def chunk_sentences(parts: Iterable[Part], size: int, overlap: int) -> list[Part]:
    """Pack sentences up to ``size`` columns. Short parts under the same heading are not joined, so that pages stay
    separate.
    """

    def prose(part: Part, span: Span) -> list[Part]:
        units = cut_wide(part.text, sentences(part.text, *span), size)
        return carve(part, pack(part.text, units, size, overlap))

    return [piece for part in parts for piece in around_tables(part, size, prose, is_ruled=False)]
