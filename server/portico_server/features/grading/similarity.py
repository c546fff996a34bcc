"""Similarity of two texts, from 0 to 1, by the measures of OpenAI's ``text_similarity`` grader. Pure.

Words are runs of letters and digits in lower case; each Chinese, Japanese or Korean character is a word.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Final

MAX_TEXT_CHARS: Final = 4_000
"""Maximum number of characters compared per text, because comparing every word with every other is slow for long
texts.
"""

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\uac00-\ud7af]|[^\W_]+")


def words(text: str) -> list[str]:
    """Return the words of a text."""
    return _WORD.findall(text[:MAX_TEXT_CHARS].lower())


def fuzzy(text: str, other_text: str) -> float:
    """Return twice the matching characters divided by all characters (Ratcliff and Obershelp)."""
    return SequenceMatcher(None, text[:MAX_TEXT_CHARS], other_text[:MAX_TEXT_CHARS], autojunk=False).ratio()


def rouge(order: int) -> Callable[[str, str], float]:
    """Return ROUGE-N: the F1 of common n-grams of ``order`` words. Source: Lin 2004."""

    def measure(answer: str, reference: str) -> float:
        return _f1(_runs(words(answer), order), _runs(words(reference), order))

    return measure


def rouge_l(answer: str, reference: str) -> float:
    """Return ROUGE-L: the F1 of the longest common subsequence of words. Source: Lin 2004."""
    answer_words, reference_words = words(answer), words(reference)
    before = [0] * (len(reference_words) + 1)
    for word in answer_words:
        row = [0]
        for place, candidate in enumerate(reference_words):
            row.append(before[place] + 1 if word == candidate else max(before[place + 1], row[place]))
        before = row
    return _mean(before[-1], len(answer_words), len(reference_words))


def bleu(answer: str, reference: str) -> float:
    """Return sentence-level BLEU-4. One is added to the counts of orders above one. Source: Lin and Och 2004."""
    answer_words, reference_words = words(answer), words(reference)
    if not answer_words or not reference_words:
        return 0.0
    total = 0.0
    for order in range(1, 5):
        answer_counts, counts = _runs(answer_words, order), _runs(reference_words, order)
        smooth = 0 if order == 1 else 1
        common = (answer_counts & counts).total() + smooth
        if not common:
            return 0.0
        total += math.log(common / (answer_counts.total() + smooth)) / 4
    return math.exp(total + min(0.0, 1 - len(reference_words) / len(answer_words)))


def gleu(answer: str, reference: str) -> float:
    """Return GLEU: the number of common n-grams of one to four words, divided by the n-grams of the longer text.
    Source: Wu et al. 2016.
    """
    answer_words, reference_words = words(answer), words(reference)
    counts: Counter[tuple[str, ...]] = Counter()
    reference_counts: Counter[tuple[str, ...]] = Counter()
    for order in range(1, 5):
        counts += _runs(answer_words, order)
        reference_counts += _runs(reference_words, order)
    return (counts & reference_counts).total() / max(counts.total(), reference_counts.total(), 1)


MEASURES: Final[Mapping[str, Callable[[str, str], float]]] = {
    "fuzzy_match": fuzzy,
    "bleu": bleu,
    "gleu": gleu,
    **{f"rouge_{order}": rouge(order) for order in range(1, 6)},
    "rouge_l": rouge_l,
}
"""Similarity measures by their OpenAI names."""


def _runs(word_list: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(word_list[place : place + order]) for place in range(len(word_list) - order + 1))


def _f1(mine: Counter[tuple[str, ...]], counts: Counter[tuple[str, ...]]) -> float:
    return _mean((mine & counts).total(), mine.total(), counts.total())


def _mean(common: int, answer_count: int, reference_count: int) -> float:
    return 2 * common / (answer_count + reference_count) if answer_count + reference_count else 0.0
