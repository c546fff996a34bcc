"""Whether passages answer a question, and with which of their sentences.

The score of a candidate and the score of the passages are sums of features (`material`) with trained weights
(`weights`, made by ``bench/answer_weights.py``).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias

from portico.wire import Passage
from portico_server.apps.answer import weights
from portico_server.apps.answer.material import Material, QuoteCandidate, SoftMatch, context_of
from portico_server.apps.answer.terms import fold, has_cjk
from portico_server.apps.language import language
from portico_server.core.dataclass import dataclass
from portico_server.core.pools import SEARCH
from portico_server.core.words import says

SEARCH_RESULTS = 16
"""Passages that are searched for: the first are quoted from, all of them tell how rare the question's words are."""

MIN_LEAD_SCORE = 0.5
"""How far above the second hit a first one stands out: of a question in two whose answer is there it does, of one in
thirty where it is not …"""

LEADING_WORDS_SHARE = 0.3
"""… and the share of the question's words, weighted by rarity, that one of the first passages then has."""

LEAD_BONUS_SCORE = 0.75
"""What a first hit that stands out adds to the score before its question is denied."""

ACROSS_SCORE, ACROSS_CJK_SCORE = -6.6, -10.5
"""Scores of questions, in Chinese and others, over documents in other languages alone, below which they are denied.

Three in four such questions without an answer score below them, and one in ten of those whose answer can be quoted.
"""

ALONE_SCORE, ALONE_CJK_SCORE = 1.405, 0.686
"""Scores from which a passage answers alone where the search goes from one to the next: a part of the way scores high.

One in ten of the questions whose answer is in one passage score below them.
"""

ECHO_PENALTY = 6.0
"""What a candidate loses that asks instead of answering: a question, or what quotes this one."""

BARE_CODE_PENALTY = 9.0
"""What code loses that no sentence introduces: it repeats the words of a question without saying anything of them."""

LANGUAGE_SAMPLE_CHARS = 2_000
"""Characters of passages by which their language is told."""

MAX_CHAIN_PASSAGES = 8
"""Passages in which the sentences of a chain are looked for."""

MAX_CHAIN_SENTENCES = 4
"""Sentences of a chain: one for each hop."""

MAX_COMPARED_PASSAGES = 16
"""Passages whose sentences tell how near any of them is to a word of the question."""

MAX_CHAINS = 2_000
"""Chains that are compared."""

COMMON_SHARE, MIN_COMMON_PASSAGES = 0.5, 2
"""What more than this share of the passages name, or more than so many of a few, leads nowhere."""

MIN_STRONG_COSINE = 0.55
"""Likeness of two words from which they say the same."""

MIN_SURE_COSINE = 0.4
"""Likeness to a word of a chain that each word of a question needs, or something that is asked for may be missing."""

Verdict: TypeAlias = Literal["answered", "doubtful", "absent"]

Embedder: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[bytes] | None]]
"""Vectors of texts as little-endian float32, or ``None`` where there are none."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``candidates`` with their scores, best first. ``chain``: those that answer together, in order, if several do.

    ``evidence``: the logarithm of the odds that an answer is in the passages.
    """

    verdict: Verdict
    candidates: tuple[tuple[QuoteCandidate, float], ...]
    chain: tuple[QuoteCandidate, ...] = ()
    evidence: float = 0.0


async def judge(
    question: str,
    passages: Sequence[Passage],
    embed: Embedder,
    *,
    earlier: str = "",
    names: Sequence[Sequence[str]] = (),
) -> Judgement:
    """Judge ``passages``, which a search for ``question`` found; ``earlier``: the question that it follows up.

    ``names``: what each passage names, where the search went from one to the next; they are judged together then.
    """
    if not passages:
        return Judgement("absent", ())
    material = await SEARCH.run(Material, question, passages, earlier)
    vectors = await embed(material.texts()) if material.candidates else None
    judgement = await SEARCH.run(_judged, material, vectors)
    if not names or vectors is None:
        return judgement
    several = await SEARCH.run(Material, question, passages, earlier, MAX_COMPARED_PASSAGES)
    vectors = await embed(several.texts())
    return judgement if vectors is None else await SEARCH.run(_together, judgement, several, names, vectors)


