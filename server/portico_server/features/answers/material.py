"""A question and its passages as features: how each quotable unit, and the passages together, relate to the question.

Features have names; their weights are in `portico_server.features.answers.weights`. Words are weighted by their rarity
among the passages of the search. With word and sentence vectors from a static model, words are also aligned softly:
each word of the question with the most similar word of a unit. Chinese words (`terms.tag_words`) count in addition to
pairs of characters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from portico.wire import Passage
from portico_server.core.dataclass import dataclass
from portico_server.features.answers import expects
from portico_server.features.answers.terms import (
    Tagged,
    characters,
    compounds,
    fold,
    has_cjk,
    noun_phrases,
    stems,
    tag_words,
    words,
)
from portico_server.features.answers.units import QuotableUnit, units

MAX_QUOTED_PASSAGES = 4
"""Number of passages that provide units; later passages only determine how rare words are."""

MAX_UNITS = 80
MAX_UNIT_CHARACTERS = 1_200
MAX_QUESTION_TERMS = 64
MAX_QUESTION_CHARACTERS = 400
"""Limits for comparisons: the number of units, the characters and terms of a unit, and the characters of the question.
More text adds no information.
"""

CODE_SHARE = 0.08
"""Minimum share of code marks among the characters of a text at which the text counts as code."""

MIN_KNOWN_PASSAGES = 16
"""Minimum number of passages from which the rarity of words is computed. If a small store has fewer, the missing
passages count as passages without any word.
"""

EARLIER_WORD_WEIGHT = 0.5
"""Weight of a word that occurs only in the previous question."""

_CODE_FILES = re.compile(
    r"\.(?:py|js|ts|c|h|cpp|cc|go|rs|java|rb|sh|json|ya?ml|toml|ini|css|sql)$", re.IGNORECASE
)
_QUOTED_CODE = re.compile(r"`[^`\n]+`|https?://\S+|\|")
_CODE_MARKS = re.compile(r"[(){}\[\]=_;<>]|\w\.\w|\"")
_QUOTED_QUESTION = re.compile(r"[?？][\"'”’]")
_CAPITALS = re.compile(r"\b[A-Z][\w’'-]*(?:\s+(?:(?:of|the|de|van|von|al|da|di)\s+)?[A-Z][\w’'-]*)*")
_TITLE = re.compile(r"[《「『“\"]([^》」』”\"]{2,30})[》」』”\"]")
_LATIN_NAME = re.compile(r"[a-z][a-z0-9_-]{2,}")
_NAME = re.compile(r"(?<=\s)[A-Z][\w’'-]+|\d[\d,.]*")

MAX_COSINE_ERROR = 1e-6
"""Maximum difference between two cosines that count as equal."""

NEUTRAL_SHARE = 0.7
"""Value of a share of names or phrases in a question that contains none."""


@dataclass(frozen=True, slots=True)
class QuoteCandidate:
    """A unit of a passage. ``passage`` is the number of the passage, ``place`` the number of the unit within it; both
    count from 0.
    """

    passage: int
    place: int
    unit: QuotableUnit
    text: str
    folded: str
    words: tuple[str, ...]
    terms: frozenset[str]


def quote_candidate(passage: int, place: int, unit: QuotableUnit, text: str) -> QuoteCandidate:
    """Return the candidate for a unit whose text is ``text``."""
    folded_text = fold(text[:MAX_UNIT_CHARACTERS])
    text_words = words(folded_text)
    return QuoteCandidate(
        passage, place, unit, text, folded_text, tuple(text_words), frozenset(stems(text_words))
    )


class Material:
    """A question and its ``passages`` in order. The first ``quoted_count`` passages provide the candidates.

    ``earlier`` is the previous question if this question is a follow-up; its words count half. ``original`` is the
    question as it was asked, if ``question`` has the words of another language.
    """

    def __init__(
        self,
        question: str,
        passages: Sequence[Passage],
        earlier: str = "",
        quoted_count: int = MAX_QUOTED_PASSAGES,
        original: str = "",
    ) -> None:
        self.question = question
        self.original = original or question
        self.passages = passages
        self._quoted_passages = passages[:quoted_count]
        folded_question = fold(f"{question}\n{earlier}")
        texts = [fold(passage.text) for passage in passages]
        joined_words = (word for word in compounds(folded_question) if any(word in text for text in texts))
        self.question_words = list(dict.fromkeys((*words(folded_question), *joined_words)))[
            :MAX_QUESTION_TERMS
        ]
        in_order = stems(self.question_words)
        self.question_terms = list(dict.fromkeys(in_order))
        self.characters = characters(folded_question)
        self.kind = expects.kind(self.original)
        self.holds = expects.holds(self.kind, question)
        self.cjk = has_cjk(question)
        self._folded_question = fold(question)[:MAX_QUESTION_CHARACTERS]
        self.candidates = self._candidates()
        self._context = [
            frozenset(stems(words(fold(context_of(passage))))) for passage in self._quoted_passages
        ]
        everywhere = [frozenset(stems(words(text))) for text in texts]
        counts = Counter(term for passage_terms in everywhere for term in passage_terms)
        self._everywhere = everywhere
        now = (
            frozenset(stems([*words(fold(question)), *compounds(fold(question))]))
            if earlier
            else frozenset(self.question_terms)
        )
        self.rarity = {
            term: rarity(counts[term], max(len(passages), MIN_KNOWN_PASSAGES))
            * (1.0 if term in now else EARLIER_WORD_WEIGHT)
            for term in self.question_terms
        }
        self._texts = texts
        question_tags = tag_words(self._folded_question)[:MAX_QUESTION_TERMS] if self.cjk else []
        self.chinese = {
            question_tag.word: rarity(
                sum(question_tag.word in text for text in texts), max(len(passages), MIN_KNOWN_PASSAGES)
            )
            for question_tag in question_tags
        }
        self._chinese_names = frozenset(
            question_tag.word
            for question_tag in question_tags
            if question_tag.is_name or question_tag.is_number
        )
        self._noun_phrases = noun_phrases(self._folded_question) if self.cjk else ()
        self._topics = self._topic_candidates()

    def _candidates(self) -> list[QuoteCandidate]:
        quote_candidates: list[QuoteCandidate] = []
        seen_texts: set[str] = set()
        for number, passage in enumerate(self._quoted_passages):
            parts = units(passage.text, code=is_code(passage), headings=passage.place.heading)
            for place, unit in enumerate(parts):
                text = passage.text[unit.start : unit.end]
                if text in seen_texts or len(quote_candidates) == MAX_UNITS:
                    continue
                seen_texts.add(text)
                quote_candidates.append(quote_candidate(number, place, unit, text))
        return quote_candidates

    def _topic_candidates(self) -> Mapping[int, int]:
        """Return, for each passage that begins with a sentence, the number of this sentence among the candidates.

        It usually names the subject of the passage, and later sentences refer to the subject without its name.
        """
        first_candidates: dict[int, int] = {}
        for number, candidate in enumerate(self.candidates):
            first_candidates.setdefault(candidate.passage, number)
        return {
            passage: number
            for passage, number in first_candidates.items()
            if self.candidates[number].unit.kind == "sentence"
        }

    def is_echo(self, candidate: QuoteCandidate) -> bool:
        """Return whether a candidate is a question, or contains the exact words of the question."""
        own_text = self.question.strip().rstrip("?？ ").casefold()
        text = candidate.text.casefold()
        if text.endswith(("?", "？")) or (len(own_text) > 8 and own_text in text):
            return True
        return candidate.unit.kind == "code" and _QUOTED_QUESTION.search(text) is not None

    def is_bare_code(self, candidate: QuoteCandidate) -> bool:
        """Return whether a candidate is code without an introducing sentence. This includes code whose fence was
        cut off.
        """
        text = candidate.text.lstrip()
        if is_code(self.passages[candidate.passage]) or text.startswith(("```", "~~~")):
            return True
        prose = _QUOTED_CODE.sub("", text)
        return len(_CODE_MARKS.findall(prose)) > CODE_SHARE * len(text)

    def has_latin_name(self) -> bool:
        """Return whether a passage contains a name in Latin letters from a question that is otherwise Chinese, such as
        the name of a program.
        """
        if not self.cjk:
            return False
        names = frozenset(stems([word for word in self.question_words if _LATIN_NAME.fullmatch(word)]))
        return any(names & passage_terms for passage_terms in self._everywhere)

    def texts(self) -> tuple[str, ...]:
        """Return the texts to embed: the question, each candidate, then each word of `vocabulary`."""
        answer = (candidate.text[:MAX_UNIT_CHARACTERS] for candidate in self.candidates)
        return (self.question, *answer, *self.vocabulary())

    def vocabulary(self) -> list[str]:
        """Return the distinct words of the question and of the candidates."""
        return list(dict.fromkeys((*self.question_words, *(w for c in self.candidates for w in c.words))))

    def soft(self, vectors: Any) -> SoftMatch:
        """Return similarities computed from ``vectors``, a matrix with one row per text of `texts`. The rows need not
        be normalized.
        """
        import numpy as np

        matrix = np.asarray(vectors, dtype=np.float32)
        matrix = matrix / (np.linalg.norm(matrix, axis=1, keepdims=True) + 1e-9)
        count = len(self.candidates)
        place = {word: number for number, word in enumerate(self.vocabulary(), count + 1)}
        question_rows = matrix[[place[word] for word in self.question_words]]
        ndarray = np.zeros((count, max(len(self.question_words), 1)), dtype=np.float32)
        for number, candidate in enumerate(self.candidates):
            word_rows = [place[word] for word in dict.fromkeys(candidate.words)]
            if word_rows and len(question_rows):
                ndarray[number] = (question_rows @ matrix[word_rows].T).max(axis=1)
        weights = np.array(
            [self.rarity[term] for term in stems(self.question_words)] or [1.0], dtype=np.float32
        )
        passages = np.array([candidate.passage for candidate in self.candidates])
        return SoftMatch(
            matrix[1 : count + 1] @ matrix[0],
            ndarray,
            weights / (weights.sum() + 1e-9),
            {int(passage): _soft_passage(ndarray[passages == passage]) for passage in np.unique(passages)},
        )

    def of_candidates(self, soft: SoftMatch | None) -> list[Mapping[str, float]]:
        """Return the features of each candidate."""
        local = Counter(term for candidate in self.candidates for term in candidate.terms)
        near = {term: rarity(local[term], len(self.candidates)) for term in self.question_terms}
        near_rarity = {term: near[term] * self.rarity[term] for term in self.question_terms}
        term_shares = [_share(self.rarity, candidate.terms) for candidate in self.candidates]
        best = [share >= max(term_shares) - 1e-9 for share in term_shares]
        return [
            {
                **self._of(number, candidate, near, near_rarity, soft),
                "after_best": float(self._is_neighbour(number, -1) and best[number - 1]),
                "begins": float(self._topics.get(candidate.passage) == number),
                "rank": float(candidate.passage),
                **self._names(candidate),
                **self._chinese(number, candidate),
            }
            for number, candidate in enumerate(self.candidates)
        ]

    def _of(
        self,
        number: int,
        candidate: QuoteCandidate,
        near: Mapping[str, float],
        near_rarity: Mapping[str, float],
        soft: SoftMatch | None,
    ) -> Mapping[str, float]:
        candidate_terms = candidate.terms
        passage = self.passages[candidate.passage]
        before = self._neighbour(number, -1)
        after = self._neighbour(number, 1)
        if candidate.unit.lead is not None:
            start, end = candidate.unit.lead
            before |= frozenset(stems(words(fold(passage.text[start:end]))))
        above = self._above(number)
        right = self.holds(candidate.text)
        features = {
            "near": _share(near, candidate_terms),
            "both": _share(near_rarity, candidate_terms),
            "prev": _share(self.rarity, before),
            "union": _share(self.rarity, before - candidate_terms),
            "above": _share(self.rarity, above - candidate_terms),
            "after": _share(self.rarity, after - candidate_terms),
            "topic": _share(self.rarity, self._topic_terms(candidate.passage) - candidate_terms),
            "passage": _share(self.rarity, self._everywhere[candidate.passage]),
            "score": passage.score,
            "chars": len(self.characters & characters(fold(candidate.text))) / (len(self.characters) + 1),
            "run": _longest_run(self.question_words, candidate.words) / (len(self.question_words) + 1),
            "length": math.log(len(candidate.text) * (2.2 if has_cjk(candidate.text) else 1.0)),
            "new": math.log1p(sum(term not in self.rarity for term in candidate_terms)),
            "last": float(bool(self.question_terms) and self.question_terms[-1] in candidate_terms),
            "first": float(bool(self.question_terms) and self.question_terms[0] in candidate_terms),
            "type": float(right),
        }
        for kind in ("count", "date", "person", "place"):
            features[f"type_{kind}"] = float(right and self.kind == kind)
        if soft is not None:
            import numpy as np

            row = soft.aligned[number]
            features["soft"] = float(row @ soft.weights)
            features["soft_plain"] = float(row.mean())
            features["soft_more"] = float((row - soft.aligned.mean(axis=0)) @ soft.weights)
            features["cosine"] = float(soft.cosine[number])
            for name, step in (("soft_before", -1), ("soft_after", 1)):
                neighbour_row = soft.aligned[number + step] if self._is_neighbour(number, step) else row
                features[name] = float((np.maximum(row, neighbour_row) - row) @ soft.weights)
            topic = self._topics.get(candidate.passage, number)
            features["soft_topic"] = float(np.maximum(row, soft.aligned[topic]) @ soft.weights)
            best = soft.passages[candidate.passage]
            nearest = (row >= best.aligned - MAX_COSINE_ERROR) / best.holders
            features["soft_passage"] = float(best.aligned @ soft.weights)
            features["soft_nearest"] = float(nearest @ soft.weights)
        return features

    def _names(self, candidate: QuoteCandidate) -> Mapping[str, float]:
        """Return how many names of the requested kind occur in a candidate but not in the question."""
        match_count = 0
        if self.kind in ("person", "place"):
            if self.cjk:
                new = (item for item in tag_words(candidate.folded) if item.word not in self._folded_question)
                match_count = sum(_is_kind(item, self.kind) for item in new)
            else:
                match_count = sum(
                    not self._is_in_question(match)
                    for match in _CAPITALS.finditer(candidate.text[:MAX_UNIT_CHARACTERS])
                )
        return {
            f"names_{kind}": math.log1p(match_count) if kind == self.kind else 0.0
            for kind in ("person", "place")
        }

    def _is_in_question(self, match: re.Match[str]) -> bool:
        """Return whether a capitalized match is no new name: its capital only marks the beginning of a sentence, or
        the question contains the name.
        """
        name = match.group()
        if match.start() == 0 and " " not in name:
            return True
        return all(word.lower() in self._folded_question for word in name.split())

    def _chinese(self, number: int, candidate: QuoteCandidate) -> Mapping[str, float]:
        """Return the share of the question's Chinese words in a candidate and in the first sentence of its passage,
        and the length of the longest common part.

        ``chinese_late`` weights the words by their place as well: the last words of a Chinese question say what is
        asked about its subject.
        """
        topic = self._topics.get(candidate.passage, number)
        shared_words = _matching_terms(self.chinese, candidate.folded)
        topic_words = _matching_terms(self.chinese, self.candidates[topic].folded)
        late = {word: weight * place for place, (word, weight) in enumerate(self.chinese.items(), 1)}
        return {
            "chinese": _share(self.chinese, shared_words),
            "chinese_topic": _share(self.chinese, topic_words - shared_words),
            "chinese_late": _share(late, shared_words),
            "common": _longest_common(self._folded_question, candidate.folded) if self.cjk else 0.0,
        }

    def of_passages(self, soft: SoftMatch | None) -> Mapping[str, float]:
        """Return the features that predict whether the passages contain an answer."""
        count = len(self._quoted_passages)
        passage_terms = [self._everywhere[number] | self._context[number] for number in range(count)]
        question_names = frozenset(stems([word.lower() for word in _NAME.findall(self.question)]))
        scores = [passage.score for passage in self.passages]
        shares = [_share(self.rarity, terms) for terms in passage_terms]
        unit_terms = [c.terms | self._header(c) for c in self.candidates]
        pairs = [_share(self.rarity, terms | self._neighbour(n, -1)) for n, terms in enumerate(unit_terms)]
        plain = [
            sum(term in terms for term in self.question_terms) / max(len(self.question_terms), 1)
            for terms in passage_terms
        ]
        features = {
            "passage": max(shares, default=0.0),
            "plain": max(plain, default=0.0),
            "unit": max((_share(self.rarity, terms) for terms in unit_terms), default=0.0),
            "pair": max(pairs, default=0.0),
            "all": _share(self.rarity, frozenset[str]().union(*self._everywhere)),
            "missing": math.log1p(
                min((len(set(self.question_terms) - terms) for terms in passage_terms), default=0)
            ),
            "named": max((len(question_names & terms) for terms in passage_terms), default=0)
            / len(question_names)
            if question_names
            else NEUTRAL_SHARE,
            "gap": scores[0] - (scores[1] if len(scores) > 1 else 0.0) if scores else 0.0,
            "gap_5": scores[0] - (scores[4] if len(scores) > 4 else 0.0) if scores else 0.0,
            "terms": math.log(max(len(self.question_terms), 1)),
            "type": float(any(self.holds(candidate.text) for candidate in self.candidates)),
        }
        if self.cjk:
            features |= self._chinese_of_passages(count)
        if soft is not None and self.candidates:
            best = [soft.passages[number].aligned for number in range(count) if number in soft.passages]
            features["soft"] = max(float(row @ soft.weights) for row in best)
            features["soft_plain"] = max(float(row.mean()) for row in best)
            features["cosine"] = float(soft.cosine.max())
            if self.cjk:
                features["cosine_lead"] = float(soft.cosine.max() - soft.cosine.mean())
        return features

    def _chinese_of_passages(self, count: int) -> Mapping[str, float]:
        words_by_passage = [_matching_terms(self.chinese, text) for text in self._texts]
        names = self._chinese_names
        units = (_matching_terms(self.chinese, candidate.folded) for candidate in self.candidates)
        return {
            "chinese": max(
                (_share(self.chinese, passage_words) for passage_words in words_by_passage[:count]),
                default=0.0,
            ),
            "chinese_plain": max(
                (len(passage_words) for passage_words in words_by_passage[:count]), default=0
            )
            / max(len(self.chinese), 1),
            "chinese_named": max(
                (len(names & passage_words) for passage_words in words_by_passage[:count]), default=0
            )
            / len(names)
            if names
            else NEUTRAL_SHARE,
            "chinese_all": _share(self.chinese, frozenset[str]().union(*words_by_passage)),
            "chinese_unit": max((_share(self.chinese, unit) for unit in units), default=0.0),
            **self._chinese_subject(),
            "gap_all": self._lead(),
        }

    def _lead(self) -> float:
        """Return how far the score of the first passage exceeds the mean of the others. Passages that a small store
        lacks count as 0.
        """
        first_score, *later_scores = [passage.score for passage in self.passages] or [0.0]
        return first_score - sum(later_scores) / max(len(later_scores), MIN_KNOWN_PASSAGES - 1)

    def _chinese_subject(self) -> Mapping[str, float]:
        """Return how well a passage with its headings matches the subject of a Chinese question: the characters of the
        question's noun phrases that the passage lacks, the question's quoted titles, and how early its first word
        occurs.
        """
        texts = [
            f"{fold(context_of(passage))}\n{text}"
            for passage, text in zip(self._quoted_passages, self._texts, strict=False)
        ]
        titles = _TITLE.findall(self._folded_question)
        first_word = next(iter(self.chinese), "")
        missing = (
            sum(len(phrase) - _common_length(phrase, text) for phrase in self._noun_phrases) for text in texts
        )
        return {
            "phrase_missing": math.log1p(min(missing, default=0)),
            "title": max((sum(title in text for title in titles) for text in texts), default=0) / len(titles)
            if titles
            else NEUTRAL_SHARE,
            "early": max(
                (1.0 - text.find(first_word) / (len(text) + 1) for text in texts if first_word in text),
                default=0.0,
            )
            if first_word
            else 0.0,
        }

    def _header(self, candidate: QuoteCandidate) -> frozenset[str]:
        """Return the terms in the header of a table row, which name the row's cells."""
        if candidate.unit.kind != "row" or candidate.unit.lead is None:
            return frozenset()
        start, end = candidate.unit.lead
        return frozenset(stems(words(fold(self.passages[candidate.passage].text[start:end]))))

    def _topic_terms(self, passage: int) -> frozenset[str]:
        """Return the terms of a passage's first sentence, of its headings and of its file name."""
        terms = self.candidates[self._topics[passage]].terms if passage in self._topics else frozenset()
        return terms | self._context[passage]

    def _is_neighbour(self, number: int, step: int) -> bool:
        """Return whether a candidate has a neighbour before or after it in its passage."""
        neighbour = number + step
        return (
            0 <= neighbour < len(self.candidates)
            and self.candidates[neighbour].passage == self.candidates[number].passage
        )

    def _neighbour(self, number: int, step: int) -> frozenset[str]:
        """Return the terms of the candidate before or after candidate ``number`` in the same passage."""
        return self.candidates[number + step].terms if self._is_neighbour(number, step) else frozenset()

    def _above(self, number: int) -> frozenset[str]:
        """Return the terms of everything that precedes a candidate in its passage, of the passage's headings and of
        its file name.
        """
        candidate = self.candidates[number]
        above_terms = set(self._context[candidate.passage])
        for earlier_candidate in reversed(self.candidates[:number]):
            if earlier_candidate.passage != candidate.passage:
                break
            above_terms |= earlier_candidate.terms
        return frozenset(above_terms)


