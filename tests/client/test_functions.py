"""Functions as tools: schemas from signatures and docstrings, arguments from JSON, results as JSON."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Optional, TypedDict

import pytest

from portico import Function, InvalidRequest
from portico.functions import plain, schema_of


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: float
    y: float = 0.0
    tags: list[str] = field(default_factory=list)


class Reading(TypedDict, total=False):
    celsius: float


def paint(
    colour: Colour,
    points: list[Point],
    times: int = 1,
    note: Annotated[str | None, "Shown on the picture"] = None,
) -> dict[str, Any]:
    """Paint points
    in a colour.

    Args:
        colour: What colour.
        points (list): Where.
    """
    return {"colour": colour, "points": points, "times": times, "note": note}


def test_the_input_schema_is_derived_from_the_signature() -> None:
    function = Function.of(paint)
    assert (function.name, function.description) == ("paint", "Paint points in a colour.")
    schema = function.input_schema
    assert (schema["required"], schema["additionalProperties"]) == (["colour", "points"], False)
    properties = schema["properties"]
    assert properties["colour"] == {"enum": ["red", "blue"], "description": "What colour."}
    assert properties["points"]["description"] == "Where."
    assert properties["points"]["items"] == {
        "type": "object",
        "properties": {
            "x": {"type": "number"},
            "y": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["x"],
    }
    assert properties["times"] == {"type": "integer", "default": 1}
    assert properties["note"]["description"] == "Shown on the picture"
    assert properties["note"]["default"] is None


def test_arguments_are_converted_to_the_annotated_types() -> None:
    function = Function.of(paint)
    arguments = function.bind({"colour": "blue", "points": [{"x": 1, "tags": ["a"]}]})
    assert arguments == {"colour": Colour.BLUE, "points": [Point(1, 0.0, ["a"])]}
    assert plain(function.call(**arguments)) == {
        "colour": "blue",
        "points": [{"x": 1, "y": 0.0, "tags": ["a"]}],
        "times": 1,
        "note": None,
    }


@pytest.mark.parametrize(
    ("kind", "schema"),
    [
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (set[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Literal["a", 2], {"enum": ["a", 2]}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045
        (Reading, {"type": "object", "properties": {"celsius": {"type": "number"}}, "required": []}),
        (object, {}),
    ],
)
def test_each_python_type_maps_to_its_json_schema(kind: Any, schema: dict[str, Any]) -> None:
    assert schema_of(kind) == schema


@pytest.mark.parametrize(
    ("call", "given", "bound"),
    [
        (lambda: None, {}, {}),
        (Function.of(lambda: None).call, {}, {}),
    ],
)
def test_functions_without_parameters_bind_no_arguments(
    call: Callable[..., Any], given: dict[str, Any], bound: dict[str, Any]
) -> None:
    assert Function.of(call).bind(given) == bound


def test_a_union_takes_the_member_that_fits() -> None:
    def either(value: Point | int | bool) -> None: ...

    function = Function("either", either)
    either.__annotations__["value"] = Point | int | bool
    assert function.bind({"value": {"x": 1}}) == {"value": Point(1)}
    assert function.bind({"value": 3}) == {"value": 3}
    assert function.bind({"value": True}) == {"value": True}


def test_a_function_with_variadic_positional_parameters_is_refused() -> None:
    def many(*values: int) -> int:
        return sum(values)

    with pytest.raises(InvalidRequest, match="'values' of many cannot be passed by name"):
        Function.of(many)
