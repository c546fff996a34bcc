"""The cases of an improvement: questions to an app, split into a half to diagnose and a half held back. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.db.evals import ItemRow

MIN_BAD_CASES: Final = 8
"""Minimum number of bad cases. With fewer cases, a difference between two answers can be random."""

MAX_SHOWN_CHARS: Final = 80
"""Maximum length of a question in a message, in characters."""

_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Halves:
    """The numbers of the cases: bad ones to ``diagnose``, and ``held_back`` bad and good ones to measure changes."""

    diagnose: tuple[int, ...]
    held_back: tuple[int, ...]


def question_of(item: ItemRow) -> str:
    """Return the question of a case. Raise `InvalidRequest` if it has none."""
    question = item.item.get("question")
    if not isinstance(question, str) or not question.strip():
        raise InvalidRequest(
            f"The case {item.number + 1} must have a 'question', a string with at least one word.",
            code="invalid_item",
            param="data",
        )
    return question


def check_cases(items: Sequence[ItemRow]) -> None:
    """Raise `InvalidRequest` if the set is too small or asks a question twice.

    A question that is asked twice could be diagnosed in one half and measured in the other.
    """
    if len(items) <= MIN_BAD_CASES:
        raise InvalidRequest(
            f"The set has {len(items)} cases, but an improvement needs at least {MIN_BAD_CASES} that the app "
            "answers badly, and others that it answers well. Add cases.",
            code="too_few_cases",
            param="data",
        )
    for item in items:
        _check_ideals(item)
    questions: dict[tuple[str, ...], str] = {}
    for item in items:
        question = question_of(item)
        words = tuple(_WORD.findall(question.casefold()))
        if words in questions:
            raise InvalidRequest(
                f"The set asks '{question[:MAX_SHOWN_CHARS]}' twice (also as "
                f"'{questions[words][:MAX_SHOWN_CHARS]}'). Both halves could contain it, so that a change would be "
                "measured with a case that it was made for. Remove one of them.",
                code="leaked_case",
                param="data",
            )
        questions[words] = question


def _check_ideals(item: ItemRow) -> None:
    """Check the parts with which a case can replace parts of the app."""
    passages, tool = item.item.get("passages", []), item.item.get("tool", {"name": ""})
    if not isinstance(passages, list) or not all(isinstance(text, str) and text.strip() for text in passages):
        fault = "its 'passages' must be a list of texts"
    elif not isinstance(tool, Mapping) or not isinstance(tool.get("name"), str):
        fault = "its 'tool' must be an object with a 'name' and 'arguments'"
    elif not isinstance(tool.get("arguments", {}), Mapping):
        fault = "the 'arguments' of its 'tool' must be an object"
    else:
        return
    raise InvalidRequest(
        f"The case {item.number + 1} is invalid: {fault}.", code="invalid_item", param="data"
    )


def split(items: Sequence[ItemRow], bad: Collection[int]) -> Halves:
    """Split the cases into halves by the hashes of their questions. Raise `InvalidRequest` if there are too few bad
    cases, or no good case.
    """
    if len(bad) < MIN_BAD_CASES:
        raise InvalidRequest(
            f"The app answers {len(bad)} of {len(items)} cases badly, but an improvement needs at least "
            f"{MIN_BAD_CASES} bad cases. Add cases that it answers badly.",
            code="too_few_cases",
            param="data",
        )
    if len(bad) == len(items):
        raise InvalidRequest(
            f"The app answers all {len(items)} cases badly, so a change that makes good answers worse would stay "
            "unseen. Add cases that it answers well.",
            code="one_sided",
            param="data",
        )

    def by_hash(item: ItemRow) -> str:
        return hashlib.sha256(question_of(item).encode()).hexdigest()

    ranked_bad = [item.number for item in sorted(items, key=by_hash) if item.number in bad]
    middle = len(ranked_bad) // 2
    good = [item.number for item in items if item.number not in bad]
    return Halves(tuple(sorted(ranked_bad[:middle])), tuple(sorted([*ranked_bad[middle:], *good])))