@dataclass(frozen=True, slots=True)
class SoftMatch:
    """NumPy arrays of similarities.

    ``cosine``: between each candidate and the question. ``aligned``: for each candidate and each question word, the
    cosine between the question word and the candidate's most similar word. ``weights``: of the question words; their
    sum is 1. ``passages``: the same for whole passages, by number.
    """

    cosine: Any
    aligned: Any
    weights: Any
    passages: Mapping[int, SoftPassage]


@dataclass(frozen=True, slots=True)
class SoftPassage:
    """NumPy arrays for each question word: the cosine of the most similar word in a whole passage (``aligned``), and
    the number of candidates that contain this word (``holders``).
    """

    aligned: Any
    holders: Any


def _soft_passage(rows: Any) -> SoftPassage:
    """Return the alignment of a passage whose candidates have ``rows`` of `SoftMatch.aligned`."""
    best = rows.max(axis=0)
    return SoftPassage(best, (rows >= best - MAX_COSINE_ERROR).sum(axis=0))


def is_code(passage: Passage) -> bool:
    """Return whether a passage as a whole is source code or data."""
    return passage.place.symbol is not None or _CODE_FILES.search(passage.filename) is not None


def _share(weights: Mapping[str, float], terms: frozenset[str]) -> float:
    """Return the share of the question's total weight that ``terms`` cover."""
    return sum(weight for term, weight in weights.items() if term in terms) / (sum(weights.values()) + 0.5)


