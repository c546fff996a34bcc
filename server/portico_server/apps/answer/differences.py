"""Whether another file says something else than the best sentence: another number, another date, or the contrary.

Two sentences differ if they say the same of the same and change a fact. No model is asked. Pure functions.
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
"""Passages, and sentences, rows and items in them, that are compared with the best one."""

MIN_SHARED_WORDS = 2
MIN_LIKENESS = 0.6
"""Words that two sentences share, as a part of those that either has, from which they speak of the same …"""

MIN_COUNTED_LIKENESS = 0.25
"""… and where both also count the same thing and have the same words of the question."""

SAME_WORDS_LIKENESS = 0.7
"""… and from which one is the contrary of the other if only one of them is negated, or names another where a name is
asked for.
"""

NAME_KINDS: Final = ("person", "place", "name")
"""Kinds of answers that are names."""

AUTHORITY: Final = "authority"
DATED: Final = ("valid_from", "effective_date", "version", "date", "updated", "published", "year")
"""Attributes of a file that say which of two goes before the other, the first that both have: the higher one."""

MAX_ATTRIBUTE_CHARS = 64
MAX_HEADING_CHARS = 1_000
"""Characters of a name or a heading in which a version and a date are looked for."""

_VERSION = re.compile(
    r"(?<![\w.])v(?:er(?:sion)?)?[ ._-]?(\d+(?:\.\d+)*)(?!\w)|(?<!\d)(\d+)版", re.IGNORECASE
)
_DAY = re.compile(r"(?<!\d)(20\d{2}|19\d{2})(?:[-_./年](\d{1,2})(?:[-_./月](\d{1,2}))?)?(?!\d)")
_NUMBERS = re.compile(r"\d+")
_FACT_WORDS = NUMBER_WORDS | {*MONTHS, *WEEKDAYS}

Preference: TypeAlias = Literal["", "authority", "newer"]
"""Why one of two goes before the other."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two candidates of different files that do not agree; ``first`` goes before ``second``, for the reason ``by``."""

    first: QuoteCandidate
    second: QuoteCandidate
    by: Preference

    @property
    def sides(self) -> tuple[QuoteCandidate, QuoteCandidate]:
        return self.first, self.second

    def among(self, shown: Sequence[int]) -> Difference:
        """The same where only the passages ``shown`` are there, in this order; both are among them."""
        first, second = (replace(side, passage=shown.index(side.passage)) for side in self.sides)
        return Difference(first, second, self.by)


def difference(question: str, best: QuoteCandidate, passages: Sequence[Passage]) -> Difference | None:
    """What in ``passages`` says something else than ``best``, one of their units."""
    asked = _Asked(question)
    own = _Statement(best, passages[best.passage])
    if not own.says_a_fact:
        return None
    for candidate in _others(best, passages):
        other = _Statement(candidate, passages[candidate.passage])
        if _differ(own, other, asked):
            order = _preference(passages[best.passage], passages[candidate.passage])
            return (
                Difference(candidate, best, order[1]) if order[0] else Difference(best, candidate, order[1])
            )
    return None


class _Asked:
    """The words and dates of a question."""

    def __init__(self, question: str) -> None:
        folded = fold(question[:MAX_UNIT_CHARACTERS])
        self.folded = folded
        self.terms = frozenset(stems(words(folded)))
        self.dates = dates_in(folded)
        self.wants_name = expects.kind(question) in NAME_KINDS


class _Statement:
    """A unit with the facts in it."""

    def __init__(self, candidate: QuoteCandidate, passage: Passage) -> None:
        self.text = candidate.text[:MAX_UNIT_CHARACTERS]
        self.folded = candidate.folded
        self.context = fold(context_of(passage))
        plain = [word for word in candidate.words if not _is_number(word)]
        self.terms = frozenset(stems(plain))
        self.known_terms = candidate.terms | frozenset(stems(words(self.context)))

    @cached_property
    def quantities(self) -> Mapping[tuple[str, str], frozenset[float]]:
        """The numbers by unit and by what is counted."""
        found: dict[tuple[str, str], frozenset[float]] = {}
        for one in quantities_in(self.folded):
            key = (one.unit, "" if one.unit else one.counted)
            found[key] = found.get(key, frozenset()) | {one.value}
        return found

    @cached_property
    def dates(self) -> frozenset[str]:
        return dates_in(self.folded)

    @cached_property
    def names(self) -> tuple[NameWord, ...]:
        return tuple(name for name in names_in(self.text, self.folded) if name.certain)

    @cached_property
    def negated(self) -> bool:
        return sum(negated for _text, negated in clauses_of(self.folded)) % 2 == 1

    @property
    def says_a_fact(self) -> bool:
        return len(self.terms) >= MIN_SHARED_WORDS


