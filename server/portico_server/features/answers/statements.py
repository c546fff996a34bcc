"""A question and a statement in the form in which statements are compared: their words without the facts that may
differ. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from portico.wire import Passage
from portico_server.core.words import MONTHS
from portico_server.features.answers import expects
from portico_server.features.answers.attributes import attribute_spans, attributes_in
from portico_server.features.answers.dates import WEEKDAYS, dates_in, find_dates
from portico_server.features.answers.material import MAX_UNIT_CHARACTERS, QuoteCandidate, context_of
from portico_server.features.answers.names import NameWord, holds_name, names_in
from portico_server.features.answers.negations import affirmation, clauses_of, without_spans
from portico_server.features.answers.precedence import STAMP
from portico_server.features.answers.quantities import NUMBER_WORDS, Quantity, quantities_in
from portico_server.features.answers.relevance import ASKING_WORDS_CJK
from portico_server.features.answers.terms import fold, has_cjk, joined_nouns, stems, tag_words, words

MAX_DIFFERENT_SHARE = 0.34
"""Maximum share of the question's words, other than nouns, that only one of two Chinese sentences has."""

_YES_NO = re.compile(
    r"\s*(?:is|are|was|were|does|do|did|can|could|may|must|should|will|has|have)\b"
    r"|.*(?:[吗嗎]|是否|能否|可否|能不能|可不可以|有没有|要不要|需不需要|会不会|是不是|(.)不\1)",
    re.IGNORECASE | re.DOTALL,
)
"""A question that is answered with yes or no."""

_GENERIC = re.compile(
    r"\b(?:times?|hours?|dates?|days?|years?|numbers?|amount|names?|persons?|currently|current|now|today)\b"
    rf"|{ASKING_WORDS_CJK}|时间|日期|数量|人数|名字|姓名|现在|目前|如今"
)
"""Words of a question that its answers rarely contain."""

_FACT_WORDS = NUMBER_WORDS | {*MONTHS, *WEEKDAYS}


class QuestionSubject:
    """The words of a question. Two statements can only contradict each other if they share the same words with the
    question. A few Chinese words other than nouns may differ, because they often have synonyms.
    """

    def __init__(self, question: str) -> None:
        question = question[:MAX_UNIT_CHARACTERS]
        self.folded = fold(question)
        self.dates = dates_in(self.folded)
        self.kind = expects.kind(question)
        self.is_yes_no = _YES_NO.match(question) is not None
        self.attributes = attributes_in(self.folded)
        text = affirmation(self.folded).text if self.is_yes_no else self.folded
        text = _GENERIC.sub(" ", text)
        text = without_spans(text, attribute_spans(text))
        tagged_words = (
            [item for item in tag_words(text) if has_cjk(item.word) and len(item.word) > 1]
            if has_cjk(text)
            else []
        )
        for item in tagged_words:
            text = text.replace(item.word, " ")
        # The tagger splits unknown names into single characters, which remain in the text.
        pairs = frozenset(stems([word for word in words(text) if len(word) > 1 or not has_cjk(word)]))
        self._joined_nouns = frozenset(joined_nouns(self.folded)) if tagged_words else frozenset[str]()
        self.nouns = pairs | {item.word for item in tagged_words if item.tag[:1] == "n"} | self._joined_nouns
        self.words = self.nouns | {item.word for item in tagged_words}
        names = [name.word for name in names_in(question, self.folded) if name.certain]
        self.names = self.nouns & (frozenset(stems(words(" ".join(names)))) | frozenset(names))
        self.names |= {word for word in pairs if has_cjk(word)} | self._joined_nouns

    def concerns_both(self, statement: Statement, other: Statement) -> bool:
        """Return whether two statements say the same about the subject of the question."""
        different = statement.shared_words ^ other.shared_words
        if different & self.nouns or len(different) > MAX_DIFFERENT_SHARE * len(self.words):
            return False
        if statement.shared_attributes != other.shared_attributes:
            return False
        return not self.dates or (self.dates & statement.dates) == (self.dates & other.dates)

    def covers(self, *statements: Statement) -> bool:
        """Return whether all statements share all words with the question."""
        needed_words = self.words - self._joined_nouns
        return bool(needed_words) and all(needed_words <= statement.shared_words for statement in statements)


