"""Token counts read from bytes."""

from __future__ import annotations

import orjson
import pytest

from portico.wire import Usage
from portico_server.models.token_usage import usage_from_json, usage_in, usage_to_json

FULL = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "prompt_tokens_details": {"cached_tokens": 1},
    "other": {"a": 1},
}


@pytest.mark.parametrize(
    ("document", "usage"),
    [
        ({"choices": [], "usage": FULL}, Usage(3, 2, 1)),
        ({"usage": None}, None),
        ({"usage": {}}, Usage()),
        (
            {"usage": {"prompt_tokens": "3", "completion_tokens": True, "prompt_tokens_details": None}},
            Usage(),
        ),
        ({"text": 'say "usage": {"prompt_tokens": 9}'}, None),
        ({}, None),
    ],
)
def test_usage_is_read_only_from_the_usage_field(document: object, usage: Usage | None) -> None:
    assert usage_in(orjson.dumps(document)) == usage
    assert usage_in(orjson.dumps(document, option=orjson.OPT_INDENT_2)) == usage


def test_the_last_usage_object_in_a_stream_counts() -> None:
    first, last = ({"usage": {"prompt_tokens": count}} for count in (1, 2))
    assert usage_in(orjson.dumps(first) + b"\n" + orjson.dumps(last)) == Usage(2)
    without = orjson.dumps({"usage": None, "choices": []})
    assert usage_in(orjson.dumps(first) + b"\n" + without) == Usage(1)


def test_an_answer_made_to_look_like_many_usage_objects_is_read_once() -> None:
    braces = b'{"usage": ' * 200_000
    assert usage_in(braces) is None
    assert usage_in(braces + orjson.dumps({"usage": FULL})) == Usage(3, 2, 1)


def test_usage_round_trips_through_its_json_form() -> None:
    assert usage_from_json(usage_to_json(Usage(3, 2, 1))) == Usage(3, 2, 1)
    assert usage_to_json(Usage(3, 2))["total_tokens"] == 5
