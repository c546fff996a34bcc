"""Whether passages answer a question, and with which of their sentences.

The score of a candidate and the score of the passages are sums of features (`material`) with trained weights
(`weights`, made by ``bench/answer_weights.py``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from portico.wire import Passage
from portico_server.apps.answer import weights
from portico_server.apps.answer.material import Material, QuoteCandidate, SoftMatch
from portico_server.apps.answer.terms import has_cjk
from portico_server.apps.language import language
from portico_server.core.pools import SEARCH

SEARCH_RESULTS = 16
"""Passages that are searched for: the first are quoted from, all of them tell how rare the question's words are."""

SMALL_STORE_RESULTS = 8
"""Passages below which a search has found all that a store holds, so that few words of it are known …"""

RELATED_SCORE = 0.25
"""… and the likeness from which the question's words belong to the same matters as those of a passage."""

MIN_LEAD_SCORE = 0.5
"""How far above the second hit a first one stands out: of a question in two whose answer is there it does, of one in
thirty where it is not …"""

LEADING_WORDS_SHARE = 0.3
"""… and the share of the question's words, weighted by rarity, that one of the first passages then has."""

ECHO_PENALTY = 6.0
"""What a candidate loses that asks instead of answering: a question, or what quotes this one."""

BARE_CODE_PENALTY = 9.0
"""What code loses that no sentence introduces: it repeats the words of a question without saying anything of them."""

LANGUAGE_SAMPLE_CHARS = 2_000
"""Characters of passages by which their language is told."""

Verdict: TypeAlias = Literal["answered", "doubtful", "absent"]

Embedder: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[bytes] | None]]
"""Vectors of texts as little-endian float32, or ``None`` where there are none."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """``candidates`` with their scores, best first."""

    verdict: Verdict
    candidates: tuple[tuple[QuoteCandidate, float], ...]


async def judge(
    question: str, passages: Sequence[Passage], embed: Embedder, *, earlier: str = ""
) -> Judgement:
    """Judge ``passages``, which a search for ``question`` found; ``earlier``: the question that it follows up."""
    if not passages:
        return Judgement("absent", ())
    material = await SEARCH.run(Material, question, passages, earlier)
    vectors = await embed(material.texts()) if material.candidates else None
    return await SEARCH.run(_judged, material, vectors)


def _judged(material: Material, vectors: Sequence[bytes] | None) -> Judgement:
    soft = None
    if vectors is not None:
        import numpy as np

        soft = material.soft([np.frombuffer(vector, dtype="<f4") for vector in vectors])
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
    return Judgement(_verdict(material, soft, features, evidence, lines), found)


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
    material: Material,
    soft: SoftMatch | None,
    features: Mapping[str, float],
    evidence: float,
    lines: weights.DecisionLines,
) -> Verdict:
    if evidence >= lines.doubtful:
        return "answered"
    if (
        len(material.passages) < SMALL_STORE_RESULTS
        and soft is not None
        and soft.nearest >= RELATED_SCORE
        and not material.cjk
    ):
        return "doubtful"
    if (
        evidence >= lines.absent
        or not material.question_terms
        or material.is_vague()
        or _stands_out(features)
        or is_across(material.question, material.passages)
    ):
        # Words cannot tell what is in another language, a question of stop words alone has none, and one
        # word, or a case told to get advice, proves little; and what stands out was meant.
        return "doubtful"
    return "absent"


def is_across(question: str, passages: Sequence[Passage]) -> bool:
    """Whether most passages are in another language than the question, as far as script and common words tell."""
    question_language = language(question).partition("-")[0]
    own = sum(question_language == _language(passage.text[:LANGUAGE_SAMPLE_CHARS]) for passage in passages)
    return 2 * own < len(passages)


def _language(text: str) -> str:
    """The language of most of ``text``: a few characters of another script are names."""
    others = "".join(char for char in text if not has_cjk(char))
    return language(text if len(text) - len(others) > 0.1 * len(text) else others).partition("-")[0]


def _sum(known: Mapping[str, float], features: Mapping[str, float]) -> float:
    return sum(weight * features[name] for name, weight in known.items())
