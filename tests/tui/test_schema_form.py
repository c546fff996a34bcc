"""Forms generated from JSON schemas."""

from __future__ import annotations

from typing import Any

import pytest

from portico_tui.widgets.schema_form import fields_of, json_object, value_of

SCHEMA = {
    "type": "object",
    "required": ["topic", "chapters"],
    "properties": {
        "tone": {"enum": ["dry", "warm"], "description": "How it sounds"},
        "topic": {"type": "string"},
        "chapters": {"type": "integer", "default": 3},
        "draft": {"type": "boolean"},
        "weight": {"type": ["number", "null"]},
        "names": {"type": "array", "items": {"type": "string"}},
        "more": {"anyOf": [{"type": "object"}, {"type": "null"}]},
        "anything": {},
    },
}


def test_an_object_has_a_line_for_each_property_and_those_that_are_needed_stand_first() -> None:
    fields = fields_of(SCHEMA)
    assert [field.name for field in fields][:2] == ["topic", "chapters"]
    assert [field.optional for field in fields] == [False, False, *[True] * 6]
    assert fields[1].value == "3"
    tone = next(field for field in fields if field.name == "tone")
    assert tone.choices == ["dry", "warm"] and tone.hint == "How it sounds"


def test_entered_values_are_converted_to_the_types_of_the_schema() -> None:
    entries = {
        "topic": "7",
        "chapters": "4",
        "tone": "dry",
        "draft": "yes",
        "weight": "null",
        "names": '["a"]',
        "more": '{"x": 1}',
        "anything": "free text",
    }
    assert value_of(SCHEMA, entries) == {
        "topic": "7",
        "chapters": 4,
        "tone": "dry",
        "draft": True,
        "weight": None,
        "names": ["a"],
        "more": {"x": 1},
        "anything": "free text",
    }
    assert value_of(SCHEMA, {"topic": "a", "tone": "", "draft": ""}) == {"topic": "a"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("chapters", "four", "whole number"),
        ("chapters", "", "this field is required"),
        ("tone", "loud", "dry, warm"),
        ("draft", "perhaps", "true or false"),
        ("weight", "heavy", "number"),
        ("names", '{"a": 1}', "JSON list"),
        ("more", "[1]", "JSON object"),
        ("more", "{" * 100_000, "JSON"),
    ],
)
def test_a_wrong_answer_is_refused_with_what_was_expected(name: str, text: str, said: str) -> None:
    field = next(field for field in fields_of(SCHEMA) if field.name == name)
    assert said in field.problem(text)


@pytest.mark.parametrize(
    ("schema", "text", "value"),
    [
        ({"type": "string"}, "12", "12"),
        ({"type": "array"}, "[1]", [1]),
        ({"type": "object"}, '{"a": 1}', {"a": 1}),
        (None, "12", 12),
        ({}, "words", "words"),
        ({"type": "number"}, "1.5", 1.5),
    ],
)
def test_anything_but_an_object_is_one_line(schema: dict[str, Any] | None, text: str, value: Any) -> None:
    [field] = fields_of(schema)
    assert field.problem(text) == ""
    assert value_of(schema, {field.name: text}) == value


def test_an_object_without_properties_needs_no_line() -> None:
    assert fields_of({"type": "object", "properties": {}}) == []
    assert value_of({"type": "object", "properties": {}}, {}) == {}


def test_a_json_list_is_refused_where_an_object_is_expected() -> None:
    with pytest.raises(ValueError, match="JSON object"):
        json_object("[1]")