class StatementContext:
    """The headings and the file name of a passage."""

    def __init__(self, passage: Passage) -> None:
        self.text = fold(context_of(passage))
        self.terms = frozenset(stems(words(self.text)))


class Statement:
    """A unit with its facts, and the words and attributes that it and its context share with a question. ``body`` is
    its text without a date at the beginning that says since when it is true.
    """

    def __init__(
        self, candidate: QuoteCandidate, context: StatementContext, subject: QuestionSubject
    ) -> None:
        self.candidate = candidate
        self.folded = candidate.folded
        self.known_terms = candidate.terms | context.terms
        self.known_text = f"{self.folded}\n{context.text}"
        self.shared_words = frozenset(
            word
            for word in subject.words
            if word in self.known_terms or (has_cjk(word) and word in self.known_text)
        )
        self._subject = subject
        stamp = STAMP.match(self.folded)
        begin = stamp.end() if stamp is not None else 0
        self.body = self.folded[begin:]
        self.text = candidate.text[begin:MAX_UNIT_CHARACTERS]

    @cached_property
    def shared_attributes(self) -> frozenset[int]:
        return self._subject.attributes & attributes_in(self.folded)

    @cached_property
    def quantities(self) -> Sequence[Quantity]:
        return quantities_in(self.body)

    @cached_property
    def _dates(self) -> Sequence[tuple[int, int, frozenset[str]]]:
        return tuple(find_dates(self.body))

    @cached_property
    def dates(self) -> frozenset[str]:
        return frozenset(part for _start, _end, parts in self._dates for part in parts)

    @cached_property
    def terms(self) -> frozenset[str]:
        return _terms_of(without_spans(self.body, self.fact_spans))

    @cached_property
    def fact_spans(self) -> list[tuple[int, int]]:
        spans = [quantity.span for quantity in self.quantities]
        return spans + [(start, end) for start, end, _parts in self._dates]

    @cached_property
    def state_terms(self) -> frozenset[str]:
        return _terms_of(affirmation(self.body).text)

    @cached_property
    def names(self) -> tuple[NameWord, ...]:
        # The Chinese tagger takes the last character of a subject and an attribute, such as 塔高, for a name.
        spans = self.fact_spans + (attribute_spans(self.body) if has_cjk(self.body) else [])
        text, folded_text = (without_spans(value, spans) for value in (self.text, self.body))
        return tuple(name for name in names_in(text, folded_text) if name.certain)

    def terms_without(self, names: Sequence[str]) -> frozenset[str]:
        """Return the words without names."""
        text = self.body
        for name in names:
            text = text.replace(name, " ")
        return frozenset(stems(words(text)))

    def own_names(self, other: Statement) -> list[str]:
        """Return the words of names that occur neither in ``other`` and its context nor in the question."""
        other_text = f"{other.known_text}\n{self._subject.folded}"
        return [
            name.word
            for name in self.names
            if not _is_number(name.word)
            and not any(word in name.word for word in self._subject.words)
            and not holds_name(name, other_text, other.known_terms)
        ]

    @cached_property
    def nearest_clause(self) -> tuple[str, bool]:
        """Return the clause with most words of the question, and whether it is negated. If several clauses have as
        many words, return the whole statement.
        """
        clauses = clauses_of(self.body)
        counts = [
            sum(
                word in clause if has_cjk(word) else word in _terms_of(clause) for word in self._subject.words
            )
            for clause, _is_negated in clauses
        ]
        if counts.count(max(counts, default=0)) == 1:
            return clauses[counts.index(max(counts))]
        return self.body, sum(is_negated for _clause, is_negated in clauses) % 2 == 1


def _terms_of(text: str) -> frozenset[str]:
    return frozenset(stems([word for word in words(text) if not _is_number(word)]))


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _FACT_WORDS
