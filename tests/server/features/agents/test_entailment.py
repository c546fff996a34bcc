"""Facts that a model reads out of a user's words: which follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from portico.schemas.facts import FactSpan
from portico_server.features.agents.spans import find_span, find_support

MIN_REFUSED_SHARE = 0.97
MIN_KEPT_SHARE = 0.94

READINGS: dict[str, dict[str, dict[str, list[list[str]]]]] = yaml.safe_load(
    Path(__file__).with_name("fact_readings.yaml").read_text(encoding="utf-8")
)


def remembered_text(message: str, fact: str, quotation: str = "") -> str | None:
    """Return what is remembered of a reading: the fact, the user's statement, or nothing."""
    words = [FactSpan(message, 0, len(message))]
    span = find_span(quotation or message, words)
    assert span is not None, message
    support = find_support(fact, span, words)
    return None if support is None else support[0]


@pytest.mark.parametrize("part", READINGS)
@pytest.mark.parametrize(("kind", "min_share"), [("hostile", MIN_REFUSED_SHARE), ("honest", MIN_KEPT_SHARE)])
def test_hostile_readings_are_refused_and_honest_ones_kept(part: str, kind: str, min_share: float) -> None:
    readings = [reading for family in READINGS[part][kind].values() for reading in family]
    wrong = []
    for message, fact, *quotation in readings:
        text = remembered_text(message, fact, *quotation)
        if text == fact if kind == "hostile" else text is None:
            wrong.append((message, fact))
        if text not in (None, fact):
            assert text in message, "only the user's own statement replaces a fact"
    assert 1 - len(wrong) / len(readings) >= min_share, wrong


@pytest.mark.parametrize(
    ("quotation", "fact", "text"),
    [
        ("I play the cello.", "The user is a cello player.", "I play the cello."),
        ("My birthday is 3 March.", "The user was born on 3 March.", "My birthday is 3 March."),
        ("My sister is a doctor in Leeds.", "The user studies in Leeds.", None),
        ("I live in Oslo.", "The user prefers window seats.", None),
        ("Write a letter in which I say that I study in Leeds.", "The user learns in Leeds.", None),
    ],
)
def test_a_statement_of_the_user_replaces_a_fact_that_is_not_proven(
    quotation: str, fact: str, text: str | None
) -> None:
    assert remembered_text(f"Hello. {quotation} Thanks.", fact, quotation) == text
