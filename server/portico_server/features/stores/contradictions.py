"""Passages that state or contradict the answer to a question, compared by their values. No model judges."""

from __future__ import annotations

from collections.abc import Sequence

from portico.wire import Passage
from portico_server.features.answers.claims import find_change
from portico_server.features.answers.negations import affirmation
from portico_server.features.answers.quantities import NUMBER_WORDS
from portico_server.features.answers.terms import fold, has_cjk, stems, words
from portico_server.features.answers.units import sentences

MIN_QUESTION_SHARE = 0.75
"""Minimum share of a question's words in a sentence that answers it."""

MIN_QUESTION_SHARE_CHINESE = 0.6
"""The same for a Chinese question, whose pairs of characters also cross the words that ask."""


def is_about(question: str, text: str) -> bool:
    """Return whether a text has a sentence that can answer or deny a question."""
    return any(_answers(question, sentence) or _may_deny(question, sentence) for sentence in _sentences(text))


def states(question: str, expected_text: str, text: str) -> bool:
    """Return whether a text contains an expected text, or answers the question with its words and its values."""
    if _squeezed(expected_text) in _squeezed(text):
        return True
    expected_terms = {
        term for term in _terms(expected_text) if term not in NUMBER_WORDS and not term.isdigit()
    }
    return any(
        expected_terms <= _terms(sentence)
        and _answers(question, sentence)
        and not find_change(expected_text, sentence)
        for sentence in _sentences(text)
    )


def contradictions(
    question: str, expected_texts: Sequence[str], answer: str, hits: Sequence[Passage]
) -> list[Passage]:
    """Return the hits with a sentence that answers a question, but with another number, date, name or sense.

    The sentences of ``answer`` that contain an expected text are the answer; without one, all that answer the
    question.
    """
    expected_sentences = _sentences_with(expected_texts, answer) or [
        sentence for sentence in _sentences(answer) if _answers(question, sentence)
    ]
    return [
        hit
        for hit in hits
        if expected_sentences
        and any(
            all(
                _contradicts(question, sentence, expected_sentence)
                for expected_sentence in expected_sentences
            )
            for sentence in _sentences(hit.text)
        )
    ]


def _contradicts(question: str, sentence: str, expected_sentence: str) -> bool:
    """Return whether each of two sentences has a fact that the second lacks, or one affirms what the second denies."""
    if (
        _answers(question, sentence)
        and find_change(sentence, expected_sentence)
        and find_change(expected_sentence, sentence)
    ):
        return True
    new_sense, expected_sense = affirmation(fold(sentence)), affirmation(fold(expected_sentence))
    is_opposed = new_sense.denies != expected_sense.denies and not new_sense.states.isdisjoint(
        expected_sense.states
    )
    return is_opposed and _may_deny(question, sentence)


def _answers(question: str, sentence: str) -> bool:
    terms = _terms(question)
    min_share = MIN_QUESTION_SHARE_CHINESE if has_cjk(question) else MIN_QUESTION_SHARE
    return bool(terms) and len(terms & _terms(sentence)) >= min_share * len(terms)


def _may_deny(question: str, sentence: str) -> bool:
    """Return whether a sentence has the words of a question, except the words of its state: "open", "allowed"."""
    terms = _terms(affirmation(fold(question)).text)
    return bool(terms) and terms <= _terms(sentence)


def _terms(text: str) -> frozenset[str]:
    return frozenset(stems(words(fold(text))))


def _sentences(text: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text)]


def _sentences_with(expected_texts: Sequence[str], text: str) -> list[str]:
    squeezed_texts = [_squeezed(expected_text) for expected_text in expected_texts if expected_text]
    return [
        sentence
        for sentence in _sentences(text)
        if any(expected_text in _squeezed(sentence) for expected_text in squeezed_texts)
    ]


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()
