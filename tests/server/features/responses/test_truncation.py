"""Conversations that exceed a model's context."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.features.responses.truncation import drop_older_half, halve_longest_result

SYSTEM = {"role": "system", "content": "s"}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def answer(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def call(call_id: str, result: str = "r") -> list[dict[str, Any]]:
    function = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [function]},
        {"role": "tool", "tool_call_id": call_id, "content": result},
    ]


@pytest.mark.parametrize(
    ("messages", "rest"),
    [
        (
            [SYSTEM, user("a"), answer("b"), user("c"), answer("d"), user("e")],
            [SYSTEM, user("c"), answer("d"), user("e")],
        ),
        ([SYSTEM, user("c"), answer("d"), user("e")], [SYSTEM, user("e")]),
        ([SYSTEM, user("e")], None),
        ([user("a"), *call("1"), *call("2"), *call("3")], [user("a"), *call("3")]),
        ([user("a"), *call("2"), *call("3")], [user("a"), *call("3")]),
        ([SYSTEM, user("a"), *call("3")], None),
        ([user("a"), answer("b"), answer("c")], [user("a"), answer("c")]),
        ([answer("a"), answer("b"), user("c")], [user("c")]),
    ],
)
def test_older_turns_are_dropped_before_calls_with_their_results(
    messages: list[dict[str, Any]], rest: list[dict[str, Any]] | None
) -> None:
    assert drop_older_half(messages) == rest


def test_only_the_longest_result_of_the_daemons_tools_is_halved() -> None:
    messages = [user("a" * 999), *call("own", "x" * 400), *call("client", "y" * 900)]
    shorter = halve_longest_result(messages, {"own"})
    assert shorter is not None
    assert [message["content"] for message in shorter[2::2]] == ["x" * 200 + "\n[cut off here]", "y" * 900]
    assert halve_longest_result([user("a" * 999), *call("own", "x" * 199)], {"own"}) is None
    assert halve_longest_result(messages, set()) is None
