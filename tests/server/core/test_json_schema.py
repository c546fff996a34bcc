"""Schemas from outside: which are checked as before, and which are refused because their check would not end."""

from __future__ import annotations

from typing import Any

import pytest

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_schema import JsonSchema, require_schema


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _level in range(levels):
        schema = {"properties": {"inner": schema}}
    return schema


def doubling(rounds: int, keyword: str = "allOf") -> dict[str, Any]:
    """Return a schema whose check doubles with each of its definitions."""

    def two(name: str) -> Any:
        reference = {"$ref": f"#/$defs/{name}"}
        return {"a": reference, "b": reference} if keyword == "dependentSchemas" else [reference, reference]

    definitions: dict[str, Any] = {f"d{n}": {keyword: two(f"d{n + 1}")} for n in range(rounds)}
    return {"$ref": "#/$defs/d0", "unevaluatedProperties": False, "$defs": {**definitions, f"d{rounds}": {}}}


SLOW = "^(a+)+$"
TEXT = "a" * 60 + "b"


@pytest.mark.parametrize(
    ("schema", "value", "path"),
    [
        ({"pattern": SLOW}, TEXT, ""),
        ({"properties": {"a": {"pattern": SLOW}}}, {"a": TEXT}, ".a"),
        ({"patternProperties": {SLOW: {"type": "string"}}, "additionalProperties": False}, {TEXT: 1}, ""),
        ({"patternProperties": {"^x": {"type": "string"}}}, {"x1": 1}, ".x1"),
        # A nested schema may name another draft; the same engine searches it.
        ({"items": {"$schema": "http://json-schema.org/draft-07/schema#", "pattern": SLOW}}, [TEXT], "[0]"),
        (
            {"items": {"$schema": "https://json-schema.org/draft/2020-12/schema", "pattern": SLOW}},
            [TEXT],
            "[0]",
        ),
    ],
)
def test_a_pattern_that_backtracks_is_searched_in_linear_time(
    schema: dict[str, Any], value: Any, path: str
) -> None:
    fault = JsonSchema("x", schema).fault(value)
    assert fault is not None
    assert fault.path == path


@pytest.mark.parametrize("pattern", ["(?=a)b", "(?<!a)b", r"(a)\1", "a(", r"\w{1000}" * 20, "a" * 2000])
@pytest.mark.parametrize("where", ["pattern", "patternProperties"])
def test_a_pattern_that_cannot_be_searched_in_linear_time_is_refused_with_its_place(
    pattern: str, where: str
) -> None:
    schema = {"properties": {"a": {where: pattern if where == "pattern" else {pattern: {}}}}}
    with pytest.raises(InvalidRequest, match=rf"at \.properties\.a\.{where}") as caught:
        require_schema("x", schema, "parameters")
    assert (caught.value.code, caught.value.param) == ("invalid_pattern", "parameters")


def test_an_unchecked_schema_reports_its_invalid_pattern_at_validation() -> None:
    with pytest.raises(InvalidRequest, match="look-around") as caught:
        JsonSchema("x", {"pattern": "(?=a)b"}).fault("b")
    assert caught.value.code == "invalid_pattern"


def test_a_lenient_check_ignores_unsupported_patterns() -> None:
    schema = {"properties": {"a": {"pattern": "(?=a)b", "type": "string"}}}
    require_schema("x", schema, "p", lenient=True)
    assert JsonSchema("x", schema, lenient=True).fault({"a": "c"}) is None
    assert JsonSchema("x", schema, lenient=True).fault({"a": 1}) is not None


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^[\u4e00-\u9fa5]+$", "中文", "abc"),
        (r"^\d{4}-\d{2}\Z", "2026-11", "2026-1"),
        (r"^\p{L}+$", "é", "1"),
        (r"^[^/\\]+$", "a b", r"a\b"),
    ],
)
def test_pattern_syntax_of_other_regex_engines_has_the_same_meaning(
    pattern: str, good: str, bad: str
) -> None:
    require_schema("x", {"pattern": pattern}, "p")
    assert JsonSchema("x", {"pattern": pattern}).fault(good) is None
    assert JsonSchema("x", {"pattern": pattern}).fault(bad) is not None


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (doubling(40), {"a": 1}),
        (doubling(40, "dependentSchemas"), {"a": 1, "b": 1}),
        ({"$ref": "#"}, 1),
        ({"anyOf": [{"type": "string"}] * 5000}, ["x" * 1000] * 1000),
        ({"items": {"enum": list(range(10_000))}}, [-1] * 1000),
        ({"items": {"$ref": "#a"}, "$defs": {"a": {"$anchor": "a"}}}, [1] * 100),
        ({"uniqueItems": True}, [[0] * 1000] * 1000),
    ],
)
def test_a_check_that_would_not_end_is_cut_off(schema: dict[str, Any], value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        JsonSchema("x", schema).fault(value)
    assert caught.value.code == "schema_too_complex"


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (nested(300), "nested too deeply"),
        ({"properties": {f"a{n}": {} for n in range(20_000)}}, "parts"),
        ({"type": "thing"}, "must be one of"),
        ({"properties": {"a": 1}}, r"\.properties\.a must be an object"),
        ({"properties": []}, "must be an object of schemas"),
        ({"allOf": []}, "must be a list of schemas"),
        ({"minLength": -1}, "whole number"),
        ({"multipleOf": 0}, "above 0"),
        ({"required": ["a", "a"]}, "different names"),
        ({"pattern": 1}, "must be a text"),
        ({"$ref": 1}, "must be a text"),
        ({"patternProperties": {"a": {}}, "unevaluatedProperties": False}, "not supported"),
        (17, "must be an object"),
    ],
)
def test_an_invalid_schema_is_refused(schema: Any, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        require_schema("x", schema, "parameters")
    assert (caught.value.code, caught.value.param) == ("invalid_schema", "parameters")


def test_data_within_a_schema_is_not_taken_for_keywords() -> None:
    data = {"pattern": "(?=a)", "type": "thing", "properties": 1}
    require_schema("x", {"const": data, "enum": [data], "default": data, "examples": [data]}, "p")
    require_schema("x", {"properties": {"pattern": {"type": "string"}, "type": {"enum": [1]}}}, "p")


def test_numbers_too_large_for_multiple_of_give_a_clear_error() -> None:
    with pytest.raises(InvalidRequest) as caught:
        JsonSchema("x", {"multipleOf": 0.1}).fault(10**400)
    assert caught.value.code == "invalid_schema"


@pytest.mark.parametrize(
    ("value", "unique"),
    [([1, True], True), ([1, 1.0], False), ([[1], {"a": [1]}, [1]], False), ([None, 0, "0"], True)],
)
def test_unique_items_are_compared_by_value(value: list[Any], unique: bool) -> None:
    assert (JsonSchema("x", {"uniqueItems": True}).fault(value) is None) == unique


def test_a_message_quotes_only_the_beginning_of_a_large_value() -> None:
    fault = JsonSchema("x", {"type": "integer"}).fault("x" * 100_000)
    assert fault is not None
    assert len(fault.message) <= 300
