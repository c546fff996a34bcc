"""The sentences of an answer as claims, each with the passages that support it, found without a large model.

`ClaimReader` splits an answer as it comes, `EvidenceCheck` compares a sentence with the passages. Marks such as ``[2]``
only say where to look first: a passage supports a claim if it has its words and does not change its facts (`facts`).
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
from typing import Any, Literal, NamedTuple

from portico.wire import AnswerClaim, ClaimReason, Evidence, Passage
from portico_server.apps.answer import facts
from portico_server.apps.answer.material import context_of, is_code, rarity
from portico_server.apps.answer.terms import fold, stems, words
from portico_server.apps.answer.units import QuotableUnit, sentences, units
from portico_server.core.dataclass import dataclass
from portico_server.core.passage import MARK_PATTERN, marks

MAX_CLAIMS = 1_000
"""Sentences of an answer that are checked; all that is behind them is one claim without evidence (``too_long``)."""

MAX_CLAIM_CHARS = 2_000
"""Characters from which a sentence is cut, so that each piece is checked by itself."""

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

MIN_CLAIM_TERMS = 2
"""Words of meaning below which a sentence without a fact says nothing that could be checked."""

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
"""What may become a mark of the sentence before it."""

_MAY_END = re.compile(r"[.!?…。！？｡\n]")
_RULE = re.compile(r"[\s|:=*_-]*$")
_DENIAL = re.compile(
    r"\b(?:passages?|documents?|context|sources?|texts?)\s+(?:\w+\s+)?(?:do|does|did|may|might)(?:\s+not|n[’']t)\s+(?:\w+\s+)?"
    r"(?:mention|say|state|contain|provide|specify|include|answer|give|describe|cover)"
    r"|\bnot\s+(?:\w+\s+){0,2}(?:in|by)\s+(?:the|these)\s+(?:\w+\s+)?(?:passages?|documents?|context|sources?)"
    r"|(?:文档|文件|段落|资料|上下文)[^，。]{0,6}(?:没有|未|并未)[^，。]{0,4}(?:提|说|包含|相关|给出|说明)",
    re.IGNORECASE,
)
_SQUEEZED = re.compile(r"[\s\"'“”‘’`*_|>]+")
_BORDER = ",;:，；：、。.!?！？("


# --- sentences ------------------------------------------------------------------------------------------------


class Sentence(NamedTuple):
    """A sentence of an answer: its offsets, its text without markup, and the numbers of the passages it points at.

    ``kind``: ``claim``; ``other`` for what says nothing of the documents, such as a heading or a question; ``rest`` for
    all that is behind the last sentence that is checked.
    """

    start: int
    end: int
    text: str
    hints: tuple[int, ...] = ()
    kind: Literal["claim", "other", "rest"] = "claim"


def without_markup(text: str) -> str:
    """``text`` with spaces in the place of Markdown and of marks: of the same length."""
    return _MARKUP.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


class ClaimReader:
    """Splits an answer that comes in pieces. A sentence is whole when the next one begins, or at the end.

    `feed` and `close` return pieces of text and the sentences between them, in order: a sentence comes behind its
    last character and before what follows it.
    """

    def __init__(self) -> None:
        self._open = ""
        """What no sentence was made of so far."""
        self._start = 0
        """Where it begins in the answer."""
        self._shown = 0
        """How much of it was returned."""
        self._fenced = False
        self._count = 0
        self._rest = -1
        """Where what is not checked begins."""
        self._size = 0

    def feed(self, text: str) -> list[str | Sentence]:
        """The next piece of the answer."""
        self._size += len(text)
        if self._rest >= 0:
            return [text] if text else []
        self._open += text
        found: list[str | Sentence] = []
        if _MAY_END.search(self._open, max(0, len(self._open) - len(text) - 8)) or self._is_long:
            found = self._split(last=False)
        return [*found, *self._shown_rest()]

    def skip(self, text: str) -> list[str | Sentence]:
        """A piece that is not checked, behind what is."""
        found = self.close()
        self._size += len(text)
        self._start += len(text)
        return [*found, text]

    def close(self) -> list[str | Sentence]:
        """What is left, when nothing more comes."""
        if self._rest >= 0:
            return [Sentence(self._rest, self._size, "", kind="rest")]
        return [*self._split(last=True), *self._shown_rest()]

    @property
    def _is_long(self) -> bool:
        return len(self._open) > MAX_CLAIM_CHARS

    def _shown_rest(self) -> list[str | Sentence]:
        text, self._shown = self._open[self._shown :], len(self._open)
        return [text] if text else []

    def _split(self, *, last: bool) -> list[str | Sentence]:
        found: list[str | Sentence] = []
        while (end := self._next_end(last=last)) > 0:
            piece = self._open[:end]
            if len(piece) > self._shown:
                found.append(piece[self._shown :])
            found.append(self._sentence(piece))
            self._count += 1
            self._open, self._start = self._open[end:], self._start + end
            self._shown = max(0, self._shown - end)
            if self._count >= MAX_CLAIMS and not last:
                self._rest = self._start
                break
        return found

    def _next_end(self, *, last: bool) -> int:
        """Where the first sentence of what is open ends, with its marks; 0 if it may continue."""
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
        """Behind the marks that follow a sentence."""
        found = _MARKS.match(self._open, end)
        return found.end() if found is not None and found.end() <= limit else end

    def _fence_end(self, *, last: bool) -> int:
        """Code within a fence is one claim, as far as it is not too long."""
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
        fenced = _FENCE.match(piece) is not None
        plain = _FENCED_MARKUP.sub("", piece) if fenced else without_markup(piece)
        bare = piece if fenced or not plain.strip() else plain
        start = self._start + len(bare) - len(bare.lstrip())
        end = self._start + len(piece.rstrip())
        return Sentence(
            min(start, end), end, plain.strip(), hints, "claim" if is_claim(piece, plain) else "other"
        )


def is_claim(piece: str, plain: str) -> bool:
    """Whether a sentence says something of the documents: not a heading, a question, a lead-in or a denial."""
    text = plain.strip()
    if not text or _RULE.match(text) or _HEADING.match(piece.lstrip(" >")) or text.endswith(("?", "？")):
        return False
    if _DENIAL.search(text):
        return False
    folded = fold(text)
    compared = words(folded)
    if text.endswith((":", "：")):
        return bool(facts.quantities(folded) or facts.dates(folded))
    if len(compared) >= MIN_CLAIM_TERMS:
        return True
    return bool(facts.quantities(folded) or facts.dates(folded) or facts.names(text, folded))


# --- evidence -------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Facts:
    quantities: tuple[facts.Quantity, ...]
    dates: frozenset[str]
    names: tuple[facts.NameWord, ...]
    clauses: list[tuple[str, bool]]


def _facts_of(text: str, folded: str) -> _Facts:
    return _Facts(
        facts.quantities(folded), facts.dates(folded), facts.names(text, folded), facts.clauses(folded)
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
        found: list[_Unit] = []
        for number, passage in enumerate(self.passages):
            before = fold(context_of(passage))
            for span in units(passage.text, code=is_code(passage), headings=passage.place.heading):
                if len(found) == MAX_EVIDENCE_UNITS:
                    return found
                text = passage.text[span.start : span.end][:MAX_CLAIM_CHARS]
                if span.lead is not None:
                    text = f"{passage.text[span.lead[0] : span.lead[1]]}\n{text}"
                folded = fold(text)
                terms, above = (frozenset(stems(words(one))) for one in (folded, before))
                found.append(_Unit(len(found), number, span, text, folded, terms, before, above))
                before = f"{before}\n{folded}"[-MAX_CLAIM_CHARS:]
        return found

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
        quoted = self._verbatim(claim, sentence.hints)
        if quoted is not None:
            return AnswerClaim(start, end, True, "", self._evidence([quoted]))
        likeness = (
            None if vector is None or self._vectors is None else self._vectors @ _normalised([vector])[0]
        )
        candidates = self._candidates(claim, sentence.hints, likeness)
        if not candidates:
            return AnswerClaim(start, end, False, "no_evidence")
        reason: ClaimReason = ""
        supporting: list[_Unit] = []
        least = max(
            MIN_SUPPORT_WITHOUT_VECTORS if likeness is None else MIN_SUPPORT,
            candidates[0].score - MAX_SHORTFALL,
        )
        for window in (*candidates, *self._pairs(claim, candidates, likeness)):
            if supporting and (len(window.units) > 1 or len(supporting) == MAX_EVIDENCE):
                break
            if window.score < least or self._share(claim, window.terms) < MIN_OWN_SHARE:
                continue
            changed = _changed(claim, window)
            if not changed:
                supporting += [unit for unit in window.units if unit not in supporting]
            reason = reason or changed
        if supporting:
            return AnswerClaim(start, end, True, "", self._evidence(supporting))
        return AnswerClaim(start, end, False, reason or "no_evidence")

    def _claimed(self, text: str) -> _Claimed:
        """A sentence prepared for comparison. Numbers and names that no passage has are facts, not words."""
        folded = fold(text[:MAX_CLAIM_CHARS])
        claim = _Claimed(text, folded, [])
        names = {name.word for name in claim.facts.names if name.certain}
        compared = [word for word in words(folded) if not word.isdigit() and word not in facts.NUMBER_WORDS]
        kept = [word for word in compared if word not in names or stems([word])[0] in self._rarity]
        claim.terms = list(dict.fromkeys(stems(kept)))
        return claim

    def _verbatim(self, claim: _Claimed, hints: Iterable[int]) -> _Unit | None:
        """The unit that a sentence quotes to the letter, one that the answer points at before others."""
        wanted = _squeezed(claim.folded).strip(_BORDER)
        if len(wanted) < 2:
            return None
        holders = [unit for unit in self._units if _quotes(wanted, unit.squeezed)]
        pointed = set(hints)
        return min(
            holders,
            key=lambda unit: (self.passages[unit.passage].rank not in pointed, len(unit.text)),
            default=None,
        )

    def _candidates(self, claim: _Claimed, hints: Iterable[int], likeness: Any) -> list[_Window]:
        """The best units, best first. ``likeness``: the cosine of the claim with each unit, or ``None``."""
        pointed = set(hints)
        windows = [self._window(claim, (unit,), likeness) for unit in self._units]
        for window in windows:
            if window.score > 0 and self.passages[window.units[0].passage].rank in pointed:
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
        found = total = 0.0
        for term in claim.terms:
            weight = self._rarity.get(term, self._unknown)
            total += weight
            if term in terms:
                found += weight
            elif term in context:
                found += CONTEXT_WEIGHT * weight
        return found / total if total else 1.0

    def _evidence(self, found: Sequence[_Unit]) -> tuple[Evidence, ...]:
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
            for unit in found[:MAX_EVIDENCE]
            for passage in (self.passages[unit.passage],)
        )


def _squeezed(folded: str) -> str:
    return _SQUEEZED.sub("", folded)


def _quotes(wanted: str, source: str) -> bool:
    """Whether squeezed ``wanted`` is a quotation of ``source``: nearly all of it, or whole clauses."""
    at = source.find(wanted)
    if at < 0:
        return False
    if len(wanted) >= VERBATIM_SHARE * len(source):
        return True
    before, after = source[:at], source[at + len(wanted) :]
    return (not before or before[-1] in _BORDER) and (not after or after[0] in _BORDER)


def _changed(claim: _Claimed, window: _Window) -> ClaimReason:
    """Which fact of a claim its source does not have; "" if none."""
    source = [unit.facts for unit in window.units]
    there = tuple(one for known in source for one in known.quantities)
    if facts.number_missing(claim.facts.quantities, there, window.folded):
        return "number"
    if _date_changed(claim, window):
        return "date"
    if _name_changed(claim, window):
        return "name"
    if facts.opposed(claim.folded, window.folded) or _negated(claim, window):
        return "negation"
    return ""


def _date_changed(claim: _Claimed, window: _Window) -> bool:
    wanted = claim.facts.dates
    if not wanted:
        return False
    there = frozenset[str]().union(*(unit.facts.dates for unit in window.units))
    missing = wanted - there
    if not missing:
        return False
    kinds = {part[0] for part in there}
    if any(part[0] in kinds for part in missing):
        return True
    # A year may be said once for all that follows.
    before = facts.dates("\n".join(unit.context for unit in window.units))
    numbers = {one.value for unit in window.units for one in unit.facts.quantities}
    return not all(part in before or (part[0] == "y" and float(part[1:]) in numbers) for part in missing)


def _name_changed(claim: _Claimed, window: _Window) -> bool:
    for name in claim.facts.names:
        if facts.holds_name(name, window.folded, window.terms):
            continue
        context = "\n".join(unit.context for unit in window.units)
        if not name.certain and not re.search(rf"\b{re.escape(name.word)}", context):
            return True
        if not facts.holds_name(name, context, frozenset(stems(words(context)))):
            return True
        # What the source calls by a pronoun may have its name before; where it names another, it is another.
        others = [
            other
            for unit in window.units
            for other in unit.facts.names
            if other.certain and not facts.holds_name(other, claim.folded, frozenset(claim.terms))
        ]
        if any(abs(other.at - name.at) < 0.3 for other in others):
            return True
    return False


def _negated(claim: _Claimed, window: _Window) -> bool:
    """Whether a clause of the claim is negated and the same clause of the source is not, or the other way round."""
    source = [clause for unit in window.units for clause in unit.facts.clauses]
    prepared = [(frozenset(stems(words(text))), negated) for text, negated in source]
    for text, negated in claim.facts.clauses:
        terms = frozenset(stems(words(text)))
        if not terms:
            continue
        shared = [len(terms & other) for other, _negated_there in prepared]
        best = max(shared, default=0)
        if best == 0 or best < 0.4 * len(terms):
            continue
        nearest = [there for (_terms, there), count in zip(prepared, shared, strict=True) if count == best]
        if all(there != negated for there in nearest):
            return True
    return False


def _normalised(vectors: Sequence[bytes]) -> Any:
    import numpy as np

    matrix = np.array([np.frombuffer(vector, dtype="<f4") for vector in vectors])
    return matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-9)
