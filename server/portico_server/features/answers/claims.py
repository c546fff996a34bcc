"""The sentences of an answer as claims, each with its supporting passages, found without a large model.

`ClaimReader` splits an answer as it arrives; `EvidenceCheck` compares a sentence with the passages. Citation marks
such as ``[2]`` only decide which passages are compared first: a passage supports a claim if it contains the claim's
words and does not change its facts. If a passage comments on other passages or addresses the reader, its text is
checked like any other text. Pure functions over texts; NumPy is imported only if vectors are used.
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
from portico_server.core.dataclass import dataclass
from portico_server.features.answers.dates import dates_in
from portico_server.features.answers.material import context_of, is_code, rarity
from portico_server.features.answers.names import NameWord, holds_name, names_in
from portico_server.features.answers.negations import are_opposed, clauses_of
from portico_server.features.answers.quantities import NUMBER_WORDS, Quantity, number_missing, quantities_in
from portico_server.features.answers.sentences import MAX_CLAIM_CHARS, Sentence
from portico_server.features.answers.terms import fold, stems, words
from portico_server.features.answers.units import QuotableUnit, row_place, units

MAX_EVIDENCE_UNITS = 400
MAX_EVIDENCE_PASSAGES = 20
"""Maximum number of passages, and of their sentences, rows and items, that are searched for evidence."""

MAX_EVIDENCE = 3
"""Maximum number of passages that are cited for a claim."""

MAX_CANDIDATES = 6
"""Maximum number of units whose facts are compared with the facts of a claim."""

MIN_SUPPORT = 0.5
MIN_SUPPORT_WITHOUT_VECTORS = 0.4
"""Minimum share of a claim's words, weighted by rarity, that its evidence must contain."""

CONTEXT_WEIGHT = 0.7
"""Weight of a word that occurs in preceding text, headings or the file name instead of the unit itself."""

LIKENESS_WEIGHT = 0.5
"""Weight of the cosine between a claim and a unit. The cosine counts for the words that the unit lacks."""

HINT_SCORE = 0.02
"""Score bonus for units in passages that the answer cites. It decides between units with equal scores."""

MAX_SHORTFALL = 0.15
"""Maximum score distance between the best unit and another unit that may support a claim. A unit further away must not
support what the best unit contradicts.
"""

MIN_OWN_SHARE = 0.3
"""Minimum share of a claim's words that the evidence itself must contain, without its context."""

