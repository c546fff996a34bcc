"""Splits an answer that arrives in pieces into sentences, and determines which sentences make claims about the
documents.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from portico_server.core.citation_marks import MARK_PATTERN, marks
from portico_server.features.answers.dates import dates_in
from portico_server.features.answers.names import names_in
from portico_server.features.answers.quantities import quantities_in
from portico_server.features.answers.terms import fold, words
from portico_server.features.answers.units import sentences

MAX_CLAIMS = 1_000
"""Maximum number of sentences in an answer that are checked. All text after them is one claim without evidence
(``too_long``).
"""

MAX_CLAIM_CHARS = 2_000
"""Maximum length of a sentence, in characters. A longer sentence is split, so that each piece is checked separately."""

MIN_CLAIM_TERMS = 2
"""Minimum number of meaningful words in a claim. A sentence with fewer words and without a fact contains nothing to
check.
"""

_MARKUP = re.compile(
    r"(?m)^[ \t]*(?:>[ \t]?)+(?:#{1,6}[ \t])?|^[ \t]*#{1,6}[ \t]|^[ \t]*(?:[-*+•]|\d{1,3}[.)])[ \t]+|\*\*|__"
    rf"|{MARK_PATTERN}"
)
_HEADING = re.compile(r"#{1,6}\s")
_FENCE = re.compile(r"[ \t>]*(?:```|~~~)")
_FENCED_MARKUP = re.compile(rf"(?m)^[ \t>]*(?:```|~~~).*$|^[ \t]*(?:>[ \t]?)+|{MARK_PATTERN}\s*\Z")
_FENCE_END = re.compile(r"\n[ \t>]*(?:```|~~~)[^\n]*(?:\n|$)")
_FENCE_BEGIN = re.compile(r"\n[ \t>]*(?:```|~~~)")
_MARKS = re.compile(rf"(?:[ \t]*{MARK_PATTERN})+")
_OPEN_MARK = re.compile(r"[ \t]*[\[【][\d\s,，、;]{0,20}")
"""Text that may still become a citation mark of the preceding sentence."""

_MAY_END = re.compile(r"[.!?…。！？｡\n]")
_RULE = re.compile(r"[\s|:=*_-]*$")
_DENIAL = re.compile(
    r"\b(?:passages?|documents?|context|sources?|texts?)\s+(?:\w+\s+)?(?:do|does|did|may|might)(?:\s+not|n[’']t)\s+(?:\w+\s+)?"
    r"(?:mention|say|state|contain|provide|specify|include|answer|give|describe|cover)"
    r"|\bnot\s+(?:\w+\s+){0,2}(?:in|by)\s+(?:the|these)\s+(?:\w+\s+)?(?:passages?|documents?|context|sources?)"
    r"|(?:文档|文件|段落|资料|上下文)[^，。]{0,6}(?:没有|未|并未)[^，。]{0,4}(?:提|说|包含|相关|给出|说明)",
    re.IGNORECASE,
)


class Sentence(NamedTuple):
    """A sentence of an answer: its offsets, its text without markup, and the citation numbers in it.

    ``kind``: ``claim``; ``other`` for a sentence that says nothing about the documents, such as a heading or a
    question; ``rest`` for all text after the last checked sentence.
    """

    start: int
    end: int
    text: str
    hints: tuple[int, ...] = ()
    kind: Literal["claim", "other", "rest"] = "claim"


def without_markup(text: str) -> str:
    """Replace Markdown and citation marks in ``text`` with spaces of the same length."""
    return _MARKUP.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


class ClaimReader:
    """Splits an answer that arrives in pieces into sentences. A sentence is complete when the next sentence begins or
    the answer ends.

    `feed` and `close` return pieces of text and sentences in order: a sentence follows the piece with its last
    character, and precedes the text after it.
    """

    def __init__(self) -> None:
        self._open = ""
        """Text that is not yet part of a returned sentence."""
        self._start = 0
        """Offset in the answer at which the open text begins."""
        self._shown_chars = 0
        """Number of characters of the open text that have already been returned."""
        self._fenced = False
        self._count = 0
        self._rest = -1
        """Offset in the answer after which text is not checked; negative if all text is checked."""
        self._size = 0

    def feed(self, text: str) -> list[str | Sentence]:
        """Process the next piece of the answer."""
        self._size += len(text)
        if self._rest >= 0:
            return [text] if text else []
        self._open += text
        found_sentences: list[str | Sentence] = []
        if _MAY_END.search(self._open, max(0, len(self._open) - len(text) - 8)) or self._is_long:
            found_sentences = self._split(last=False)
        return [*found_sentences, *self._shown_rest()]

    def skip(self, text: str) -> list[str | Sentence]:
        """Process a piece that is not checked. Return it after the preceding text."""
        found_sentences = self.close()
        self._size += len(text)
        self._start += len(text)
        return [*found_sentences, text]

    def close(self) -> list[str | Sentence]:
        """Return the remaining text at the end of the answer."""
        if self._rest >= 0:
            return [Sentence(self._rest, self._size, "", kind="rest")]
        return [*self._split(last=True), *self._shown_rest()]

    @property
    def _is_long(self) -> bool:
        return len(self._open) > MAX_CLAIM_CHARS

    def _shown_rest(self) -> list[str | Sentence]:
        text, self._shown_chars = self._open[self._shown_chars :], len(self._open)
        return [text] if text else []

    def _split(self, *, last: bool) -> list[str | Sentence]:
        found_sentences: list[str | Sentence] = []
        while (end := self._next_end(last=last)) > 0:
            piece = self._open[:end]
            if len(piece) > self._shown_chars:
                found_sentences.append(piece[self._shown_chars :])
            found_sentences.append(self._sentence(piece))
            self._count += 1
            self._open, self._start = self._open[end:], self._start + end
            self._shown_chars = max(0, self._shown_chars - end)
            if self._count >= MAX_CLAIMS and not last:
                self._rest = self._start
                break
        return found_sentences

    def _next_end(self, *, last: bool) -> int:
        """Return the end of the first open sentence, including its citation marks; 0 if the sentence may continue."""
        if not self._open:
            return 0
        if _FENCE.match(self._open) or self._fenced:
            return self._fence_end(last=last)
        fence = _FENCE_BEGIN.search(self._open, 0, 2 * MAX_CLAIM_CHARS)
        spans = sentences(without_markup(self._open[: fence.start() + 1 if fence else 2 * MAX_CLAIM_CHARS]))
        if not spans:
            if fence is not None:
                return fence.start() + 1
            return min(len(self._open), MAX_CLAIM_CHARS) if last or self._is_long else 0
        first_end = min(spans[0][1], MAX_CLAIM_CHARS)
        if len(spans) > 1:
            if not last and _OPEN_MARK.fullmatch(self._open, first_end):
                return 0
            return self._behind_marks(first_end, spans[1][0])
        if fence is not None:
            return fence.start() + 1
        if last or self._is_long:
            return min(len(self._open), MAX_CLAIM_CHARS)
        return 0

    def _behind_marks(self, end: int, limit: int) -> int:
        """Return the position after the citation marks that follow a sentence."""
        match = _MARKS.match(self._open, end)
        return match.end() if match is not None and match.end() <= limit else end

    def _fence_end(self, *, last: bool) -> int:
        """Return the end of fenced code. The whole code is one claim, unless it is too long."""
        closing = _FENCE_END.search(self._open, 0 if self._fenced else 3, MAX_CLAIM_CHARS)
        if closing is not None and (last or closing.group().endswith("\n")):
            self._fenced = False
            return closing.end()
        if self._is_long:
            self._fenced = True
            return MAX_CLAIM_CHARS
        self._fenced = self._fenced and not last
        return len(self._open) if last else 0

    def _sentence(self, piece: str) -> Sentence:
        hints = tuple(dict.fromkeys(number for _at, numbers in marks(piece) for number in numbers))
        is_fenced = _FENCE.match(piece) is not None
        plain = _FENCED_MARKUP.sub("", piece) if is_fenced else without_markup(piece)
        bare = piece if is_fenced or not plain.strip() else plain
        start = self._start + len(bare) - len(bare.lstrip())
        end = self._start + len(piece.rstrip())
        return Sentence(
            min(start, end), end, plain.strip(), hints, "claim" if is_claim(piece, plain) else "other"
        )


def is_claim(piece: str, plain: str) -> bool:
    """Return whether a sentence says something about the documents. A heading, a question, a lead-in or a statement
    that the documents do not answer does not.
    """
    text = plain.strip()
    if not text or _RULE.match(text) or _HEADING.match(piece.lstrip(" >")) or text.endswith(("?", "？")):
        return False
    if _DENIAL.search(text):
        return False
    folded_text = fold(text)
    text_words = words(folded_text)
    if text.endswith((":", "：")):
        return bool(quantities_in(folded_text) or dates_in(folded_text))
    if len(text_words) >= MIN_CLAIM_TERMS:
        return True
    return bool(quantities_in(folded_text) or dates_in(folded_text) or names_in(text, folded_text))
