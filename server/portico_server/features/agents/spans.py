"""The words of the user that support a fact: where they are in the message, and whether the fact follows from them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from portico.schemas.facts import FactSpan
from portico_server.features.agents.entailment import is_own_statement, statement_around, verdict
from portico_server.features.agents.foreign_data import origins_of, own_texts
from portico_server.features.agents.message import AgentMessage

MAX_SPAN_CHARS: Final = 500
"""Maximum length of a span, in characters: an attribute of a file has at most 512."""

MAX_WORDS_CHARS: Final = 20_000
"""Maximum number of characters of a message that are read for facts."""

_QUOTATION_MARKS: Final = "\"'“”‘’「」 "


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
    if not any(char.isalnum() for char in quoted_text):
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


def find_support(fact: str, span: FactSpan, spans: Sequence[FactSpan]) -> tuple[str, FactSpan] | None:
    """Return a fact with its words if it follows from the words, which are in ``spans``.

    A fact that is not proven is replaced by the user's own statement. Return ``None`` if the words have another sense.
    """
    own_text = next(text for text in spans if text.start <= span.start and span.end <= text.end)
    start, end = span.start - own_text.start, span.end - own_text.start
    judgement = verdict(fact, own_text.words, start, end)
    if judgement == "follows":
        return fact, span
    start, end = statement_around(own_text.words, start, end)
    statement = own_text.words[start:end]
    if judgement == "changed" or end - start > MAX_SPAN_CHARS or not is_own_statement(fact, statement):
        return None
    return statement, FactSpan(statement, own_text.start + start, own_text.start + end)


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
