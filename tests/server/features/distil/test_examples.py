"""Training examples from stored chats, and the confidence that is chosen on held-back calls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.db.chats import ChatRow
from portico_server.features.distil.distillations import saved_cost
from portico_server.features.distil.examples import collect
from portico_server.features.distil.threshold import JudgedCall, Measure, choose_threshold, measure


def chat(number: int, question: Any, answer: Any, **choice: Any) -> ChatRow:
    messages = [{"role": "user", "content": question}]
    message = {"role": "assistant", "content": answer, **choice.pop("message", {})}
    document = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}]}
    texts = orjson.dumps(messages).decode(), orjson.dumps(document).decode()
    return ChatRow(f"chatcmpl-{number}", "local", "desk", {}, *texts, 0, float(number))


LABELS = ("refund", "delivery", "invoice", "other")


def chats(count: int) -> list[ChatRow]:
    return [chat(n, f"Ticket {n}", LABELS[n % 4]) for n in range(count)]


def test_calls_are_deduplicated_cleaned_and_held_back() -> None:
    rows = [
        *chats(100),
        chat(100, "  ticket 7 ", "corrected"),
        chat(101, "Write to ada@example.org", "Sent to ada@example.org"),
        chat(102, [{"type": "image_url", "image_url": {"url": "data:"}}], "a cat"),
        chat(103, "Which tool?", None, message={"tool_calls": [{"id": "1"}]}),
        chat(104, "Long?", "cut", finish_reason="length"),
        chat(105, "Empty?", " "),
    ]
    calls = collect("desk", rows)
    assert (len(calls.training), len(calls.held_back), calls.omitted) == (71, 30, 5)
    answers = {call.messages[-1]["content"]: call.answer for call in (*calls.training, *calls.held_back)}
    assert answers["  ticket 7 "] == "corrected" and "Ticket 7" not in answers
    assert answers["Write to [EMAIL]"] == "Sent to [EMAIL]"
    assert collect("desk", rows).held_back == calls.held_back


def test_answers_of_an_earlier_small_model_are_not_learned() -> None:
    rows = [replace(row, document=row.document[:-1] + ',"model":"ft:small"}') for row in chats(60)]
    assert len(collect("desk", rows).training) == 42
    with pytest.raises(InvalidRequest, match="0 different"):
        collect("desk", rows, {"ft:small"})


@pytest.mark.parametrize(
    ("rows", "code", "says"),
    [
        (chats(49), "too_few_examples", "49 different stored chats"),
        ([], "too_few_examples", "'store': true"),
        ([chat(n, "The same", str(n)) for n in range(200)], "too_few_examples", "1 different"),
        (
            [chat(n, str(n), "refund" if n else "other") for n in range(60)],
            "one_sided_examples",
            "59 of the 60",
        ),
    ],
)
def test_small_and_one_sided_sets_are_refused_with_the_reason(
    rows: list[ChatRow], code: str, says: str
) -> None:
    with pytest.raises(InvalidRequest, match=says) as caught:
        collect("desk", rows)
    assert caught.value.code == code


def test_the_lowest_confidence_that_reaches_the_agreement_is_chosen() -> None:
    calls = [
        JudgedCall(0.9, 1),
        JudgedCall(0.8, 1),
        JudgedCall(0.7, 0),
        JudgedCall(0.6, 1),
        JudgedCall(0.5, 0),
    ]
    assert choose_threshold(calls, 1) == 0.8
    assert choose_threshold(calls, 0.75) == 0.6
    assert choose_threshold(calls, 0.5) == 0.5
    assert choose_threshold([JudgedCall(0.9, 0)], 0.5) is None
    assert choose_threshold([JudgedCall(0.9, 1), JudgedCall(0.9, 0)], 1) is None
    assert choose_threshold([], 0.5) is None
    assert measure(calls, 0.65) == Measure(5, 0.6, 2 / 3)
    assert measure(calls, 1) == Measure(5, 0, None)


def total(model: str, calls: int, cost: float | None, operation: str = "chat/completions") -> dict[str, Any]:
    return {"name": "desk", "operation": operation, "model": model, "calls": calls, "cost": cost}


@pytest.mark.parametrize(
    ("totals", "cost"),
    [
        ([total("large", 10, 0.2), total("small", 90, None)], 1.8),
        (
            [total("large", 10, 0.2), total("small", 90, None), total("large", 5, 0.1, "canary_comparison")],
            1.7,
        ),
        ([total("large", 10, None), total("small", 90, None)], None),
        ([total("small", 90, None)], None),
    ],
)
def test_saved_money_is_the_price_of_local_calls_less_the_comparisons(
    totals: list[dict[str, Any]], cost: float | None
) -> None:
    savings = saved_cost("large", "small", totals)
    assert savings == (None if cost is None else pytest.approx(cost))
