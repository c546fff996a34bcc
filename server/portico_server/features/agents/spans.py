"""The words of the user that support a fact: where they are in the message, and whether the fact follows from them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from portico.schemas.facts import FactSpan
from portico_server.features.agents.foreign_data import origins_of, own_texts
from portico_server.features.agents.message import AgentMessage
from portico_server.features.answers.claims import find_change
from portico_server.features.answers.terms import fold, has_cjk, stems, words

MAX_SPAN_CHARS: Final = 500
"""Maximum length of a span, in characters: an attribute of a file has at most 512."""

MAX_WORDS_CHARS: Final = 20_000
"""Maximum number of characters of a message that are read for facts."""

_RESTATING_WORDS: Final = (
    "become begin born buy call choose drink drive eat enjoy every fear feel go have keep learn like listen live love "
    "meet name need never own plan planned play prefer preferred read ride since sleep speak start stop stopped study "
    "take travel use visit want watch wear without work write year"
)
_RESTATING_STEMS: Final = frozenset(stems(_RESTATING_WORDS.split()))
"""Stems of words with which a fact restates what the user says in other words: "moved to Oslo" as "lives in Oslo"."""

MIN_PREFIX_CHARS: Final = 4
"""Minimum length of a stem, in characters, that counts as equal to a longer stem that begins with it."""

_QUOTATION_MARKS: Final = "\"'“”‘’「」 "
_USER: Final = re.compile(
    r"\b(?:the|this) user(?:['’]s)?\b|\buser(?:['’]s)?\b|(?:该|这位)?用户的?", re.IGNORECASE
)
"""The name by which a fact calls the person who says "I"."""


def own_words(message: AgentMessage) -> tuple[FactSpan, ...]:
    """Return the texts in a message that the user wrote, without attached files; none if the message depends on foreign
    data. Texts after the first `MAX_WORDS_CHARS` are left out.
    """
    if origins_of([replace(message, content="")]):
        return ()
    texts = ((start, text[: max(0, MAX_WORDS_CHARS - start)]) for start, text in own_texts(message))
    return tuple(FactSpan(text, start, start + len(text)) for start, text in texts if text.strip())


def find_span(quotation: str, spans: Sequence[FactSpan]) -> FactSpan | None:
    """Return where the user said a quotation; ``None`` if ``spans`` do not contain it.

    The quotation may differ in white space, letter case and the width of characters.
    """
    quoted_text = _text_of(_normal(quotation.strip(_QUOTATION_MARKS))).strip()
    if not quoted_text:
        return None
    for span in spans:
        chars = list(_normal(span.words))
        at = _text_of(chars).find(quoted_text)
        if at >= 0:
            start, end = chars[at][1], chars[at + len(quoted_text) - 1][1] + 1
            words_said = span.words[start:end]
            if len(words_said) <= MAX_SPAN_CHARS:
                return FactSpan(words_said, span.start + start, span.start + end)
    return None


def is_supported(fact: str, span: FactSpan) -> bool:
    """Return whether the span supports the fact: it has the fact's words, except words that restate, and the fact's
    names, numbers, dates and negation.
    """
    claim = " ".join(_USER.sub(" ", fact).split())
    source_text = unicodedata.normalize("NFKC", span.words)
    terms, source_terms = (stems(words(fold(text))) for text in (claim, source_text))
    own_terms = {term for term in terms if not _has_term(source_terms, term)}
    # The value of a fact is its last word, such as "work" in "The user cycles to work": it restates nothing.
    if not terms or terms[-1] in own_terms or own_terms - _RESTATING_STEMS:
        return False
    return not find_change(claim, source_text)


def _has_term(terms: Iterable[str], wanted_term: str) -> bool:
    """Return whether ``terms`` contain a term, a longer form of it, or a pair of Chinese characters with it."""
    return any(
        wanted_term in term
        if has_cjk(wanted_term)
        else wanted_term == term or _begins(term, wanted_term) or _begins(wanted_term, term)
        for term in terms
    )


def _begins(stem: str, beginning: str) -> bool:
    return len(beginning) >= MIN_PREFIX_CHARS and stem.startswith(beginning)


def _normal(text: str) -> Iterator[tuple[str, int]]:
    """Yield the characters of ``text`` in one width and letter case, each with its position; a run of white space is
    one blank.
    """
    is_blank = True
    for at, original in enumerate(text):
        for char in unicodedata.normalize("NFKC", original).casefold():
            if not char.isspace():
                yield char, at
            elif not is_blank:
                yield " ", at
            is_blank = char.isspace()


def _text_of(chars: Iterable[tuple[str, int]]) -> str:
    return "".join(char for char, _at in chars)
