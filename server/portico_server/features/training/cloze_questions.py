"""Questions generated from a store's own text, without a model."""

from __future__ import annotations

import random
from collections.abc import Sequence

from portico_server.core.training_passages import StorePassage
from portico_server.features.training.questions import (
    MAX_QUESTION_CHARS,
    MIN_PASSAGE_CHARS,
    SENTENCE_CHARS,
    SENTENCE_END,
    AnsweredQuestion,
)


def made_questions(passages: Sequence[StorePassage], count: int, seed: int) -> list[AnsweredQuestion]:
    """Return at most ``count`` questions: the headings above a passage, or a sentence removed from the passage.

    Removing a sentence is the inverse cloze task (K. Lee et al. 2019, https://arxiv.org/abs/1906.00300). The same seed
    produces the same questions.
    """
    chance = random.Random(seed)  # noqa: S311  # no secret
    order = [passage for passage in passages if len(passage.text) >= MIN_PASSAGE_CHARS]
    chance.shuffle(order)
    used_headings: set[tuple[str, tuple[str, ...]]] = set()
    by_heading: list[AnsweredQuestion] = []
    by_sentence: list[AnsweredQuestion] = []
    for passage in order:
        if len(by_sentence) >= count and len(by_heading) >= count:
            break
        place = (passage.file, passage.headings)
        if passage.headings and place not in used_headings:
            used_headings.add(place)
            question = " ".join(passage.headings[-2:])[:MAX_QUESTION_CHARS]
            by_heading.append(AnsweredQuestion(question, passage, passage.text))
        if (cut := _cloze(passage, chance)) is not None:
            by_sentence.append(cut)
    half = min(len(by_heading), max(count // 2, count - len(by_sentence)))
    return [*by_heading[:half], *by_sentence[: count - half]]


def _cloze(passage: StorePassage, chance: random.Random) -> AnsweredQuestion | None:
    """Return a sentence of the passage as the question and the rest of the passage as the answer, or ``None``."""
    sentences = [entry.strip() for entry in SENTENCE_END.split(passage.text) if entry.strip()]
    minimum, limit = SENTENCE_CHARS
    fitting = [entry for entry in sentences if minimum <= len(entry) <= limit and not entry.startswith("#")]
    if len(sentences) < 2 or not fitting:
        return None
    sentence = chance.choice(fitting)
    remainder = " ".join(passage.text.replace(sentence, " ", 1).split())
    return AnsweredQuestion(sentence, passage, remainder) if len(remainder) >= SENTENCE_CHARS[0] else None
