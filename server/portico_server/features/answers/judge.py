"""Judges whether passages answer a question, and which of their sentences do.

English passages are compared with the glosses of a Chinese question, Chinese passages with those of an English one.
The scores of a candidate and of the passages are sums of features (`material`) with trained weights (`weights`,
created by ``bench/answer_weights.py``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Literal, TypeAlias

from portico.wire import Passage
from portico_server.core.dataclass import dataclass
from portico_server.core.glosses import gloss_question
from portico_server.core.pools import SEARCH
from portico_server.features.answers import expects, weights
from portico_server.features.answers.chains import sentence_chains
from portico_server.features.answers.language import CJK, language
from portico_server.features.answers.material import (
    Material,
    QuoteCandidate,
    SoftMatch,
    is_code,
    quote_candidate,
)
from portico_server.features.answers.relevance import headings_for
from portico_server.features.answers.units import section_below

SEARCH_RESULTS = 16
"""Number of passages to search for: the first passages are quoted, and all passages determine how rare the question's
words are.
"""

MIN_LEAD_SCORE = 0.5
"""Minimum score gap between the first and second hit. Half of the answerable questions exceed it, and one in thirty of
the others …
"""

LEADING_WORDS_SHARE = 0.3
"""… and the minimum share of the question's words, weighted by rarity, that the first passage must then contain."""

LEAD_BONUS_SCORE = 0.75
"""Score bonus if the first hit stands out. It makes it less likely that the question counts as unanswered."""

ACROSS_SCORE, ACROSS_CJK_SCORE = -6.6, -8.5
"""Minimum scores of questions over documents that are all in other languages than the question: for questions in
languages other than Chinese, and in Chinese. Questions below the minimum count as unanswered.

Three in four such questions without an answer score below the minimum, and one in ten of those with a quotable answer.
"""

MIN_GLOSSED_SCORE, MIN_GLOSSED_CJK_SCORE = -2.0, -2.7
"""Minimum scores at which passages that are all in another language may answer the glosses of a question: for English
passages and for Chinese ones. Questions below the minimum count as unanswered.

Of 110 XQuAD questions in each direction, 15 and 22 % score below it although their article is there, and 81 and 83 %
if it is missing.
"""

ALONE_SCORE, ALONE_CJK_SCORE = 1.405, -0.163
"""Minimum scores at which a passage answers alone after a search that proceeds from passage to passage. In such a
search, passages with only a part of the answer score high too.

One in ten of the questions with an answer in a single passage score below the minimum.
"""

ECHO_PENALTY = 6.0
"""Score penalty for a candidate that repeats the question instead of answering: it is a question itself, or quotes
this question.
"""

BARE_CODE_PENALTY = 9.0
"""Score penalty for code without an introducing sentence: such code repeats the words of a question without explaining
them.
"""

MIN_NEAR_SOFT, MIN_NEAR_SOFT_CJK = 0.5, 0.58
"""Minimum similarity of the question's words to the nearest words of a passage, weighted by rarity, at which the
passage is about what the question asks, for other questions and for Chinese ones; from 0 to 1."""

MIN_NEAR_WORDS_SHARE = 0.7
"""Minimum share of the question's words in such a passage if no vectors are available."""

LANGUAGE_SAMPLE_CHARS = 2_000
"""Number of characters of a passage from which its language is detected."""


MAX_COMPARED_PASSAGES = 16
"""Number of passages whose sentences are searched for the nearest match of each question word."""


MAX_HEADED_PASSAGES = 10
"""Number of passages among which a heading that is the question is looked for."""

HEADED_BONUS_SCORE = 20.0
"""Score of the text below such a heading above the best other candidate: it answers alone."""

MIN_SECTION_SCORE = 2.0
"""Minimum score at which a section answers a question in a language other than Chinese without doubt.

Of public questions about git and Ansible, 8 of 12 without an answer score below it, and 6 of 24 whose section answers.
"""

