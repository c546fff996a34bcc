"""Signatures of functions: valid Python with the types of the schemas, whatever the schemas contain."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from portico_server.features.tools.code_mode.stubs import stub

TYPES: dict[str, tuple[Any, str]] = {
    "text": ({"type": "string"}, "str"),
    "a number": ({"type": "number"}, "float"),
    "a truth value": ({"type": "boolean"}, "bool"),
    "a list": ({"type": "array", "items": {"type": "integer"}}, "list[int]"),
    "a list of anything": ({"type": "array"}, "list[Any]"),
    "a map": ({"type": "object", "additionalProperties": {"type": "number"}}, "dict[str, float]"),
    "an object": ({"type": "object"}, "dict[str, Any]"),
    "choices": ({"enum": ["new", 'it\'s "old"', 3, None]}, "Literal['new', 'it\\'s \"old\"', 3, None]"),
    "a constant": ({"const": "x"}, "Literal['x']"),
    "text or nothing": ({"type": ["string", "null"]}, "str | None"),
    "alternatives": ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "string"}]}, "str | int"),
    "alternatives with anything": ({"oneOf": [{"type": "string"}, {}]}, "Any"),
    "a reference": ({"$ref": "#/$defs/place"}, "FindP"),
    "a reference to nothing": ({"$ref": "#/$defs/no"}, "Any"),
    "a reference elsewhere": ({"$ref": "https://example.com/x"}, "Any"),
    "no schema": (True, "Any"),
    "an unknown type": ({"type": "decimal"}, "Any"),
    "a type that is no text": ({"type": 3}, "Any"),
    "values that are no literals": ({"enum": [1.5, [2]]}, "Any"),
}


@pytest.mark.parametrize("name", TYPES)
def test_each_schema_is_converted_to_a_python_type(name: str) -> None:
    schema, annotation = TYPES[name]
    place = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    source = stub(
        "find",
        "",
        {"properties": {"p": schema}, "required": ["p"], "$defs": {"place": place}},
        {"type": "null"},
    )
    ast.parse(source)
    assert f"def find(*, p: {annotation}) -> None:" in source
    assert ("class FindP(TypedDict):\n    city: str" in source) == (annotation == "FindP")


def test_a_signature_has_classes_defaults_and_a_docstring() -> None:
    order = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, "note": {"type": "string"}},
        "required": ["id"],
    }
    source = stub(
        "get_orders",
        "Orders of a\ncustomer.",
        {
            "properties": {
                "limit": {"type": "integer", "default": 10},
                "customer": {"type": "string", "description": "The customer's number."},
                "since": {"type": "string"},
            },
            "required": ["customer"],
        },
        {"type": "array", "items": order},
    )
    assert source == (
        "class GetOrdersResultItem(TypedDict):\n    id: int\n    note: NotRequired[str]\n\n"
        "def get_orders(*, customer: str, limit: int = 10, since: str = ...) -> list[GetOrdersResultItem]:\n"
        '    """Orders of a customer.\n    customer: The customer\'s number.\n    """'
    )


HOSTILE: dict[str, dict[str, Any]] = {
    "names that Python does not allow": {"properties": {"a b": {}, "class": {}, "x": {}}},
    "only such names": {"properties": {"1": {}}, "required": ["1"]},
    "a description that ends the docstring": {"properties": {"a": {"description": '"""\nimport os\n"""\\'}}},
    "a schema within itself": {"properties": {"a": {"$ref": "#"}}},
    "properties that are no object": {"properties": [1], "required": "a"},
    "a default that is code": {"properties": {"a": {"default": {"x": 1}}, "b": {"default": "'); x('"}}},
    "a long default": {"properties": {"a": {"default": "x" * 10_000}}},
    "no alternatives": {"properties": {"a": {"anyOf": []}}},
    "two classes of one name": {
        "properties": {
            "ab": {"type": "object", "properties": {"x": {}}},
            "a_b": {"type": "object", "properties": {"x": {}}},
        }
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_signature_is_always_one_function_in_python(name: str) -> None:
    source = stub("tool", '"""\nimport os', HOSTILE[name], HOSTILE[name])
    *classes, function = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef) and all(isinstance(node, ast.ClassDef) for node in classes)
    assert len({node.name for node in classes if isinstance(node, ast.ClassDef)}) == len(classes)
    assert len(source) < 5_000
