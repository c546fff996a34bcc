"""`portico stores guards review`: how the passages before and after a change are shown."""

from __future__ import annotations

import pytest

from portico.cli.store_guards import differing_passages
from portico.schemas.store_guards import ReviewedPassage

BEGINNING = "The harbour of the old town lies behind the market and opens"


@pytest.mark.parametrize(
    ("present_text", "new_text", "shown_texts"),
    [
        (f"{BEGINNING} at six.", f"{BEGINNING} at seven.", ("… and opens at six.", "… and opens at seven.")),
        ("It opens at six.", "It opens at seven.", ("It opens at six.", "It opens at seven.")),
        (f"{BEGINNING} at six.", BEGINNING, ("… market and opens at six.", "… market and opens")),
    ],
)
def test_a_review_shows_the_words_around_the_first_difference(
    present_text: str, new_text: str, shown_texts: tuple[str, str]
) -> None:
    passages = (ReviewedPassage("a.md", text) for text in (present_text, new_text))
    assert differing_passages(*passages) == tuple(f"a.md: {text}" for text in shown_texts)


def test_a_missing_passage_is_empty() -> None:
    assert differing_passages(ReviewedPassage("a.md", "It opens at six."), None) == (
        "a.md: It opens at six.",
        "",
    )