def _together(
    alone: Judgement, material: Material, names: Sequence[Sequence[str]], vectors: Sequence[bytes]
) -> Judgement:
    """What passages say together where one alone does not answer."""
    if alone.verdict == "answered" and alone.evidence < (ALONE_CJK_SCORE if material.cjk else ALONE_SCORE):
        alone = replace(alone, verdict="doubtful")
    found = chains(material, names, _soft(material, vectors))
    known, lines, one_line = (
        (weights.CHAIN_CJK, weights.CHAIN_CJK_LINES, weights.CHAIN_CJK_ONE_SCORE)
        if material.cjk
        else (weights.CHAIN, weights.CHAIN_LINES, weights.CHAIN_ONE_SCORE)
    )
    scores = {chain.candidates: _sum(known, chain.features) + lines.constant for chain in found}
    sure = {chain.candidates for chain in found if chain.features["least"] >= MIN_SURE_COSINE}
    best = max((path for path in scores if len(path) > 1), key=scores.__getitem__, default=())
    single = max((path for path in scores if len(path) == 1), key=scores.__getitem__, default=())
    likely = scores.get(best, -math.inf)
    is_sure = likely >= lines.doubtful and best in sure
    answers_alone = alone.verdict == "answered"
    if likely >= (lines.doubtful if answers_alone else lines.absent):
        verdict: Verdict = "answered" if is_sure or answers_alone else "doubtful"
        chain = [material.candidates[number] for number in best]
        if alone.verdict != "absent" and alone.candidates:  # what may answer alone stays the first
            first = alone.candidates[0][0]
            chain = [first, *chain] if first.text not in [candidate.text for candidate in chain] else chain
        return Judgement(verdict, alone.candidates, tuple(chain))
    if alone.verdict == "absent" and scores.get(single, -math.inf) >= one_line:
        return Judgement("doubtful", alone.candidates)
    return alone


def _judged(material: Material, vectors: Sequence[bytes] | None) -> Judgement:
    soft = None if vectors is None else _soft(material, vectors)
    sentence = weights.SENTENCE if soft is not None else weights.SENTENCE_WITHOUT_VECTORS
    scores = [
        _sum(sentence, features)
        - (ECHO_PENALTY if material.is_echo(candidate) else 0.0)
        - (BARE_CODE_PENALTY if material.is_bare_code(candidate) else 0.0)
        for candidate, features in zip(material.candidates, material.of_candidates(soft), strict=True)
    ]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    found = tuple((material.candidates[number], scores[number]) for number in order)
    known, lines = _of_passages(material.cjk, soft is not None)
    features = material.of_passages(soft)
    evidence = _sum(known, features) + lines.constant
    return Judgement(_verdict(material, features, evidence, lines), found, evidence=evidence)


def _soft(material: Material, vectors: Sequence[bytes]) -> SoftMatch:
    import numpy as np

    return material.soft([np.frombuffer(vector, dtype="<f4") for vector in vectors])


def _stands_out(features: Mapping[str, float]) -> bool:
    """Whether the first passage is far from all others: few words may be in it, and yet it is what was meant."""
    return features["gap"] >= MIN_LEAD_SCORE and features["passage"] >= LEADING_WORDS_SHARE


def _of_passages(cjk: bool, vectors: bool) -> tuple[Mapping[str, float], weights.DecisionLines]:
    """The weights and lines for a question, with and without vectors of words."""
    if cjk:
        return (
            (weights.EVIDENCE_CJK, weights.EVIDENCE_CJK_LINES)
            if vectors
            else (weights.EVIDENCE_CJK_WITHOUT_VECTORS, weights.EVIDENCE_CJK_WITHOUT_VECTORS_LINES)
        )
    return (
        (weights.EVIDENCE, weights.EVIDENCE_LINES)
        if vectors
        else (weights.EVIDENCE_WITHOUT_VECTORS, weights.EVIDENCE_WITHOUT_VECTORS_LINES)
    )


def _verdict(
    material: Material, features: Mapping[str, float], evidence: float, lines: weights.DecisionLines
) -> Verdict:
    if evidence >= lines.doubtful:
        return "answered"
    if is_across(material.question, material.passages):
        line = ACROSS_CJK_SCORE if material.cjk else ACROSS_SCORE  # words tell little of another language
    else:
        line = lines.absent - (LEAD_BONUS_SCORE if _stands_out(features) else 0.0)
    return "doubtful" if evidence >= line else "absent"


def is_across(question: str, passages: Sequence[Passage]) -> bool:
    """Whether no passage is in the question's language, as far as script and common words tell."""
    question_language = language(question).partition("-")[0]
    return not any(
        question_language == _language(passage.text[:LANGUAGE_SAMPLE_CHARS]) for passage in passages
    )


def _language(text: str) -> str:
    """The language of most of ``text``: a few characters of another script are names."""
    others = "".join(char for char in text if not has_cjk(char))
    return language(text if len(text) - len(others) > 0.1 * len(text) else others).partition("-")[0]


