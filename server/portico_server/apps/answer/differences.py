"""Contradictions: finds a sentence in another file that states a different number or date than the best sentence, or
the opposite.

Two sentences contradict each other if they make the same statement about the same subject but differ in a fact. No
model is called. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Final, Literal, TypeAlias

from portico.wire import Passage
from portico_server.apps.answer import expects
from portico_server.apps.answer.dates import WEEKDAYS, dates_in
from portico_server.apps.answer.material import (
    MAX_UNIT_CHARACTERS,
    QuoteCandidate,
    context_of,
    is_code,
    quote_candidate,
)
from portico_server.apps.answer.names import NameWord, holds_name, names_in
from portico_server.apps.answer.negations import are_opposed, clauses_of
from portico_server.apps.answer.quantities import NUMBER_WORDS, quantities_in
from portico_server.apps.answer.terms import fold, stems, words
from portico_server.apps.answer.units import units
from portico_server.core.dataclass import dataclass
from portico_server.core.words import MONTHS

MAX_COMPARED_PASSAGES = 8
MAX_COMPARED_UNITS = 200
"""Maximum number of units (passages, and their sentences, rows and items) that are compared with the best unit."""

MIN_SHARED_WORDS = 2
MIN_LIKENESS = 0.6
"""Minimum share of common words, relative to the words of the two sentences together, at which two sentences have the
same subject …
"""

MIN_COUNTED_LIKENESS = 0.25
"""… if they also count the same thing and share the same words with the question …"""

SAME_WORDS_LIKENESS = 0.7
"""… and at which two sentences are opposites if only one of them is negated, or if they contain different names and
the question asks for a name.
"""

NAME_KINDS: Final = ("person", "place", "name")
"""Kinds of answers that consist of a name."""

AUTHORITY: Final = "authority"
DATED: Final = ("valid_from", "effective_date", "version", "date", "updated", "published", "year")
"""File attributes that decide which of two files takes precedence. The first attribute that both files have is
compared; the higher value wins.
"""

MAX_ATTRIBUTE_CHARS = 64
MAX_HEADING_CHARS = 1_000
"""Number of characters of a file name or heading in which a version and a date are searched for."""

_VERSION = re.compile(
    r"(?<![\w.])v(?:er(?:sion)?)?[ ._-]?(\d+(?:\.\d+)*)(?!\w)|(?<!\d)(\d+)版", re.IGNORECASE
)
_DAY = re.compile(r"(?<!\d)(20\d{2}|19\d{2})(?:[-_./年](\d{1,2})(?:[-_./月](\d{1,2}))?)?(?!\d)")
_NUMBERS = re.compile(r"\d+")
_FACT_WORDS = NUMBER_WORDS | {*MONTHS, *WEEKDAYS}

Preference: TypeAlias = Literal["", "authority", "newer"]
"""Why one of two candidates takes precedence."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two contradicting candidates from different files. ``first`` takes precedence over ``second``; ``by`` is the
    reason for the precedence.
    """

    first: QuoteCandidate
    second: QuoteCandidate
    by: Preference

    @property
    def sides(self) -> tuple[QuoteCandidate, QuoteCandidate]:
        return self.first, self.second

    def among(self, passage_numbers: Sequence[int]) -> Difference:
        """Return the difference with the passage numbers that its two passages have in the list ``passage_numbers``.
        The list must include both passages.
        """
        first, second = (replace(side, passage=passage_numbers.index(side.passage)) for side in self.sides)
        return Difference(first, second, self.by)


def difference(question: str, best: QuoteCandidate, passages: Sequence[Passage]) -> Difference | None:
    """Return the contradiction between ``best`` and a unit of another file, or ``None``. ``best`` is a unit of
    ``passages``.
    """
    folded_question = _Asked(question)
    quoted_statement = _Statement(best, passages[best.passage])
    if not quoted_statement.says_a_fact:
        return None
    for candidate in _candidates_of_other_files(best, passages):
        statement = _Statement(candidate, passages[candidate.passage])
        if _differ(quoted_statement, statement, folded_question):
            order = _preference(passages[best.passage], passages[candidate.passage])
            return (
                Difference(candidate, best, order[1]) if order[0] else Difference(best, candidate, order[1])
            )
    return None


class _Asked:
    """The words and dates of a question."""

    def __init__(self, question: str) -> None:
        folded_question = fold(question[:MAX_UNIT_CHARACTERS])
        self.folded = folded_question
        self.terms = frozenset(stems(words(folded_question)))
        self.dates = dates_in(folded_question)
        self.wants_name = expects.kind(question) in NAME_KINDS


class _Statement:
    """A unit with its facts."""

    def __init__(self, candidate: QuoteCandidate, passage: Passage) -> None:
        self.text = candidate.text[:MAX_UNIT_CHARACTERS]
        self.folded = candidate.folded
        self.context = fold(context_of(passage))
        plain = [word for word in candidate.words if not _is_number(word)]
        self.terms = frozenset(stems(plain))
        self.known_terms = candidate.terms | frozenset(stems(words(self.context)))

    @cached_property
    def quantities(self) -> Mapping[tuple[str, str], frozenset[float]]:
        """Return the numbers of the statement, keyed by unit and by counted thing."""
        values_by_unit: dict[tuple[str, str], frozenset[float]] = {}
        for quantity in quantities_in(self.folded):
            key = (quantity.unit, "" if quantity.unit else quantity.counted)
            values_by_unit[key] = values_by_unit.get(key, frozenset()) | {quantity.value}
        return values_by_unit

    @cached_property
    def dates(self) -> frozenset[str]:
        return dates_in(self.folded)

    @cached_property
    def names(self) -> tuple[NameWord, ...]:
        return tuple(name for name in names_in(self.text, self.folded) if name.certain)

    @cached_property
    def negated(self) -> bool:
        return sum(is_negated for _text, is_negated in clauses_of(self.folded)) % 2 == 1

    @property
    def says_a_fact(self) -> bool:
        return len(self.terms) >= MIN_SHARED_WORDS


def _candidates_of_other_files(best: QuoteCandidate, passages: Sequence[Passage]) -> list[QuoteCandidate]:
    """Return the units of all files except the file of ``best``, in the order of their passages."""
    quote_candidates: list[QuoteCandidate] = []
    own_file = passages[best.passage].file_id
    for number, passage in enumerate(passages[:MAX_COMPARED_PASSAGES]):
        if passage.file_id == own_file:
            continue
        for place, unit in enumerate(
            units(passage.text, code=is_code(passage), headings=passage.place.heading)
        ):
            if len(quote_candidates) == MAX_COMPARED_UNITS:
                return quote_candidates
            quote_candidates.append(quote_candidate(number, place, unit, passage.text[unit.start : unit.end]))
    return quote_candidates


def _differ(statement: _Statement, other: _Statement, question: _Asked) -> bool:
    shared_terms = statement.terms & other.terms
    if len(shared_terms) < MIN_SHARED_WORDS or statement.folded == other.folded:
        return False
    if (statement.known_terms & question.terms) != (other.known_terms & question.terms):
        return False
    if question.dates and (question.dates & statement.dates) != (question.dates & other.dates):
        return False
    likeness = len(shared_terms) / len(statement.terms | other.terms)
    own_names, other_names = _own_names(statement, other, question), _own_names(other, statement, question)
    if own_names or other_names:
        other_terms = (statement.terms | other.terms) - frozenset(stems([*own_names, *other_names]))
        return (
            question.wants_name
            and bool(own_names and other_names)
            and len(shared_terms) >= SAME_WORDS_LIKENESS * len(other_terms)
            and statement.quantities == other.quantities
            and statement.dates == other.dates
        )
    if likeness >= MIN_COUNTED_LIKENESS and _counts_differ(statement, other):
        return True
    if likeness < MIN_LIKENESS:
        return False
    if _numbers_differ(statement, other) or _dates_differ(statement.dates, other.dates, question.dates):
        return True
    return (
        likeness >= SAME_WORDS_LIKENESS
        and statement.quantities == other.quantities
        and (statement.negated != other.negated or are_opposed(statement.folded, other.folded))
    )


def _own_names(first_statement: _Statement, statement: _Statement, question: _Asked) -> list[str]:
    """Return the words of names that occur only in ``first_statement``.

    Names in the question or in the headings above ``statement`` count as common.
    """
    other_text = f"{statement.folded}\n{statement.context}\n{question.folded}"
    return [
        name.word
        for name in first_statement.names
        if not _is_number(name.word) and not holds_name(name, other_text, statement.known_terms)
    ]


def _counts_differ(statement: _Statement, other: _Statement) -> bool:
    """Return whether the two statements count the same thing with different numbers."""
    return any(
        key != ("", "")
        and (other_values := other.quantities.get(key)) is not None
        and not values & other_values
        for key, values in statement.quantities.items()
    )


def _numbers_differ(first_statement: _Statement, statement: _Statement) -> bool:
    """Return whether each statement has exactly one number, with compatible units, and the numbers differ."""
    if len(first_statement.quantities) != 1 or len(statement.quantities) != 1:
        return False
    ((unit, _), values), ((other_unit, _), other_values) = (
        *first_statement.quantities.items(),
        *statement.quantities.items(),
    )
    return (unit == other_unit or not unit or not other_unit) and not values & other_values


def _dates_differ(
    date_parts: frozenset[str], other_dates: frozenset[str], asked_dates: frozenset[str]
) -> bool:
    """Return whether the dates differ in a part, such as the year, and have no part in common."""
    kinds = {part[0] for part in date_parts} & {part[0] for part in other_dates}
    return any(
        not {part for part in date_parts if part[0] == kind}
        & {part for part in other_dates if part[0] == kind}
        for kind in kinds
        if not any(part[0] == kind for part in asked_dates)
    )


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _FACT_WORDS


def _preference(passage: Passage, other: Passage) -> tuple[bool, Preference]:
    """Return whether ``other`` takes precedence over ``passage``, and why. The first criterion in which the two differ
    decides.
    """
    for reason, order in _ORDERS:
        own_order, other_order = order(passage), order(other)
        if own_order and other_order and own_order != other_order:
            return other_order > own_order, reason
    return False, ""


def _attribute(name: str) -> _Order:
    return lambda passage: _numbers(passage.attributes.get(name))


def _numbers(value: object) -> tuple[float, ...]:
    """Return an attribute as comparable numbers: ``2026-11-20`` and ``1.10`` are split into their parts."""
    if isinstance(value, bool) or value is None:
        return ()
    if isinstance(value, int | float):
        return (float(value),)
    return tuple(float(part) for part in _NUMBERS.findall(str(value)[:MAX_ATTRIBUTE_CHARS]))


def _title(passage: Passage) -> str:
    return " ".join(part[:MAX_HEADING_CHARS] for part in (passage.filename, *passage.place.heading))


def _version(passage: Passage) -> tuple[float, ...]:
    match = _VERSION.search(_title(passage))
    return _numbers(match[1] or match[2]) if match is not None else ()


def _day(passage: Passage) -> tuple[float, ...]:
    """Return the date or year in a passage's file name or in the headings above the passage."""
    match = _DAY.search(_title(passage))
    return tuple(float(part) for part in match.groups() if part) if match is not None else ()


_Order: TypeAlias = Callable[[Passage], tuple[float, ...]]

_ORDERS: tuple[tuple[Preference, _Order], ...] = (
    ("authority", _attribute(AUTHORITY)),
    *(("newer", _attribute(name)) for name in DATED),
    ("newer", _version),
    ("newer", _day),
)
