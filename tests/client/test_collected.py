"""Rated answers as training lines and evaluation items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from portico.schemas.ratings import Rating
from portico.tuning import collect_examples


def user(text: Any) -> Mapping[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> Mapping[str, Any]:
    return {"role": "assistant", "content": text, **more}


def rating(
    messages: Sequence[Mapping[str, Any]], answer: Any, value: str = "good", correction: str = ""
) -> Rating:
    return Rating("conv_1:2", "conv_1", 2, "app", "model", value, correction, "", 0.0, messages, answer)


def test_good_answers_become_one_example_each_with_earlier_turns_as_context() -> None:
    talk = [user("a"), assistant("1"), user("b")]
    ratings = [
        rating([user("a")], "1"),
        rating([user("a")], "1"),
        rating([user("a")], "2", "bad"),
        rating(talk, "3", "corrected", "4"),
        rating([user([{"type": "text", "text": "c"}])], [{"type": "text", "text": "5"}]),
    ]
    assert collect_examples(ratings).examples == (
        {"messages": [user("a"), assistant("1")]},
        {"messages": [user("a"), assistant("1", weight=0), user("b"), assistant("4")]},
        {"messages": [user("c"), assistant("5")]},
    )


def test_good_and_bad_answers_to_one_question_become_preference_pairs() -> None:
    ratings = [
        rating([user("a")], "1"),
        rating([user("a")], "2", "bad"),
        rating([user("a")], "3", "corrected", "1"),
        rating([user("b")], "4", "bad"),
        rating([user("c")], "5"),
    ]
    pairs = collect_examples(ratings, method="dpo").examples
    assert [(pair["preferred_output"], pair["non_preferred_output"]) for pair in pairs] == [
        ([assistant("1")], [assistant("2")]),
        ([assistant("1")], [assistant("3")]),
    ]


def test_ratings_with_non_text_content_are_skipped_and_counted() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:"}}
    ratings = [rating([user([picture])], "1"), rating([user("a")], [picture]), rating([], "1")]
    collection = collect_examples(ratings)
    assert (collection.examples, collection.left_out) == ((), 3)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_held_back_evaluation_questions_never_appear_in_training_examples(share: float) -> None:
    def ratings(count: int) -> list[Rating]:
        single = [rating([user(str(number))], "x") for number in range(count)]
        talks = [
            rating([user(str(number)), assistant("x"), user(str(number + 1))], "y") for number in range(count)
        ]
        return single + talks

    first = collect_examples(ratings(200), held_back=share)
    again = collect_examples(ratings(400), held_back=share)
    questions = {item["item"]["messages"][-1]["content"] for item in first.items}
    trained = {
        message["content"]
        for line in again.examples
        for message in line["messages"]
        if message["role"] == "user"
    }
    assert questions and trained and not questions & trained
    assert abs(len(questions) / 200 - share) < 0.1
    assert len(again.examples) + len(again.items) + again.left_out == 800