def _others(best: QuoteCandidate, passages: Sequence[Passage]) -> list[QuoteCandidate]:
    """The units of other files than the one of ``best``, in the order of their passages."""
    found: list[QuoteCandidate] = []
    own_file = passages[best.passage].file_id
    for number, passage in enumerate(passages[:MAX_COMPARED_PASSAGES]):
        if passage.file_id == own_file:
            continue
        for place, unit in enumerate(
            units(passage.text, code=is_code(passage), headings=passage.place.heading)
        ):
            if len(found) == MAX_COMPARED_UNITS:
                return found
            found.append(quote_candidate(number, place, unit, passage.text[unit.start : unit.end]))
    return found


def _differ(one: _Statement, other: _Statement, asked: _Asked) -> bool:
    shared = one.terms & other.terms
    if len(shared) < MIN_SHARED_WORDS or one.folded == other.folded:
        return False
    if (one.known_terms & asked.terms) != (other.known_terms & asked.terms):
        return False
    if asked.dates and (asked.dates & one.dates) != (asked.dates & other.dates):
        return False
    likeness = len(shared) / len(one.terms | other.terms)
    own_names, other_names = _own_names(one, other, asked), _own_names(other, one, asked)
    if own_names or other_names:
        rest = (one.terms | other.terms) - frozenset(stems([*own_names, *other_names]))
        return (
            asked.wants_name
            and bool(own_names and other_names)
            and len(shared) >= SAME_WORDS_LIKENESS * len(rest)
            and one.quantities == other.quantities
            and one.dates == other.dates
        )
    if likeness >= MIN_COUNTED_LIKENESS and _counts_differ(one, other):
        return True
    if likeness < MIN_LIKENESS:
        return False
    if _numbers_differ(one, other) or _dates_differ(one.dates, other.dates, asked.dates):
        return True
    return (
        likeness >= SAME_WORDS_LIKENESS
        and one.quantities == other.quantities
        and (one.negated != other.negated or are_opposed(one.folded, other.folded))
    )


def _own_names(one: _Statement, other: _Statement, asked: _Asked) -> list[str]:
    """The words of names that only ``one`` has; what the question names or stands above ``other`` is in both."""
    there = f"{other.folded}\n{other.context}\n{asked.folded}"
    return [
        name.word
        for name in one.names
        if not _is_number(name.word) and not holds_name(name, there, other.known_terms)
    ]


def _counts_differ(one: _Statement, other: _Statement) -> bool:
    """Whether both count the same thing, and count it differently."""
    return any(
        key != ("", "") and (there := other.quantities.get(key)) is not None and not values & there
        for key, values in one.quantities.items()
    )


def _numbers_differ(one: _Statement, other: _Statement) -> bool:
    """Whether each has one number, of units that do not speak against it, and they are not the same."""
    if len(one.quantities) != 1 or len(other.quantities) != 1:
        return False
    ((unit, _), values), ((other_unit, _), there) = (*one.quantities.items(), *other.quantities.items())
    return (unit == other_unit or not unit or not other_unit) and not values & there


def _dates_differ(one: frozenset[str], other: frozenset[str], asked: frozenset[str]) -> bool:
    """Whether a part of a date, such as the year, is another one in both, and none is the same."""
    kinds = {part[0] for part in one} & {part[0] for part in other}
    return any(
        not {part for part in one if part[0] == kind} & {part for part in other if part[0] == kind}
        for kind in kinds
        if not any(part[0] == kind for part in asked)
    )


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _FACT_WORDS


def _preference(one: Passage, other: Passage) -> tuple[bool, Preference]:
    """Whether ``other`` goes before ``one``, and why: the first that differs."""
    for reason, order in _ORDERS:
        own, there = order(one), order(other)
        if own and there and own != there:
            return there > own, reason
    return False, ""


def _attribute(name: str) -> _Order:
    return lambda passage: _numbers(passage.attributes.get(name))


def _numbers(value: object) -> tuple[float, ...]:
    """An attribute as numbers that can be compared: ``2026-11-20`` and ``1.10`` part by part."""
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
    """The date or the year in the name of a file or in the headings above a passage."""
    match = _DAY.search(_title(passage))
    return tuple(float(part) for part in match.groups() if part) if match is not None else ()


_Order: TypeAlias = Callable[[Passage], tuple[float, ...]]

_ORDERS: tuple[tuple[Preference, _Order], ...] = (
    ("authority", _attribute(AUTHORITY)),
    *(("newer", _attribute(name)) for name in DATED),
    ("newer", _version),
    ("newer", _day),
)
