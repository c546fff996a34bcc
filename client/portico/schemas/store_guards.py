"""Questions that guard a store, and the review of a change of the store's files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class GuardQuestion:
    """A question that must keep its answer: text that ``passage`` quotes from ``file``, any passage of ``file``, or
    ``facts``.

    ``passes`` is true if the answer was among the hits of the last search.
    """

    id: str
    question: str
    file: str
    passage: str
    facts: tuple[str, ...]
    passes: bool
    created_at: float


@dataclass(frozen=True, slots=True)
class ReviewedPassage:
    """A passage and the name of its file."""

    filename: str
    text: str


@dataclass(frozen=True, slots=True)
class WrongAnswer:
    """A guard question whose answer a change removes from the hits. ``present_passage`` answers the question
    without the change, ``new_passage`` is the best hit with the change.
    """

    id: str
    question: str
    present_passage: ReviewedPassage | None
    new_passage: ReviewedPassage | None


@dataclass(frozen=True, slots=True)
class UnjudgedQuestion:
    """A guard question that cannot be judged, and the reason."""

    id: str
    question: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoreReview:
    """The last check of a change of a store's files.

    In the state ``held``, searches leave out the change until it is accepted or rejected. ``none``: no change was
    checked. ``waiting`` and ``checking``: the check has not ended. ``passed`` and ``warned``: the change was accepted
    by the store's rule.
    """

    state: Literal["none", "waiting", "checking", "held", "passed", "warned", "accepted", "rejected"]
    new_files: tuple[str, ...] = ()
    """Names of the first hundred files that the change adds or replaces."""
    old_files: tuple[str, ...] = ()
    """Names of the first hundred files that the change removes or replaces."""
    questions: int = 0
    """Number of questions of the store."""
    searched: int = 0
    """Number of questions that were searched in full with and without the change, because it can affect them."""
    wrong: tuple[WrongAnswer, ...] = ()
    unjudged: tuple[UnjudgedQuestion, ...] = ()
    created_at: float | None = None