def _matching_terms(weights: Mapping[str, float], text: str) -> frozenset[str]:
    return frozenset(word for word in weights if word in text)


def _is_kind(tagged_word: Tagged, kind: str) -> bool:
    if kind == "person":
        return tagged_word.is_person
    return tagged_word.is_place if kind == "place" else tagged_word.is_name


def _longest_common(question: str, answer: str) -> float:
    """Return the length of the longest part of ``question`` that occurs in ``answer``, as a share of the question."""
    return _common_length(question, answer) / (len(question) + 3)


def _common_length(text: str, passage: str) -> int:
    """Return the length of the longest part of ``text`` that occurs in ``passage``."""
    length = 0
    for start in range(len(text)):
        while start + length < len(text) and text[start : start + length + 1] in passage:
            length += 1
    return length


def _longest_run(question: Sequence[str], answer: Sequence[str]) -> int:
    """Return the length of the longest run of consecutive question words that are also consecutive in the answer."""
    best = 0
    before = [0] * (len(question) + 1)
    question_words = set(question)
    for word in answer:
        if word not in question_words:
            before = [0] * (len(question) + 1)
            continue
        now = [0] + [
            before[i] + 1 if word == question_word else 0 for i, question_word in enumerate(question)
        ]
        best = max(best, *now)
        before = now
    return best


def rarity(holders: int, count: int) -> float:
    """Return the weight of a word that occurs in ``holders`` of ``count`` texts."""
    return math.log(1 + (count - holders + 0.5) / (holders + 0.5))


def context_of(passage: Passage) -> str:
    """Return the context of a passage: its headings, and the words of its file name."""
    return " ".join((*passage.place.heading, re.sub(r"[/._-]+", " ", passage.filename.rsplit(".", 1)[0])))
