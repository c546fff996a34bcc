"""The sentences of an answer as claims, each with the passages that support it, found without a large model.

`ClaimReader` splits an answer as it comes, `EvidenceCheck` compares a sentence with the passages. Marks such as ``[2]``
only say where to look first: a passage supports a claim if it has its words and does not change its facts.
What a passage says of other passages, or to the reader, is text like any other. Pure functions over texts; NumPy is
imported where there are vectors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from functools import cached_property
from itertools import pairwise
from typing import Any

from portico.wire import AnswerClaim, ClaimReason, Evidence, Passage
from portico_server.apps.answer.dates import dates_in
from portico_server.apps.answer.material import context_of, is_code, rarity
from portico_server.apps.answer.names import NameWord, holds_name, names_in
from portico_server.apps.answer.negations import are_opposed, clauses_of
from portico_server.apps.answer.quantities import NUMBER_WORDS, Quantity, number_missing, quantities_in
from portico_server.apps.answer.sentences import MAX_CLAIM_CHARS, Sentence
from portico_server.apps.answer.terms import fold, stems, words
from portico_server.apps.answer.units import QuotableUnit, units
from portico_server.core.dataclass import dataclass

MAX_EVIDENCE_UNITS = 400
MAX_EVIDENCE_PASSAGES = 20
"""Sentences, rows and items, and the passages that they are taken of, among which evidence is looked for."""

MAX_EVIDENCE = 3
"""Passages that are named for a claim."""

MAX_CANDIDATES = 6
"""Units whose facts are compared with those of a claim."""

MIN_SUPPORT = 0.5
MIN_SUPPORT_WITHOUT_VECTORS = 0.4
"""The part of a claim's words, weighted by rarity, that its evidence has at least."""

CONTEXT_WEIGHT = 0.7
"""What a word counts that stands not in the unit but before it, in its headings or in the file's name."""

LIKENESS_WEIGHT = 0.5
"""What the cosine of a claim and a unit adds for the words that are missing."""

HINT_SCORE = 0.02
"""What decides between equal units: that the answer points at the passage."""

MAX_SHORTFALL = 0.15
"""How much less of a claim than the nearest unit another one may hold: what the nearest contradicts, no other saves."""

MIN_OWN_SHARE = 0.3
"""The part of a claim's words that evidence has by itself, without what stands before it."""

VERBATIM_SHARE = 0.8
"""The part of a unit from which the same characters are a quotation of it."""


_SQUEEZED = re.compile(r"[\s\"'“”‘’`*_|>]+")
_BORDER = ",;:，；：、。.!?！？("


@dataclass(slots=True)
class _Facts:
    quantities: tuple[Quantity, ...]
    dates: frozenset[str]
    names: tuple[NameWord, ...]
    clauses: list[tuple[str, bool]]


def _facts_of(text: str, folded_text: str) -> _Facts:
    return _Facts(
        quantities_in(folded_text),
        dates_in(folded_text),
        names_in(text, folded_text),
        clauses_of(folded_text),
    )


@dataclass(eq=False)
class _Unit:
    """A quotable unit of a passage, with what stands before it; ``number`` is its place among all units."""

    number: int
    passage: int
    span: QuotableUnit
    text: str
    folded: str
    terms: frozenset[str]
    context: str
    context_terms: frozenset[str]

    @cached_property
    def facts(self) -> _Facts:
        return _facts_of(self.text, self.folded)

    @cached_property
    def squeezed(self) -> str:
        return _squeezed(self.folded)


@dataclass()
class _Window:
    """One or two units that are compared with a claim together."""

    units: tuple[_Unit, ...]
    score: float = 0.0

    @cached_property
    def folded(self) -> str:
        return "\n".join(unit.folded for unit in self.units)

    @cached_property
    def terms(self) -> frozenset[str]:
        return frozenset().union(*(unit.terms for unit in self.units))

    @cached_property
    def context_terms(self) -> frozenset[str]:
        return frozenset().union(*(unit.context_terms for unit in self.units))


@dataclass()
class _Claimed:
    """A claim prepared for comparison."""

    text: str
    folded: str
    terms: list[str]
    facts: _Facts = field(init=False)

    def __post_init__(self) -> None:
        self.facts = _facts_of(self.text, self.folded)