MIN_SECTION_SOFT = 0.7
"""Minimum mean similarity of the question's words to the nearest words of a passage at which its section is quoted."""

MIN_SURE_COSINE = 0.4
"""Minimum cosine between each question word and the nearest word of a chain. Below it, the chain may lack something
that the question asks for.
"""

Verdict: TypeAlias = Literal["answered", "doubtful", "absent"]

_CJK_CHARS = re.compile(f"[{CJK}]+")

_VERDICTS: tuple[Verdict, ...] = ("absent", "doubtful", "answered")

Embedder: TypeAlias = Callable[[Sequence[str]], Awaitable[Sequence[bytes] | None]]
"""Returns vectors of texts as little-endian float32, or ``None`` if unavailable."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on a question and its passages. ``candidates`` with their scores, best first. ``chain``: candidates
    that answer together, in order, if there are several.

    ``evidence``: the log-odds that the passages contain an answer. ``is_near``: a passage is about what the question
    asks, even if no sentence answers.
    """

    verdict: Verdict
    candidates: tuple[tuple[QuoteCandidate, float], ...]
    chain: tuple[QuoteCandidate, ...] = ()
    evidence: float = 0.0
    is_near: bool = False


async def judge(
    question: str,
    passages: Sequence[Passage],
    embed: Embedder,
    *,
    earlier: str = "",
    names: Sequence[Sequence[str]] = (),
) -> Judgement:
    """Judge ``passages``, the result of a search for ``question``. ``earlier`` is the previous question if
    ``question`` is a follow-up.

    ``names`` are the names in each passage. They are passed if the search proceeded from passage to passage; the
    passages are then judged together.
    """
    if not passages:
        return Judgement("absent", ())
    foreign_count = await SEARCH.run(_count_foreign, question, passages)
    judgement = None
    if foreign_count < len(passages):
        judgement = await _judge_in_own_language(question, passages, embed, earlier, names)
        if judgement.verdict == "answered" or not foreign_count:
            return judgement
    glossed = await SEARCH.run(_glossed_material, question, passages, earlier)
    vectors = await embed(glossed.texts()) if glossed.candidates else None
    glossed_judgement = await SEARCH.run(_judge, glossed, vectors)
    min_score = MIN_GLOSSED_CJK_SCORE if glossed.cjk else MIN_GLOSSED_SCORE
    if (
        judgement is None
        and glossed_judgement.verdict == "absent"
        and glossed_judgement.evidence >= min_score
    ):
        glossed_judgement = replace(glossed_judgement, verdict="doubtful")
    if judgement is None or _VERDICTS.index(glossed_judgement.verdict) > _VERDICTS.index(judgement.verdict):
        return glossed_judgement
    return judgement


def _count_foreign(question: str, passages: Sequence[Passage]) -> int:
    return sum(is_foreign(question, passage) for passage in passages)


def is_foreign(question: str, passage: Passage) -> bool:
    """Return whether ``question`` is in Chinese and ``passage`` in English, or the reverse."""
    languages = language(question).partition("-")[0], _language(passage.text[:LANGUAGE_SAMPLE_CHARS])
    return set(languages) == {"zh", "en"}


def _glossed_material(question: str, passages: Sequence[Passage], earlier: str) -> Material:
    texts = [passage.text for passage in passages]
    glossed, glossed_earlier = gloss_question(question, texts), gloss_question(earlier, texts)
    return Material(glossed, passages, glossed_earlier, original=question)