def _sum(known: Mapping[str, float], features: Mapping[str, float]) -> float:
    return sum(weight * features[name] for name, weight in known.items())


# Sentences that answer together: each names something that the one before it names.


@dataclass(frozen=True, slots=True)
class SentenceChain:
    """Candidates by number, the first one naming something of the question. ``features``: see `weights.CHAIN`."""

    candidates: tuple[int, ...]
    features: Mapping[str, float]


def chains(material: Material, names: Sequence[Sequence[str]], soft: SoftMatch) -> list[SentenceChain]:
    """The chains of sentences in ``material``, the shorter ones first. ``names``: what each passage names, folded."""
    graph = _ChainGraph(material, names)
    if not graph.asked or not graph.relation:
        return []
    return [SentenceChain(path, graph.features(path, soft)) for path in graph.paths()]


class _ChainGraph:
    """What the sentences of passages name. ``relation``: the words of the question, by number, beside its names."""

    def __init__(self, material: Material, names: Sequence[Sequence[str]]) -> None:
        question = fold(material.question)
        counts = Counter(name for own in names for name in set(own))
        said = {name for name in counts if says(question, name)}
        self.asked = {name for name in said if not any(name != other and name in other for other in said)}
        self.relation = [
            number
            for number, word in enumerate(material.question_words)
            if not any(word in name for name in self.asked)
        ]
        most = max(COMMON_SHARE * len(names), MIN_COMMON_PASSAGES)
        self._material = material
        self._names: list[frozenset[str]] = []
        for candidate in material.candidates:
            passage = material.passages[candidate.passage]
            text = f"{fold(context_of(passage))}\n{candidate.folded}"
            own = names[candidate.passage]
            self._names.append(frozenset(name for name in own if counts[name] <= most and says(text, name)))

    def paths(self) -> list[tuple[int, ...]]:
        """Candidates by number of which each names something of the one before, and the first of the question."""
        candidates = [
            number
            for number, candidate in enumerate(self._material.candidates)
            if candidate.passage < MAX_CHAIN_PASSAGES
        ]
        found: list[tuple[int, ...]] = []
        pending: deque[tuple[int, ...]] = deque((number,) for number in candidates if self._begins(number))
        while pending and len(found) < MAX_CHAINS:
            path = pending.popleft()
            found.append(path)
            if len(path) == MAX_CHAIN_SENTENCES:
                continue
            used = {self._material.candidates[number].passage for number in path}
            leads = self._new(path)
            for number in candidates:
                if self._material.candidates[number].passage not in used and leads & self._names[number]:
                    pending.append((*path, number))
        return found

    def _begins(self, number: int) -> bool:
        text = self._material.candidates[number].folded
        return bool(self._names[number] & self.asked) or any(says(text, name) for name in self.asked)

    def _new(self, path: Sequence[int]) -> frozenset[str]:
        """What the last sentence of a path names and neither the question nor a sentence before it."""
        before = self.asked.union(*(self._names[number] for number in path[:-1]))
        return frozenset(
            name for name in self._names[path[-1]] - before if not any(name in other for other in self.asked)
        )

    def features(self, path: Sequence[int], soft: SoftMatch) -> Mapping[str, float]:
        """How much of the question a path covers, with which of its sentences, and whether it ends in a new name."""
        import numpy as np

        every = soft.aligned[:, self.relation]
        aligned = every[list(path)]
        covered = aligned.max(axis=0)
        usual = np.sort(every, axis=0)[len(every) // 2]
        rare = soft.weights[self.relation]
        some = [self._material.candidates[number] for number in path]
        before = "\n".join(candidate.folded for candidate in some[:-1])
        fresh = [name for name in self._new(path) if says(some[-1].folded, name) and not says(before, name)]
        held = sum(any(says(candidate.folded, name) for candidate in some) for name in self.asked)
        words_of_hop = math.log(len(self.relation) / len(path))
        return {
            "cover": float(covered.mean()),
            "cover_rare": float(covered @ rare / (rare.sum() + 1e-9)),
            "strong": float((covered > MIN_STRONG_COSINE).mean()),
            "more": float((covered - usual).mean()),
            "hop_low": float(aligned.max(axis=1).min()),
            "last": float(aligned[-1].max()),
            "cosine": float(soft.cosine[list(path)].mean()),
            "fresh": float(bool(fresh)),
            "type": float(self._material.holds(some[-1].text)),
            "asked": held / len(self.asked),
            "one": float(len(path) == 1),
            "words_of_hop": words_of_hop,
            "words_square": words_of_hop**2,
            "least": float(covered.min()),
        }