class EvidenceCheck:
    """``passages``, prepared once for all sentences of an answer."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages[:MAX_EVIDENCE_PASSAGES]
        self._units = self._prepared()
        counts = Counter(term for unit in self._units for term in unit.terms)
        self._rarity = {term: rarity(count, len(self._units)) for term, count in counts.items()}
        self._unknown = rarity(0, len(self._units))
        self._vectors: Any = None

    def _prepared(self) -> list[_Unit]:
        found_units: list[_Unit] = []
        for number, passage in enumerate(self.passages):
            before = fold(context_of(passage))
            for span in units(passage.text, code=is_code(passage), headings=passage.place.heading):
                if len(found_units) == MAX_EVIDENCE_UNITS:
                    return found_units
                text = passage.text[span.start : span.end][:MAX_CLAIM_CHARS]
                if span.lead is not None:
                    text = f"{passage.text[span.lead[0] : span.lead[1]]}\n{text}"
                folded_text = fold(text)
                terms, above = (frozenset(stems(words(source_text))) for source_text in (folded_text, before))
                found_units.append(
                    _Unit(len(found_units), number, span, text, folded_text, terms, before, above)
                )
                before = f"{before}\n{folded_text}"[-MAX_CLAIM_CHARS:]
        return found_units

    def texts(self) -> tuple[str, ...]:
        """The units, for whoever makes vectors of them."""
        return tuple(unit.text for unit in self._units)

    def use(self, vectors: Sequence[bytes]) -> None:
        """Take a vector for each of `texts`, as little-endian float32."""
        self._vectors = _normalised(vectors)

    def check(self, sentence: Sentence, vector: bytes | None = None) -> AnswerClaim:
        """Find the evidence of a sentence; ``vector`` is its own, where the units have some."""
        start, end = sentence.start, sentence.end
        if sentence.kind == "rest":
            return AnswerClaim(start, end, False, "too_long")
        claim = self._claimed(sentence.text)
        quoted_unit = self._verbatim(claim, sentence.hints)
        if quoted_unit is not None:
            return AnswerClaim(start, end, True, "", self._evidence([quoted_unit]))
        likeness = (
            None if vector is None or self._vectors is None else self._vectors @ _normalised([vector])[0]
        )
        candidates = self._candidates(claim, sentence.hints, likeness)
        if not candidates:
            return AnswerClaim(start, end, False, "no_evidence")
        reason: ClaimReason = ""
        supporting: list[_Unit] = []
        min_score = max(
            MIN_SUPPORT_WITHOUT_VECTORS if likeness is None else MIN_SUPPORT,
            candidates[0].score - MAX_SHORTFALL,
        )
        for window in (*candidates, *self._pairs(claim, candidates, likeness)):
            if supporting and (len(window.units) > 1 or len(supporting) == MAX_EVIDENCE):
                break
            if window.score < min_score or self._share(claim, window.terms) < MIN_OWN_SHARE:
                continue
            change_kind = _changed(claim, window)
            if not change_kind:
                supporting += [unit for unit in window.units if unit not in supporting]
            reason = reason or change_kind
        if supporting:
            return AnswerClaim(start, end, True, "", self._evidence(supporting))
        return AnswerClaim(start, end, False, reason or "no_evidence")

    def _claimed(self, text: str) -> _Claimed:
        """A sentence prepared for comparison. Numbers and names that no passage has are facts, not words."""
        folded_text = fold(text[:MAX_CLAIM_CHARS])
        claim = _Claimed(text, folded_text, [])
        names = {name.word for name in claim.facts.names if name.certain}
        claim_words = [word for word in words(folded_text) if not word.isdigit() and word not in NUMBER_WORDS]
        kept_words = [word for word in claim_words if word not in names or stems([word])[0] in self._rarity]
        claim.terms = list(dict.fromkeys(stems(kept_words)))
        return claim

    def _verbatim(self, claim: _Claimed, hints: Iterable[int]) -> _Unit | None:
        """The unit that a sentence quotes to the letter, one that the answer points at before others."""
        claim_text = _squeezed(claim.folded).strip(_BORDER)
        if len(claim_text) < 2:
            return None
        holders = [unit for unit in self._units if _quotes(claim_text, unit.squeezed)]
        hinted_ranks = set(hints)
        return min(
            holders,
            key=lambda unit: (self.passages[unit.passage].rank not in hinted_ranks, len(unit.text)),
            default=None,
        )

    def _candidates(self, claim: _Claimed, hints: Iterable[int], likeness: Any) -> list[_Window]:
        """The best units, best first. ``likeness``: the cosine of the claim with each unit, or ``None``."""
        hinted_ranks = set(hints)
        windows = [self._window(claim, (unit,), likeness) for unit in self._units]
        for window in windows:
            if window.score > 0 and self.passages[window.units[0].passage].rank in hinted_ranks:
                window.score += HINT_SCORE
        windows.sort(key=lambda window: -window.score)
        return [window for window in windows[:MAX_CANDIDATES] if window.score > 0]

    def _pairs(self, claim: _Claimed, candidates: list[_Window], likeness: Any) -> Iterator[_Window]:
        """The first candidates each with its neighbours, then two of them together."""
        best = [window.units[0] for window in candidates]
        for unit in best[:3]:
            for pair in pairwise(self._units[max(0, unit.number - 1) : unit.number + 2]):
                if pair[0].passage == pair[1].passage:
                    yield self._window(claim, pair, likeness)
        for place, unit in enumerate(best[:3], 1):
            for other in best[place:4]:
                yield self._window(claim, (unit, other), likeness)

    def _window(self, claim: _Claimed, units: tuple[_Unit, ...], likeness: Any) -> _Window:
        window = _Window(units)
        window.score = self._share(claim, window.terms, window.context_terms)
        if likeness is not None:
            nearest = max(0.0, *(float(likeness[unit.number]) for unit in units))
            window.score += LIKENESS_WEIGHT * nearest * (1 - min(window.score, 1.0))
        return window

    def _share(self, claim: _Claimed, terms: frozenset[str], context: frozenset[str] = frozenset()) -> float:
        matched_weight = total = 0.0
        for term in claim.terms:
            weight = self._rarity.get(term, self._unknown)
            total += weight
            if term in terms:
                matched_weight += weight
            elif term in context:
                matched_weight += CONTEXT_WEIGHT * weight
        return matched_weight / total if total else 1.0

    def _evidence(self, found_units: Sequence[_Unit]) -> tuple[Evidence, ...]:
        """The first units as evidence."""
        return tuple(
            Evidence(
                rank=passage.rank,
                file_id=passage.file_id,
                filename=passage.filename,
                place=passage.place,
                quote=passage.text[unit.span.start : unit.span.end],
                start=unit.span.start,
                end=unit.span.end,
            )
            for unit in found_units[:MAX_EVIDENCE]
            for passage in (self.passages[unit.passage],)
        )


def _squeezed(folded_text: str) -> str:
    return _SQUEEZED.sub("", folded_text)


def _quotes(quotation: str, source: str) -> bool:
    """Whether squeezed ``quotation`` is a quotation of ``source``: nearly all of it, or whole clauses."""
    at = source.find(quotation)
    if at < 0:
        return False
    if len(quotation) >= VERBATIM_SHARE * len(source):
        return True
    before, after = source[:at], source[at + len(quotation) :]
    return (not before or before[-1] in _BORDER) and (not after or after[0] in _BORDER)


def _changed(claim: _Claimed, window: _Window) -> ClaimReason:
    """Which fact of a claim its source does not have; "" if none."""
    source = [unit.facts for unit in window.units]
    quantities = tuple(quantity for facts in source for quantity in facts.quantities)
    if number_missing(claim.facts.quantities, quantities, window.folded):
        return "number"
    if _date_changed(claim, window):
        return "date"
    if _name_changed(claim, window):
        return "name"
    if are_opposed(claim.folded, window.folded) or _negated(claim, window):
        return "negation"
    return ""


def _date_changed(claim: _Claimed, window: _Window) -> bool:
    claim_dates = claim.facts.dates
    if not claim_dates:
        return False
    source_dates = frozenset[str]().union(*(unit.facts.dates for unit in window.units))
    missing = claim_dates - source_dates
    if not missing:
        return False
    kinds = {part[0] for part in source_dates}
    if any(part[0] in kinds for part in missing):
        return True
    # A year may be said once for all that follows.
    before = dates_in("\n".join(unit.context for unit in window.units))
    numbers = {quantity.value for unit in window.units for quantity in unit.facts.quantities}
    return not all(part in before or (part[0] == "y" and float(part[1:]) in numbers) for part in missing)


def _name_changed(claim: _Claimed, window: _Window) -> bool:
    for name in claim.facts.names:
        if holds_name(name, window.folded, window.terms):
            continue
        context = "\n".join(unit.context for unit in window.units)
        if not name.certain and not re.search(rf"\b{re.escape(name.word)}", context):
            return True
        if not holds_name(name, context, frozenset(stems(words(context)))):
            return True
        # What the source calls by a pronoun may have its name before; where it names another, it is another.
        name_words = [
            name_word
            for unit in window.units
            for name_word in unit.facts.names
            if name_word.certain and not holds_name(name_word, claim.folded, frozenset(claim.terms))
        ]
        if any(abs(name_word.at - name.at) < 0.3 for name_word in name_words):
            return True
    return False


def _negated(claim: _Claimed, window: _Window) -> bool:
    """Whether a clause of the claim is negated and the same clause of the source is not, or the other way round."""
    source = [clause for unit in window.units for clause in unit.facts.clauses]
    source_clauses = [
        (frozenset(stems(words(text))), negated_is_negated) for text, negated_is_negated in source
    ]
    for text, is_negated in claim.facts.clauses:
        terms = frozenset(stems(words(text)))
        if not terms:
            continue
        shared_counts = [len(terms & other_terms) for other_terms, _negated_there in source_clauses]
        best = max(shared_counts, default=0)
        if best == 0 or best < 0.4 * len(terms):
            continue
        nearest = [
            is_negated_there
            for (_terms, is_negated_there), count in zip(source_clauses, shared_counts, strict=True)
            if count == best
        ]
        if all(is_negated_there != is_negated for is_negated_there in nearest):
            return True
    return False


def _normalised(vectors: Sequence[bytes]) -> Any:
    import numpy as np

    matrix = np.array([np.frombuffer(vector, dtype="<f4") for vector in vectors])
    return matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-9)