async def _judge_in_own_language(
    question: str,
    passages: Sequence[Passage],
    embed: Embedder,
    earlier: str,
    names: Sequence[Sequence[str]],
) -> Judgement:
    material = await SEARCH.run(Material, question, passages, earlier)
    vectors = await embed(material.texts()) if material.candidates else None
    judgement, section = await SEARCH.run(_judge_sections, material, vectors, passages)
    if section is not None:
        best = judgement.candidates[0][1] if judgement.candidates else 0.0
        candidates = ((section, best + HEADED_BONUS_SCORE), *judgement.candidates)
        return replace(judgement, verdict="answered", candidates=candidates)
    if not names or vectors is None:
        return judgement
    several = await SEARCH.run(Material, question, passages, earlier, MAX_COMPARED_PASSAGES)
    vectors = await embed(several.texts())
    return judgement if vectors is None else await SEARCH.run(_together, judgement, several, names, vectors)


def _judge_sections(
    material: Material, vectors: Sequence[bytes] | None, passages: Sequence[Passage]
) -> tuple[Judgement, QuoteCandidate | None]:
    """Return the judgement, and the section whose heading is the question."""
    return _judge(material, vectors), _headed(material.question, passages)


def _headed(question: str, passages: Sequence[Passage]) -> QuoteCandidate | None:
    """Return the first unit of the section whose heading is the question, or names what the question asks."""
    names = headings_for(question, exactly=expects.kind(question) in expects.FACTS)
    headed = [
        (number, passage, unit)
        for number, passage in enumerate(passages[:MAX_HEADED_PASSAGES])
        if not is_code(passage) and (unit := section_below(passage.text, names, passage.place.heading))
    ]
    if not headed:
        return None
    # A long section has several passages, and its text begins in the first one.
    file = headed[0][1].file_id
    number, passage, unit = min(
        (item for item in headed if item[1].file_id == file), key=lambda item: item[1].place.start
    )
    return quote_candidate(number, 0, unit, passage.text[unit.start : unit.end])


def _together(
    judgement: Judgement, material: Material, names: Sequence[Sequence[str]], vectors: Sequence[bytes]
) -> Judgement:
    """If no passage answers alone, judge whether several passages answer together."""
    if judgement.verdict == "answered" and judgement.evidence < (
        ALONE_CJK_SCORE if material.cjk else ALONE_SCORE
    ):
        judgement = replace(judgement, verdict="doubtful")
    found_sentence_chains = sentence_chains(material, names, _soft(material, vectors))
    known_weights, lines, one_line = (
        (weights.CHAIN_CJK, weights.CHAIN_CJK_LINES, weights.CHAIN_CJK_ONE_SCORE)
        if material.cjk
        else (weights.CHAIN, weights.CHAIN_LINES, weights.CHAIN_ONE_SCORE)
    )
    scores = {
        chain.candidates: _sum(known_weights, chain.features) + lines.constant
        for chain in found_sentence_chains
    }
    sure = {chain.candidates for chain in found_sentence_chains if chain.features["least"] >= MIN_SURE_COSINE}
    best = max((path for path in scores if len(path) > 1), key=scores.__getitem__, default=())
    single = max((path for path in scores if len(path) == 1), key=scores.__getitem__, default=())
    likely = scores.get(best, -math.inf)
    is_sure = likely >= lines.doubtful and best in sure
    answers_alone = judgement.verdict == "answered"
    if likely >= (lines.doubtful if answers_alone else lines.absent):
        verdict: Verdict = "answered" if is_sure or answers_alone else "doubtful"
        chain = [material.candidates[number] for number in best]
        if (
            judgement.verdict != "absent" and judgement.candidates
        ):  # a candidate that may answer alone stays first
            first = judgement.candidates[0][0]
            chain = [first, *chain] if first.text not in [candidate.text for candidate in chain] else chain
        return Judgement(verdict, judgement.candidates, tuple(chain))
    if judgement.verdict == "absent" and scores.get(single, -math.inf) >= one_line:
        return Judgement("doubtful", judgement.candidates)
    return judgement


