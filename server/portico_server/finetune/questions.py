"""The questions to a store as training data: what answers each, and what is near it and does not."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.training_passages import StorePassage

MAX_QUESTIONS: Final = 5_000
"""Questions of one training."""

DEFAULT_QUESTION_COUNT: Final = 500
"""Questions that are made where nothing is said."""

MIN_QUESTIONS: Final = 8
"""Questions with an answer below which nothing is trained."""

MAX_QUESTION_CHARS: Final = 2_000

MAX_PASSAGES: Final = 20_000
"""Passages of a store that are looked at."""

MIN_PASSAGE_CHARS: Final = 80
"""Characters of a passage of which a question is made."""

MAX_PASSAGE_CHARS: Final = 4_000
"""Characters of it that a model is shown."""

SENTENCE_CHARS: Final = (20, 300)
"""Characters of a sentence that is taken out of its passage as a question: at least, and at most."""

SEARCH_DEPTH: Final = 30
"""Results of the store's search among which wrong answers are looked for."""

TRAINED_NEGATIVE_COUNT: Final = 3
"""Wrong answers beside a question that is trained on."""

HELD_BACK_NEGATIVE_COUNT: Final = 9
"""Wrong answers beside a question that is measured with."""

HELD_BACK_SHARE: Final = 0.15
"""Share of the questions that is held back, at least: whole files are."""

MAX_HELD_BACK: Final = 200
"""Questions that are measured with."""

MIN_SHARED: Final = 0.5
"""Share of an answer's words that a passage has if it is where the answer stands."""

SHINGLE_CHARS: Final = 12

DUPLICATE_SHARE: Final = 0.5
"""Share of the shorter text's runs of characters that two near-duplicates have in common."""

SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")

WORD: Final = re.compile(r"[^\W_]+")

Told = Callable[[str, str, int, int], Awaitable[None]]
"""Told a stage, what is done, how much of it, and of how many."""


@dataclass(frozen=True, slots=True)
class StoreQuestion:
    """A question, and what answers it: a ``file`` by its name, a ``passage`` of its text, or an ``answer`` that stands
    in it. ``number`` is that of its line.
    """

    number: int
    question: str
    file: str = ""
    passage: str = ""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class AnsweredQuestion:
    """A question with a passage that answers it. ``text`` is what is trained on: the passage, or what is left of it
    without the sentence that was made the question. ``whole_file``: any passage of the file may answer it.
    """

    question: str
    passage: StorePassage
    text: str
    answer: str = ""
    whole_file: bool = False
