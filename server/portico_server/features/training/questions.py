"""Questions to a store as training data, with the passages that answer them and similar passages that do not."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.training_passages import StorePassage

MAX_QUESTIONS: Final = 5_000
"""Maximum number of questions in a training job."""

DEFAULT_QUESTION_COUNT: Final = 500
"""Default number of generated questions."""

MIN_QUESTIONS: Final = 8
"""Minimum number of answered questions that a training job needs."""

MAX_QUESTION_CHARS: Final = 2_000

MAX_PASSAGES: Final = 20_000
"""Maximum number of a store's passages that are considered."""

MIN_PASSAGE_CHARS: Final = 80
"""Minimum length of a passage from which a question is generated, in characters."""

MAX_PASSAGE_CHARS: Final = 4_000
"""Maximum length of the passage that the question-writing model receives, in characters."""

SENTENCE_CHARS: Final = (20, 300)
"""Minimum and maximum length, in characters, of sentences used as questions."""

SEARCH_DEPTH: Final = 30
"""Number of search results among which negatives are looked for."""

TRAINED_NEGATIVE_COUNT: Final = 3
"""Negatives per training question."""

HELD_BACK_NEGATIVE_COUNT: Final = 9
"""Number of negatives for each held-back question."""

HELD_BACK_SHARE: Final = 0.15
"""Minimum share of questions that are held back. Whole files are held back."""

MAX_HELD_BACK: Final = 200
"""Maximum number of held-back questions."""

MIN_SHARED: Final = 0.5
"""Minimum share of an answer's words that a passage must contain to count as its source."""

SHINGLE_CHARS: Final = 12

DUPLICATE_SHARE: Final = 0.5
"""Minimum share of the shorter text's shingles that two near-duplicates have in common."""

SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")

WORD: Final = re.compile(r"[^\W_]+")

Told = Callable[[str, str, int, int], Awaitable[None]]
"""Progress callback: ``(stage, description, done, total)``."""


@dataclass(frozen=True, slots=True)
class StoreQuestion:
    """A question and data that identify its answer: a ``file`` name, a ``passage`` text, or an ``answer`` that a
    passage contains.

    ``number`` is the line number of the question.
    """

    number: int
    question: str
    file: str = ""
    passage: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with a passage that answers it.

    ``text`` is the text used for training: the passage without the sentence that became the question. With
    ``whole_file``, any passage of the file may answer the question.
    """

    question: str
    passage: StorePassage
    text: str
    answer: str = ""
    whole_file: bool = False