def _judge(material: Material, vectors: Sequence[bytes] | None) -> Judgement:
    soft = None if vectors is None else _soft(material, vectors)
    sentence = weights.SENTENCE if soft is not None else weights.SENTENCE_WITHOUT_VECTORS
    scores = [
        _sum(sentence, features)
        - (ECHO_PENALTY if material.is_echo(candidate) else 0.0)
        - (BARE_CODE_PENALTY if material.is_bare_code(candidate) else 0.0)
        for candidate, features in zip(material.candidates, material.of_candidates(soft), strict=True)
    ]
    order = sorted(range(len(scores)), key=lambda number: -scores[number])
    scored_candidates = tuple((material.candidates[number], scores[number]) for number in order)
    known_weights, lines = _of_passages(material.cjk, soft is not None)
    features = material.of_passages(soft)
    evidence = _sum(known_weights, features) + lines.constant
    verdict = _verdict(material, features, evidence, lines)
    if scored_candidates and has_section(
        material.original, material.passages[scored_candidates[0][0].passage]
    ):
        verdict = _of_section(verdict, features, evidence, cjk=material.cjk)
    return Judgement(verdict, scored_candidates, evidence=evidence, is_near=_is_near(material, features))


def _is_near(material: Material, features: Mapping[str, float]) -> bool:
    """Return whether a passage is about what the question asks."""
    if material.has_latin_name():
        return True
    if "soft" in features:
        return features["soft"] >= (MIN_NEAR_SOFT_CJK if material.cjk else MIN_NEAR_SOFT)
    return features["plain"] >= MIN_NEAR_WORDS_SHARE


def _soft(material: Material, vectors: Sequence[bytes]) -> SoftMatch:
    import numpy as np

    return material.soft([np.frombuffer(vector, dtype="<f4") for vector in vectors])


def stands_out(features: Mapping[str, float]) -> bool:
    """Return whether the first passage scores far above all others: such a passage may be right even if it contains
    few of the question's words.
    """
    return features["gap"] >= MIN_LEAD_SCORE and features["passage"] >= LEADING_WORDS_SHARE


def _of_passages(cjk: bool, vectors: bool) -> tuple[Mapping[str, float], weights.DecisionLines]:
    """Return the weights and decision lines for the evidence in passages, by script and by whether word vectors are
    available.
    """
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
        line = (
            ACROSS_CJK_SCORE if material.cjk else ACROSS_SCORE
        )  # matching words say little about text in another language
    else:
        line = lines.absent - (LEAD_BONUS_SCORE if stands_out(features) else 0.0)
    return "doubtful" if evidence >= line else "absent"


def _of_section(verdict: Verdict, features: Mapping[str, float], evidence: float, *, cjk: bool) -> Verdict:
    """Return the verdict on a section of a documentation, where a question shares few words with its answer, and many
    with sections about the same subject: both count as doubtful.
    """
    if verdict == "answered" and not cjk and evidence < MIN_SECTION_SCORE:
        return "doubtful"
    if verdict == "absent" and features.get("soft_plain", 0.0) >= MIN_SECTION_SOFT:
        return "doubtful"
    return verdict


def has_section(question: str, passage: Passage) -> bool:
    """Return whether a section answers ``question`` rather than a sentence: not if a few words answer it."""
    return (
        bool(passage.place.heading) and expects.kind(question) not in expects.FACTS and not is_code(passage)
    )


def is_across(question: str, passages: Sequence[Passage]) -> bool:
    """Return whether no passage is in the question's language. The language is detected by script and common words."""
    question_language = language(question).partition("-")[0]
    return not any(
        question_language == _language(passage.text[:LANGUAGE_SAMPLE_CHARS]) for passage in passages
    )


@lru_cache(maxsize=256)
def _language(text: str) -> str:
    """Return the main language of ``text``. A few characters of another script are treated as names."""
    other_chars = _CJK_CHARS.sub("", text)
    return language(text if len(text) - len(other_chars) > 0.1 * len(text) else other_chars).partition("-")[0]


def _sum(known_weights: Mapping[str, float], features: Mapping[str, float]) -> float:
    return sum(weight * features[name] for name, weight in known_weights.items())
