"""Contradictions: finds sentences in other files that state a different number, date, person or state than the best
sentence.

Two sentences contradict each other if they make the same statement about the same subject but differ in a fact. No
model is called. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from portico.wire import Passage
from portico_server.core.dataclass import dataclass
from portico_server.features.answers.material import QuoteCandidate, is_code, quote_candidate
from portico_server.features.answers.negations import affirmation, are_opposed
from portico_server.features.answers.precedence import Preference, by_precedence
from portico_server.features.answers.quantities import Quantity
from portico_server.features.answers.statements import QuestionSubject, Statement, StatementContext
from portico_server.features.answers.units import units

MAX_COMPARED_PASSAGES = 8
MAX_COMPARED_UNITS = 200
"""Maximum number of units (passages, and their sentences, rows and items) that are compared with the best unit."""

MAX_COMPARED_CANDIDATES = 8
"""Number of quotable candidates of which the one that shares most words with the question is compared."""

MAX_SIDES = 4
"""Maximum number of contradicting candidates that are reported."""

MIN_SHARED_WORDS = 2
MIN_LIKENESS = 0.6
"""Minimum share of common words, relative to the words of the two sentences together without their facts, at which two
sentences have the same subject …
"""

MIN_ANSWERED_LIKENESS = 0.25
"""… if they count the same thing, if the question asks for the date, or if it is a question of yes or no …"""

MIN_NAME_LIKENESS, MIN_PERSON_LIKENESS = 0.5, 0.2
"""… if they contain different names, and if the question asks for a person and both have all words of the question …"""

SAME_WORDS_LIKENESS = 0.7
"""… and if one of them denies what the other affirms, without a question of yes or no or with another kind of state.
"""

NAME_KINDS: Final = ("person", "place", "name")
"""Kinds of answers that consist of a name."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Contradicting candidates from different files. Each side takes precedence over the following sides; ``by`` is
    the reason for the precedence.
    """

    sides: tuple[QuoteCandidate, ...]
    by: Preference

    def among(self, passage_numbers: Sequence[int]) -> Difference:
        """Return the difference with the passage numbers that its passages have in the list ``passage_numbers``. The
        list must include all of them.
        """
        return Difference(
            tuple(replace(side, passage=passage_numbers.index(side.passage)) for side in self.sides), self.by
        )


def difference(
    question: str, candidates: Sequence[QuoteCandidate], passages: Sequence[Passage]
) -> Difference | None:
    """Return the contradiction between the best of ``candidates`` and units of other files, or ``None``.
    ``candidates`` are units of ``passages``, best first. A later one is compared if it shares more words with the
    question.
    """
    subject = QuestionSubject(question)
    statements = [
        Statement(candidate, StatementContext(passages[candidate.passage]), subject)
        for candidate in candidates[:MAX_COMPARED_CANDIDATES]
    ]
    sides = [max(statements, key=lambda statement: len(statement.shared_words & subject.nouns))]
    for statement in _statements_of_other_files(sides[0].candidate, passages, subject):
        if subject.names & statement.shared_words - sides[0].shared_words:
            return None  # the best candidate concerns something else
        if len(sides) < MAX_SIDES and all(_differ(side, statement, subject) for side in sides):
            sides.append(statement)
    if len(sides) == 1:
        return None
    return Difference(*by_precedence([side.candidate for side in sides], passages))


def _statements_of_other_files(
    best: QuoteCandidate, passages: Sequence[Passage], subject: QuestionSubject
) -> Iterator[Statement]:
    """Yield the units of all files except the file of ``best``, in the order of their passages."""
    count = 0
    own_file = passages[best.passage].file_id
    for number, passage in enumerate(passages[:MAX_COMPARED_PASSAGES]):
        if passage.file_id == own_file:
            continue
        context = StatementContext(passage)
        for place, unit in enumerate(
            units(passage.text, code=is_code(passage), headings=passage.place.heading)
        ):
            if count == MAX_COMPARED_UNITS:
                return
            count += 1
            text = passage.text[unit.start : unit.end]
            yield Statement(quote_candidate(number, place, unit, text), context, subject)


def _differ(statement: Statement, second_statement: Statement, subject: QuestionSubject) -> bool:
    if statement.folded == second_statement.folded:
        return False
    if not subject.concerns_both(statement, second_statement):
        return False
    own_names, other_names = statement.own_names(second_statement), second_statement.own_names(statement)
    is_focused = subject.covers(statement, second_statement)
    dates, other_dates = statement.dates - subject.dates, second_statement.dates - subject.dates
    if own_names or other_names:
        min_likeness = MIN_PERSON_LIKENESS if subject.kind == "person" and is_focused else MIN_NAME_LIKENESS
        return (
            subject.kind in NAME_KINDS
            and bool(own_names and other_names)
            and _likeness(statement.terms_without(own_names), second_statement.terms_without(other_names))
            >= min_likeness
            and not _quantities_differ(statement, second_statement)
            and not _dates_differ(dates, other_dates)
        )
    min_likeness = MIN_ANSWERED_LIKENESS if subject.is_yes_no else SAME_WORDS_LIKENESS
    if _likeness(statement.state_terms, second_statement.state_terms) >= min_likeness and _states_differ(
        statement, second_statement, subject
    ):
        return True
    likeness = _likeness(statement.terms, second_statement.terms)
    if likeness < MIN_ANSWERED_LIKENESS:
        return False
    if _quantities_differ(statement, second_statement):
        return True
    is_asked_date = is_focused and (subject.kind == "date" or (_has_time(dates) and _has_time(other_dates)))
    if (is_asked_date or likeness >= MIN_LIKENESS) and _dates_differ(dates, other_dates):
        return True
    return likeness >= MIN_LIKENESS and _numbers_differ(statement, second_statement)


def _likeness(terms: frozenset[str], other_terms: frozenset[str]) -> float:
    """Return the share of common terms; 0 if there are fewer than `MIN_SHARED_WORDS` and further terms."""
    shared_terms = terms & other_terms
    if not shared_terms or (len(shared_terms) < MIN_SHARED_WORDS and terms != other_terms):
        return 0.0
    return len(shared_terms) / len(terms | other_terms)


def _states_differ(statement: Statement, second_statement: Statement, subject: QuestionSubject) -> bool:
    """Return whether one statement affirms what the other denies, judged by their clauses nearest to the question."""
    (clause, is_negated), (other_clause, is_other_negated) = (
        side.nearest_clause for side in (statement, second_statement)
    )
    if not subject.is_yes_no:
        return (is_negated != is_other_negated) != are_opposed(clause, other_clause)
    affirmed, second_affirmed = affirmation(clause), affirmation(other_clause)
    if affirmed.states or second_affirmed.states:
        return affirmed.denies != second_affirmed.denies and (
            not affirmed.states
            or not second_affirmed.states
            or bool(affirmed.states & second_affirmed.states)
            or _likeness(statement.state_terms, second_statement.state_terms) >= SAME_WORDS_LIKENESS
        )
    return (affirmed.denies != second_affirmed.denies) != are_opposed(clause, other_clause)


def _has_time(dates: frozenset[str]) -> bool:
    return any(part[0] == "o" for part in dates)


def _quantities_differ(statement: Statement, second_statement: Statement) -> bool:
    """Return whether the two statements count the same thing with different numbers."""
    for quantity in statement.quantities:
        same_thing = [item for item in second_statement.quantities if _counts_same(quantity, item)]
        own_quantities = [item for item in statement.quantities if _counts_same(quantity, item)]
        if same_thing and not any(
            item.equals(value) or value.equals(item) for item in own_quantities for value in same_thing
        ):
            return True
    return False


def _counts_same(quantity: Quantity, second_quantity: Quantity) -> bool:
    """Return whether two numbers have the same base unit, or count the same noun."""
    if quantity.unit or second_quantity.unit:
        return quantity.base_unit == second_quantity.base_unit
    return bool(quantity.counted) and quantity.counted == second_quantity.counted


def _numbers_differ(statement: Statement, second_statement: Statement) -> bool:
    """Return whether each statement has exactly one number, one of which counts nothing, and the numbers differ."""
    if len(statement.quantities) != 1 or len(second_statement.quantities) != 1:
        return False
    (quantity,), (second_quantity,) = statement.quantities, second_statement.quantities
    if (quantity.unit or quantity.counted) and (second_quantity.unit or second_quantity.counted):
        return False
    return not quantity.equals(second_quantity) and not second_quantity.equals(quantity)


def _dates_differ(dates: frozenset[str], other_dates: frozenset[str]) -> bool:
    """Return whether each of two sets of dates has a part, such as a year, that the other one lacks."""
    kinds = {part[0] for part in dates} & {part[0] for part in other_dates}
    return any(
        any(part[0] == kind for part in dates - other_dates)
        and any(part[0] == kind for part in other_dates - dates)
        for kind in kinds
    )