VERBATIM_SHARE = 0.8
"""Minimum share of a unit's characters that a sentence must repeat literally to count as a quotation of the unit."""


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
    """A quotable unit of a passage, with the text that precedes it; ``number`` is the unit's position among all
    units.
    """

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
    """Checks sentences against ``passages``, which are prepared once for all sentences of an answer."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = passages[:MAX_EVIDENCE_PASSAGES]
        self._units = self._prepared()
        counts = Counter(term for unit in self._units for term in unit.terms)
        self._rarity = {term: rarity(count, len(self._units)) for term, count in counts.items()}
        self._unknown = rarity(0, len(self._units))
        self._raw_vectors: Sequence[bytes] = ()

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
        """Return the texts of the units, for which an embedding model computes vectors."""
        return tuple(unit.text for unit in self._units)

    def use(self, vectors: Sequence[bytes]) -> None:
        """Set the vectors of `texts`, in the same order, as little-endian float32. The first check prepares them."""
        self._raw_vectors = tuple(vectors)

    @cached_property
    def _vectors(self) -> Any:
        return _normalised(self._raw_vectors)

    def check(self, sentence: Sentence, vector: bytes | None = None) -> AnswerClaim:
        """Find the evidence for a sentence. ``vector`` is the sentence's vector; it is used if the units have
        vectors.
        """
        start, end = sentence.start, sentence.end
        if sentence.kind == "rest":
            return AnswerClaim(start, end, False, "too_long")
        claim = self._prepare_claim(sentence.text)
        quoted_unit = self._verbatim(claim, sentence.hints)
        if quoted_unit is not None:
            return AnswerClaim(start, end, True, "", self._evidence([quoted_unit]))
        likeness = None
        if vector is not None and self._raw_vectors:
            likeness = self._vectors @ _normalised([vector])[0]
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
            change_kind = _find_change(claim, window)
            if not change_kind:
                supporting += [unit for unit in window.units if unit not in supporting]
            reason = reason or change_kind
        if supporting:
            return AnswerClaim(start, end, True, "", self._evidence(supporting))
        return AnswerClaim(start, end, False, reason or "no_evidence")

    def _prepare_claim(self, text: str) -> _Claimed:
        """Prepare a sentence for comparison. Numbers and names that no passage contains are treated as facts, not as
        words.
        """
        folded_text = fold(text[:MAX_CLAIM_CHARS])
        claim = _Claimed(text, folded_text, [])
        names = {name.word for name in claim.facts.names if name.certain}
        claim_words = [word for word in words(folded_text) if not word.isdigit() and word not in NUMBER_WORDS]
        kept_words = [word for word in claim_words if word not in names or stems([word])[0] in self._rarity]
        claim.terms = list(dict.fromkeys(stems(kept_words)))
        return claim

    def _verbatim(self, claim: _Claimed, hints: Iterable[int]) -> _Unit | None:
        """Return the unit that a sentence quotes verbatim. Units in passages that the answer cites are preferred."""
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
        """Return the best units, best first. ``likeness`` contains the cosine between the claim and each unit, or is
        ``None``.
        """
        hinted_ranks = set(hints)
        windows = [self._window(claim, (unit,), likeness) for unit in self._units]
        for window in windows:
            if window.score > 0 and self.passages[window.units[0].passage].rank in hinted_ranks:
                window.score += HINT_SCORE
        windows.sort(key=lambda window: -window.score)
        return [window for window in windows[:MAX_CANDIDATES] if window.score > 0]

    def _pairs(self, claim: _Claimed, candidates: list[_Window], likeness: Any) -> Iterator[_Window]:
        """Yield the best candidates together with their neighbouring units, then pairs of candidates."""
        best = [window.units[0] for window in candidates]
        for unit in best[:3]:
            for pair in pairwise(self._units[max(0, unit.number - 1) : unit.number + 2]):
                if pair[0].passage == pair[1].passage:
                    yield self._window(claim, pair, likeness)
        for place, unit in enumerate(best[:3], 1):
            for neighbour in best[place:4]:
                yield self._window(claim, (unit, neighbour), likeness)

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
        """Return the first of the units as evidence, up to `MAX_EVIDENCE`."""
        return tuple(
            Evidence(
                rank=passage.rank,
                file_id=passage.file_id,
                filename=passage.filename,
                place=row_place(passage, unit.span),
                quote=passage.text[unit.span.start : unit.span.end],
                start=unit.span.start,
                end=unit.span.end,
            )
            for unit in found_units[:MAX_EVIDENCE]
            for passage in (self.passages[unit.passage],)
        )


def find_change(claim: str, source: str) -> ClaimReason:
    """Return which kind of fact in a claim the whole ``source`` lacks or contradicts; ``""`` if it has all facts."""
    check = EvidenceCheck([Passage(rank=1, score=1.0, text=source, file_id="", filename="")])
    return _find_change(check._prepare_claim(claim), _Window(tuple(check._units)))


def _squeezed(folded_text: str) -> str:
    return _SQUEEZED.sub("", folded_text)


def _quotes(quotation: str, source: str) -> bool:
    """Return whether ``quotation`` quotes ``source``: nearly all of it, or whole clauses. White space is already
    removed from both.
    """
    at = source.find(quotation)
    if at < 0:
        return False
    if len(quotation) >= VERBATIM_SHARE * len(source):
        return True
    before, after = source[:at], source[at + len(quotation) :]
    return (not before or before[-1] in _BORDER) and (not after or after[0] in _BORDER)


def _find_change(claim: _Claimed, window: _Window) -> ClaimReason:
    """Return which kind of fact in a claim the source lacks; ``""`` if it lacks none."""
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
    # Text may state a year once for all dates that follow.
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
        # A pronoun in the source may refer to a preceding name; a different name in the source is a different
        # fact.
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
    """Return whether a clause is negated in only one of the claim and the source."""
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
